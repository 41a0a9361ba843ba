//! `handler.weights_histogram`: how a model's parameters are distributed.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::histogram::Histograms;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Ref};

/// Logs a histogram of each trainable parameter of a model, as `weights/<parameter>`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightsHistogramConfig {
    /// The model.
    pub model: Ref<dyn Model>,
    /// Only parameters whose name starts with one of these; all when empty.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub prefixes: Vec<String>,
}

impl Config for WeightsHistogramConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "weights_histogram";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[handler.weights]
type = "weights_histogram"
model = "model.net"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.weights"]
"#;

    fn facts(&self) -> Facts {
        Facts { costly: true, ..Facts::default() }
    }
}

impl Component for WeightsHistogramConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Histograms::build(ctx, &self.model, self.prefixes, "weights", Tensor::shallow_clone)
    }
}

pipe_core::register!(WeightsHistogramConfig);

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::Tensor;

    use pipe_run::testing::TestRun;

    #[test]
    fn chosen_parameters_are_recorded() {
        let (a, b) = (Tensor::from_slice(&[1f32, 2.0, 3.0]), Tensor::from(0.0));
        let test = TestRun::with_parameters(&[("head.weight", &a), ("body.weight", &b)]);
        let table = json!({ "type": "weights_histogram", "model": "model.net", "prefixes": ["head."] });
        let handler = test.handler("handler.w", table);
        test.call(&handler, "epoch_completed", None).unwrap();
        test.run.folder.flush_records().unwrap();
        let record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(test.run.folder.records_path()).unwrap()).unwrap();
        assert_eq!(record["tag"], "weights/head.weight");
        assert_eq!(record["value"], json!({ "count": 3, "min": 1.0, "max": 3.0, "mean": 2.0 }));
    }
}
