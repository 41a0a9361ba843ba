//! Step decay.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Multiplies the learning rate by `gamma` every `step_size` steps.
///
/// The rate after `t` steps is `lr · gamma^⌊t / step_size⌋` (torch's `StepLR`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Number of steps between decays.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub step_size: u64,
    /// Factor by which the learning rate is multiplied.
    #[serde(default = "default_gamma")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub gamma: f64,
}

fn default_gamma() -> f64 {
    0.1
}

impl Config for StepConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "step";
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
type = "step"
optimizer = "optimizer.sgd"
step_size = 3
gamma = 0.1

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.decay"]
"#;

    fn facts(&self) -> Facts {
        let changes = Some((vec![self.step_size], "step_size"));
        let schedule = Schedule {
            changes,
            grows: (self.gamma > 1.0 && self.target.is_none()).then_some("gamma"),
            ..Schedule::default()
        };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }
}

impl Component for StepConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(StepConfig);

impl Curve for StepConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        base * self.gamma.powf((step / self.step_size.max(1)) as f64)
    }
}
