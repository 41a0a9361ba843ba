//! `handler.sample_images`: a grid of classified images.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Type};

use super::pictures::{ClassNames, emit, picture};
use pipe_core::Handler;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Dataset, EventContext, Instance, Kind, NodeId, Ref, Stateful};
use pipe_data::batch::most_likely;
use pipe_data::{BatchField, fields};
use pipe_draw::{Tile, Verdict, grid};

/// Logs a grid of a batch's images with the predicted class and, where it is wrong, the true class.
///
/// Call it on `iteration_completed`. Correct predictions are green, wrong ones red. Normalized images are rescaled to the visible
/// range.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SampleImagesConfig {
    /// The dataset with the class names; without it, class numbers are shown.
    #[serde(default)]
    pub dataset: Option<Ref<dyn Dataset>>,
    /// Maximum number of images per batch.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "sixteen")]
    pub max_images: usize,
    /// The record's tag.
    #[serde(default = "samples")]
    #[schemars(extend("x-reload" = "hot"))]
    pub tag: String,
}

fn sixteen() -> usize {
    16
}

fn samples() -> String {
    "samples".into()
}

impl Config for SampleImagesConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "sample_images";
    const EXAMPLE: &'static str = r#"
[dataset.test]
type = "mnist"
root = "builtin:digits"
split = "test"

[handler.samples]
type = "sample_images"
dataset = "dataset.test"
max_images = 25

[[on]]
event = "engine.evaluator:iteration_completed"
once = 1
run = ["handler.samples"]
"#;

    fn facts(&self) -> Facts {
        Facts { costly: true, ..Facts::default() }
    }
}

impl Component for SampleImagesConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let names = match &self.dataset {
            Some(dataset) => ClassNames::of(&*ctx.get(dataset)?),
            None => ClassNames::default(),
        };
        Ok(Instance::handler(SampleImages { node: ctx.node.clone(), names, config: self }))
    }
}

pipe_core::register!(SampleImagesConfig);

/// The running handler.
struct SampleImages {
    node: NodeId,
    config: SampleImagesConfig,
    names: ClassNames,
}

impl Stateful for SampleImages {}

impl Handler for SampleImages {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let step = ctx.step()?;
        let labels = match step.batch.get(fields::LABEL) {
            Some(BatchField::Stacked(labels)) => {
                Vec::try_from(most_likely(labels)?.to_device(Device::Cpu).to_kind(Type::Int64))?
            }
            _ => Vec::new(),
        };
        let predicted = match step.output.outputs.get(fields::LOGITS) {
            Some(BatchField::Stacked(logits)) => {
                Vec::try_from(logits.detach().f_argmax(1, false)?.to_device(Device::Cpu))?
            }
            _ => Vec::new(),
        };
        let images = step.batch.list(fields::IMAGE)?;
        let tiles = images.iter().take(self.config.max_images).enumerate().map(|(i, image)| {
            let (caption, verdict) = self.caption(labels.get(i).copied(), predicted.get(i).copied());
            Ok(Tile { image: picture(image)?, caption, verdict })
        });
        let tiles = tiles.collect::<Result<Vec<_>>>()?;
        if tiles.is_empty() {
            return Ok(());
        }
        emit(ctx.run, &self.node, self.config.tag.clone(), grid(&tiles, 0), None)
    }
}

impl SampleImages {
    fn caption(&self, label: Option<i64>, predicted: Option<i64>) -> (String, Verdict) {
        match (label, predicted) {
            (Some(label), Some(predicted)) if label == predicted => (self.names.get(label), Verdict::Right),
            (Some(label), Some(predicted)) => {
                (format!("{}\n(is {})", self.names.get(predicted), self.names.get(label)), Verdict::Wrong)
            }
            (Some(one), None) | (None, Some(one)) => (self.names.get(one), Verdict::Neutral),
            (None, None) => (String::new(), Verdict::Neutral),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::Tensor;

    use super::*;
    use pipe_core::Step;
    use pipe_data::Batch;
    use pipe_run::testing::TestRun;

    #[test]
    fn right_and_wrong_ones_are_told_apart() {
        let names = ClassNames::default();
        let config: SampleImagesConfig = serde_json::from_value(json!({})).unwrap();
        let handler = SampleImages { node: "handler.s".parse().unwrap(), config, names };
        assert_eq!(handler.caption(Some(3), Some(3)), ("3".into(), Verdict::Right));
        assert_eq!(handler.caption(Some(3), Some(8)), ("8\n(is 3)".into(), Verdict::Wrong));
        assert_eq!(handler.caption(Some(3), None), ("3".into(), Verdict::Neutral));
    }

    #[test]
    fn a_grid_is_recorded() {
        let test = TestRun::new();
        let handler = test.handler("handler.s", json!({ "type": "sample_images", "max_images": 3, "tag": "digits" }));
        let mut step = Step { batch: Batch::new(4), ..Step::default() };
        let float = (Type::Float, Device::Cpu);
        step.batch.set(fields::IMAGE, BatchField::Stacked(Tensor::randn([4, 1, 28, 28], float)));
        step.batch.set(fields::LABEL, BatchField::Stacked(Tensor::from_slice(&[0i64, 1, 2, 3])));
        step.output.outputs.set(fields::LOGITS, BatchField::Stacked(Tensor::eye(4, float)));
        test.call(&handler, "iteration_completed", Some(&step)).unwrap();
        test.run.folder.flush_records().unwrap();
        let text = std::fs::read_to_string(test.run.folder.records_path()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains(r#""kind":"image","tag":"digits""#), "{text}");
    }
}
