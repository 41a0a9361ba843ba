//! `handler.optimizer_settings`: learning rates, weight decay and momentum as they are.

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::optimizer::group::shown;
use pipe_core::{
    BuildContext, Component, Config, EventContext, Handler, Instance, Kind, NodeId, Optimizer, Ref, Shared, Stateful,
};

/// Records an optimizer's learning rates and every setting that a scheduler drives, as `<optimizer>/<setting>`.
///
/// A setting in which parameter groups differ is recorded for each, as `<optimizer>/groups[0].lr` (Ignite's
/// `OptimizerParamsHandler`). On `iteration_completed`, list it before the schedulers: it then records what the iteration was
/// made with.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimizerSettingsConfig {
    /// The optimizer.
    pub optimizer: Ref<dyn Optimizer>,
}

impl Config for OptimizerSettingsConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "optimizer_settings";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02

[handler.settings]
type = "optimizer_settings"
optimizer = "optimizer.sgd"

[[on]]
event = "engine.trainer:iteration_completed"
every = 10
run = ["handler.settings"]
"#;
}

impl Component for OptimizerSettingsConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let optimizer = ctx.get(&self.optimizer)?;
        Ok(Instance::handler(OptimizerSettings {
            node: ctx.node.clone(),
            name: self.optimizer.node.name.to_string(),
            optimizer,
        }))
    }
}

pipe_core::register!(OptimizerSettingsConfig);

struct OptimizerSettings {
    node: NodeId,
    /// The optimizer's.
    name: String,
    optimizer: Shared<dyn Optimizer>,
}

impl Handler for OptimizerSettings {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let settings = shown(self.optimizer.try_borrow().context("the optimizer is in use")?.groups());
        settings
            .into_iter()
            .try_for_each(|(setting, value)| ctx.run.scalar(&self.node, format!("{}/{setting}", self.name), value))
    }
}

impl Stateful for OptimizerSettings {}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::Tensor;

    use pipe_run::testing::TestRun;

    #[test]
    fn settings_are_recorded_once_or_for_each_group() {
        let [a, b, c] = [(); 3].map(|()| Tensor::from_slice(&[1f32, 2.0]));
        let test = TestRun::with_parameters(&[("a.weight", &a), ("b.weight", &b), ("b.bias", &c)]);
        test.optimizer(
            "optimizer.o",
            json!({ "type": "adamw", "model": "model.net", "lr": 0.5, "weight_decay": 0.25, "no_weight_decay": ["*.bias"],
                    "groups": [{ "match": "b.*", "lr": 0.125 }] }),
        );
        let table = json!({ "type": "step", "target": "optimizer.o:weight_decay", "step_size": 1, "gamma": 0.5 });
        let scheduler = test.scheduler("scheduler.s", table);
        let handler = test.handler("handler.h", json!({ "type": "optimizer_settings", "optimizer": "optimizer.o" }));
        scheduler.borrow_mut().step(&test.run).unwrap();
        test.call(&handler, "iteration_completed", None).unwrap();
        test.run.folder.flush_records().unwrap();
        let records = std::fs::read_to_string(test.run.folder.records_path()).unwrap();
        let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let seen: Vec<(String, f64)> =
            records.map(|record| (record["tag"].as_str().unwrap().into(), record["value"].as_f64().unwrap())).collect();
        let expected = [("o/lr", 0.5), ("o/groups[0].lr", 0.125), ("o/weight_decay", 0.125)];
        assert_eq!(seen, expected.map(|(tag, value)| (tag.to_owned(), value)));
    }
}
