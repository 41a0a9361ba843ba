//! Intersection over union of predicted and true regions, per class.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, Form};
use pipe_core::facts::{Better, Facts};
use pipe_core::{
    BuildContext, Component, Config, Contract, Dataset, Instance, Kind, ModelOutput, Ref, State, Stateful,
};
use pipe_core::{Metric, MetricReport};
use pipe_data::{Batch, fields};

/// Mean intersection over union of semantic segmentation, and pixel accuracy (torchvision's references call it `acc_global`).
///
/// Per class: pixels both predicted and labelled as the class, over pixels that are either. Values: `mean_iou`, the
/// mean over the classes that occur as a label or a prediction; `pixel_accuracy`; and `iou/<class>`, NaN for a class that
/// does not occur. A table has each class with its IoU and its accuracy, the share of its pixels that are predicted as such.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanIouConfig {
    /// The dataset with the class names; without it, class numbers are shown.
    #[serde(default)]
    pub dataset: Option<Ref<dyn Dataset>>,
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
dataset = "dataset.val"
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
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let names = match &self.dataset {
            Some(dataset) => ctx.get(dataset)?.class_names().into_iter().collect(),
            None => BTreeMap::new(),
        };
        Ok(Instance::metric(MeanIou { counts: Counts::new(Form::Matrix), ignore_index: self.ignore_index, names }))
    }
}

pipe_core::register!(MeanIouConfig);

struct MeanIou {
    counts: Counts,
    ignore_index: i64,
    names: BTreeMap<i64, String>,
}

impl MeanIou {
    fn name(&self, class: usize) -> String {
        let name = self.names.get(&(class as i64)).filter(|name| !name.is_empty());
        name.cloned().unwrap_or_else(|| class.to_string())
    }

    /// The means, and a row for each class that occurs.
    fn table(&self, rows: &[Vec<f64>], ious: &[f64], [mean, pixels]: [f64; 2]) -> String {
        let percent = |share: f64| if share.is_nan() { "–".to_owned() } else { format!("{:.1} %", 100.0 * share) };
        let mut text = format!("mean IoU {}, pixel accuracy {}\n\n", percent(mean), percent(pixels));
        text += "| class | IoU | accuracy |\n|---|--:|--:|\n";
        for (class, iou) in ious.iter().enumerate().filter(|(_, iou)| !iou.is_nan()) {
            let accuracy = percent(rows[class][class] / rows[class].iter().sum::<f64>());
            // A bar would end the cell of a Markdown table.
            let _ = writeln!(text, "| {} | {} | {accuracy} |", self.name(class).replace('|', "\\|"), percent(*iou));
        }
        text
    }
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

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        self.counts.merge(other)
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
        values.extend(ious.iter().enumerate().map(|(class, iou)| (format!("iou/{}", self.name(class)), *iou)));
        let text = (!occurring.is_empty()).then(|| self.table(&rows, &ious, [mean, accuracy]));
        Ok(MetricReport { values, text, ..MetricReport::default() })
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

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::Tensor;

    use super::*;
    use pipe_data::BatchField;
    use pipe_run::testing::{assert_close, numbers, parity};

    /// `labels_for` and `noise` of tests/parity/segmentation/make.py.
    fn batch() -> (Batch, ModelOutput) {
        let noise = |index: u64| {
            let mut mixed = (index + 7).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mixed ^= mixed >> 29;
            mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            (mixed >> 40) as f32 / 8_388_608.0 - 1.0
        };
        let logits = Tensor::from_slice(&(0..1200).map(noise).collect::<Vec<f32>>()).view([2, 5, 12, 10]);
        let _ = logits.select(1, 4).fill_(-2.0);
        let label = |pixel: i64| match pixel * 31 % 97 % 6 {
            5 => 255,
            4 => 0,
            label => label,
        };
        let labels = Tensor::from_slice(&(0..240).map(label).collect::<Vec<i64>>()).view([2, 12, 10]);
        let (mut batch, mut outputs) = (Batch::new(2), Batch::new(2));
        batch.set(fields::SEGMENTATION, BatchField::Stacked(labels));
        outputs.set(fields::SEGMENTATION_LOGITS, BatchField::Stacked(logits));
        (batch, ModelOutput { outputs, ..ModelOutput::default() })
    }

    #[test]
    fn values_are_those_of_torchvisions_references() {
        let expected = parity("segmentation/iou.json");
        let names = [(0, "sky"), (2, "a|b")].map(|(label, name)| (label, name.to_owned()));
        let mut metric =
            MeanIou { counts: Counts::new(Form::Matrix), ignore_index: 255, names: names.into_iter().collect() };
        let (batch, output) = batch();
        metric.update(&batch, &output).unwrap();
        let report = metric.compute().unwrap();
        let tags: Vec<&str> = report.values.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(tags, ["mean_iou", "pixel_accuracy", "iou/sky", "iou/1", "iou/a|b", "iou/3", "iou/4"]);
        let values: Vec<f64> = report.values.iter().map(|(_, value)| *value).collect();
        let wanted = numbers(&json!([expected["mean_iou"], expected["acc_global"], expected["iu"]]));
        assert_close("values", &values[..6], &wanted, 1e-6);
        assert!(values[6].is_nan(), "a class that does not occur");
        let accuracies = numbers(&expected["acc"]);
        let rows: Vec<String> = ["sky", "1", "a\\|b", "3"]
            .iter()
            .zip(numbers(&expected["iu"]).iter().zip(&accuracies))
            .map(|(name, (iou, accuracy))| format!("| {name} | {:.1} % | {:.1} % |\n", iou * 100.0, accuracy * 100.0))
            .collect();
        let means = format!("mean IoU {:.1} %, pixel accuracy {:.1} %", wanted[0] * 100.0, wanted[1] * 100.0);
        let table = format!("{means}\n\n| class | IoU | accuracy |\n|---|--:|--:|\n{}", rows.concat());
        assert_eq!(report.text.unwrap(), table);
    }
}
