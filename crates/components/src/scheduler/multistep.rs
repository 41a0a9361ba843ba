//! Decay at given steps.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Multiplies the learning rate by `gamma` at each milestone.
///
/// The rate after `t` steps is `lr · gamma^n` with `n` the number of milestones up to and including `t` (torch's
/// `MultiStepLR`). Stepped on `epoch_completed`, the milestones are epochs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiStepConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Steps at which the rate decays. A step listed twice decays twice.
    #[schemars(extend("x-reload" = "hot"))]
    pub milestones: Vec<u64>,
    /// Factor by which the learning rate is multiplied.
    #[serde(default = "default_gamma")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub gamma: f64,
}

fn default_gamma() -> f64 {
    0.1
}

impl Config for MultiStepConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "multistep";
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
type = "multistep"
optimizer = "optimizer.sgd"
milestones = [16, 22]
gamma = 0.1

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.decay"]
"#;

    fn facts(&self) -> Facts {
        let changes = Some((self.milestones.clone(), "milestones"));
        let schedule = Schedule {
            changes,
            grows: (self.gamma > 1.0 && self.target.is_none()).then_some("gamma"),
            ..Schedule::default()
        };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }
}

impl Component for MultiStepConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(MultiStepConfig);

impl Curve for MultiStepConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let passed = self.milestones.iter().filter(|milestone| **milestone <= step).count();
        base * self.gamma.powf(passed as f64)
    }
}
