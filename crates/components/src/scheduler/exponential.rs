//! Exponential decay.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Multiplies the learning rate by `gamma` every step.
///
/// The rate after `t` steps is `lr · gamma^t` (torch's `ExponentialLR`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExponentialConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Factor by which the learning rate is multiplied each step.
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub gamma: f64,
}

impl Config for ExponentialConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "exponential";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.decay]
type = "exponential"
optimizer = "optimizer.sgd"
gamma = 0.95

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.decay"]
"#;

    fn facts(&self) -> Facts {
        let grows = (self.gamma > 1.0 && self.target.is_none()).then_some("gamma");
        Facts { schedule: Some(Schedule { grows, ..Schedule::default() }), ..Facts::default() }
    }
}

impl Component for ExponentialConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(ExponentialConfig);

impl Curve for ExponentialConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        base * self.gamma.powf(step as f64)
    }
}
