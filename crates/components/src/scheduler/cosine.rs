//! Cosine annealing.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled, half_cosine};
use pipe_core::facts::{Behind, Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Lowers the learning rate along half a cosine, down to `eta_min` after `t_max` steps.
///
/// The rate after `t` steps is `eta_min + (lr − eta_min) · (1 + cos(π t / t_max)) / 2` (Loshchilov & Hutter 2017; torch's
/// `CosineAnnealingLR`). As in torch, the rate rises again after `t_max`: set `t_max` to the length of the training, or use
/// `cosine_warm_restarts`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Number of steps until the minimum learning rate.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub t_max: u64,
    /// Minimum learning rate.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub eta_min: f64,
}

impl Config for CosineConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "cosine";
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
type = "cosine"
optimizer = "optimizer.sgd"
t_max = 90000
eta_min = 0.0001

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.decay"]
"#;

    fn facts(&self) -> Facts {
        let schedule = Schedule { end: Some((self.t_max, "t_max")), behind: Behind::TurnsBack, ..Schedule::default() };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }
}

impl Component for CosineConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(CosineConfig);

impl Curve for CosineConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        self.eta_min + (base - self.eta_min) * half_cosine(step as f64 / self.t_max.max(1) as f64)
    }
}
