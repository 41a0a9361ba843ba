//! Cosine annealing with restarts.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled, half_cosine};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Lowers the learning rate along half a cosine, repeatedly.
///
/// The first cycle takes `t_0` steps, each later one `t_mult` times as many as the one before; each starts at the full rate
/// (SGDR, Loshchilov & Hutter 2017; torch's `CosineAnnealingWarmRestarts`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineWarmRestartsConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Number of steps of the first cycle.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub t_0: u64,
    /// Factor by which each cycle is longer than the previous one.
    #[serde(default = "default_t_mult")]
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub t_mult: u64,
    /// Minimum learning rate.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub eta_min: f64,
}

fn default_t_mult() -> u64 {
    1
}

impl Config for CosineWarmRestartsConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "cosine_warm_restarts";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.restarts]
type = "cosine_warm_restarts"
optimizer = "optimizer.sgd"
t_0 = 10
t_mult = 2

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.restarts"]
"#;

    fn facts(&self) -> Facts {
        let schedule = Schedule { end: Some((self.t_0, "t_0")), ..Schedule::default() };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }
}

impl Component for CosineWarmRestartsConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(CosineWarmRestartsConfig);

impl Curve for CosineWarmRestartsConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let (mut start, mut length) = (0, self.t_0.max(1));
        if self.t_mult <= 1 {
            start = step / length * length;
        } else {
            // Cycles grow geometrically, so there are few.
            while step - start >= length {
                start += length;
                length = length.saturating_mul(self.t_mult);
            }
        }
        self.eta_min + (base - self.eta_min) * half_cosine((step - start) as f64 / length as f64)
    }
}
