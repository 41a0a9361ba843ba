//! `handler.hparams`: hyperparameters for comparing runs.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use pipe_core::Handler;
use pipe_core::{
    BuildContext, Component, Config, EventContext, Instance, Kind, NodeId, Problems, RecordValue, Stateful, ValueRef,
};

/// Logs hyperparameters and the metrics for comparing runs, for TensorBoard's HParams tab.
///
/// Call it on the trainer's `started`. Write the settings as variables (`lr = "${lr}"`), so that each is set in one place.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HParamsConfig {
    /// Names and values: numbers, strings, booleans. No secrets: all of them are written to the records.
    #[schemars(extend("x-reload" = "hot", "x-recorded" = true))]
    pub settings: Map<String, Value>,
    /// The metrics for comparing runs, such as `metric.accuracy:accuracy`.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub metrics: Vec<ValueRef>,
    /// The `prefix` of the engine that evaluates those metrics.
    #[serde(default = "val")]
    #[schemars(extend("x-reload" = "hot"))]
    pub prefix: String,
}

fn val() -> String {
    "val".into()
}

impl Config for HParamsConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "hparams";
    const EXAMPLE: &'static str = r#"
[metric.accuracy]
type = "accuracy"

[handler.hparams]
type = "hparams"
settings = { lr = 0.01, batch_size = 64, backbone = "resnet18" }
metrics = ["metric.accuracy:accuracy"]

[[on]]
event = "engine.trainer:started"
run = ["handler.hparams"]
"#;

    fn check(&self, problems: &mut Problems) {
        for (name, value) in &self.settings {
            if value.is_array() || value.is_object() || value.is_null() {
                let help = "give a number, a string or a boolean";
                problems.at(&format!("settings.{name}"), "a setting must be a single value", help);
            }
        }
        for metric in self.metrics.iter().filter(|metric| metric.node.kind != Kind::Metric) {
            let help = "name a metric's value, such as `metric.accuracy:accuracy`";
            problems.at("metrics", format!("`{metric}` is not a metric"), help);
        }
    }
}

impl Component for HParamsConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::handler(HParams { node: ctx.node.clone(), config: self }))
    }
}

pipe_core::register!(HParamsConfig);

/// The running handler.
struct HParams {
    node: NodeId,
    config: HParamsConfig,
}

impl Stateful for HParams {}

impl Handler for HParams {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let settings = self.config.settings.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let metrics = self.config.metrics.iter().map(|value| tag(&self.config.prefix, value)).collect();
        ctx.run.emit(&self.node, "hparams", RecordValue::HParams { settings, metrics })
    }
}

/// The tag under which [`pipe_core::RunContext::record_metric`] records a metric's value.
fn tag(prefix: &str, ValueRef { node, value }: &ValueRef) -> String {
    if **value == *node.name { format!("{prefix}/{value}") } else { format!("{prefix}/{}/{value}", node.name) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use pipe_run::testing::TestRun;

    #[test]
    fn settings_and_tags_are_recorded() {
        let test = TestRun::new();
        let table = json!({ "type": "hparams", "settings": { "lr": 0.1, "net": "a" },
            "metrics": ["metric.accuracy:accuracy", "metric.coco:segm/AP"] });
        let handler = test.handler("handler.h", table);
        test.call(&handler, "started", None).unwrap();
        test.run.folder.flush_records().unwrap();
        let record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(test.run.folder.records_path()).unwrap()).unwrap();
        let expected =
            json!({ "settings": { "lr": 0.1, "net": "a" }, "metrics": ["val/accuracy", "val/coco/segm/AP"] });
        assert_eq!(record["value"], expected);
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let test = TestRun::new();
        let list = test.try_build("handler.h", json!({ "type": "hparams", "settings": { "x": [1] } }));
        assert!(list.err().unwrap().to_string().starts_with("settings.x"));
        let engine = json!({ "type": "hparams", "settings": {}, "metrics": ["engine.t:loss"] });
        assert!(test.try_build("handler.h", engine).err().unwrap().to_string().contains("engine.t:loss"));
    }
}
