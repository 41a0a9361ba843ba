//! `handler.gradients_histogram`: how the gradients of a model's parameters are distributed.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::histogram::{GRADIENTS, Histograms};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Ref};

/// Logs a histogram of the gradient of each trainable parameter of a model, as `gradients/<parameter>`.
///
/// Call it on the trainer's `iteration_completed`: the gradients of an iteration stay until the next one. Parameters without
/// a gradient are skipped.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientsHistogramConfig {
    /// The model.
    pub model: Ref<dyn Model>,
    /// Only parameters whose name starts with one of these; all when empty.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub prefixes: Vec<String>,
}

impl Config for GradientsHistogramConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "gradients_histogram";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[handler.gradients]
type = "gradients_histogram"
model = "model.net"

[[on]]
event = "engine.trainer:iteration_completed"
every = 100
run = ["handler.gradients"]
"#;

    fn facts(&self) -> Facts {
        Facts { costly: true, ..Facts::default() }
    }
}

impl Component for GradientsHistogramConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Histograms::build(ctx, &self.model, self.prefixes, GRADIENTS, Tensor::grad)
    }
}

pipe_core::register!(GradientsHistogramConfig);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::Tensor;

    use pipe_run::testing::TestRun;

    #[test]
    fn gradients_that_are_there_are_recorded() {
        let a = Tensor::from_slice(&[1f32, 2.0, 3.0]).set_requires_grad(true);
        let b = Tensor::from(0.0f32).set_requires_grad(true);
        (&a * &a).sum(tch::Kind::Float).backward();
        let test = TestRun::with_parameters(&[("head.weight", &a), ("body.weight", &b)]);
        let handler = test.handler("handler.g", json!({ "type": "gradients_histogram", "model": "model.net" }));
        test.call(&handler, "iteration_completed", None).unwrap();
        test.run.folder.flush_records().unwrap();
        let record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(test.run.folder.records_path()).unwrap()).unwrap();
        assert_eq!(record["tag"], "gradients/head.weight");
        assert_eq!(record["value"], json!({ "count": 3, "min": 2.0, "max": 6.0, "mean": 4.0 }));
    }
}
