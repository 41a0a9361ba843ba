//! Intersection over union of predicted and true regions, per class.

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, Form};
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, ModelOutput, State, Stateful};
use pipe_core::{Metric, MetricReport};
use pipe_data::{Batch, fields};

/// Mean intersection over union of semantic segmentation, and pixel accuracy.
///
/// Per class: pixels both predicted and labelled as the class, over pixels that are either. Values: `mean_iou`, the
/// mean over the classes that occur as a label or a prediction; `pixel_accuracy`; and `iou/<class>`, NaN for a class that
/// does not occur.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanIouConfig {
    /// Label of pixels to ignore.
    #[serde(default = "default_ignore_index")]
    pub ignore_index: i64,
}

fn default_ignore_index() -> i64 {
    255
}

impl Config for MeanIouConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "mean_iou";
    const EXAMPLE: &'static str = r#"
[metric.iou]
type = "mean_iou"
ignore_index = 255
"#;

    fn facts(&self) -> Facts {
        Facts::of_values(self.values(), Better::Higher)
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::SEGMENTATION_LOGITS, fields::SEGMENTATION])
    }

    fn values(&self) -> Vec<String> {
        vec!["mean_iou".to_owned(), "pixel_accuracy".to_owned()]
    }
}

impl Component for MeanIouConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(MeanIou { counts: Counts::new(Form::Matrix), ignore_index: self.ignore_index }))
    }
}

pipe_core::register!(MeanIouConfig);

struct MeanIou {
    counts: Counts,
    ignore_index: i64,
}

impl Metric for MeanIou {
    fn reset(&mut self) {
        self.counts.reset();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        // Images of different sizes come as lists: one `[C, H, W]` and one `[H, W]` each.
        let logits = output.outputs.list(fields::SEGMENTATION_LOGITS)?;
        let labels = batch.list(fields::SEGMENTATION)?;
        if logits.len() != labels.len() {
            bail!("{} segmentations were predicted for {} labelled images", logits.len(), labels.len());
        }
        for (i, (logits, label)) in logits.iter().zip(&labels).enumerate() {
            match (logits.size().as_slice(), label.size().as_slice()) {
                ([classes, h, w], [height, width]) if h == height && w == width => {
                    self.counts.update(&logits.argmax(0, false), label, *classes, Some(self.ignore_index))?;
                }
                (logits, label) => bail!(
                    "{}: the segmentation scores have shape {logits:?}, the label has shape {label:?}; expected \
                     [C, H, W] and [H, W]",
                    batch.sources()[i]
                ),
            }
        }
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let rows = self.counts.rows()?.unwrap_or_default();
        let right: Vec<f64> = (0..rows.len()).map(|c| rows[c][c]).collect();
        let union = |c: usize| {
            let (labelled, predicted) = (rows[c].iter().sum::<f64>(), rows.iter().map(|row| row[c]).sum::<f64>());
            labelled + predicted - right[c]
        };
        let ious: Vec<f64> = (0..rows.len()).map(|c| right[c] / union(c)).collect();
        let occurring: Vec<f64> = ious.iter().copied().filter(|iou| !iou.is_nan()).collect();
        let mean = occurring.iter().sum::<f64>() / occurring.len() as f64;
        let accuracy = right.iter().sum::<f64>() / rows.iter().flatten().sum::<f64>();
        let mut values = vec![("mean_iou".to_owned(), mean), ("pixel_accuracy".to_owned(), accuracy)];
        values.extend(ious.into_iter().enumerate().map(|(class, iou)| (format!("iou/{class}"), iou)));
        Ok(MetricReport { values, text: None })
    }
}

impl Stateful for MeanIou {
    fn state(&self) -> Result<State> {
        Ok(self.counts.state())
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.counts.load_state(state)
    }
}
