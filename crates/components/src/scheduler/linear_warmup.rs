//! Linear warm-up.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Linearly increases the learning rate from a small fraction of itself to its full value.
///
/// The rate after `t` steps is `lr · (start_factor + (1 − start_factor) · min(t, iterations) / iterations)` (torch's
/// `LinearLR`; torchvision trains its detectors with a factor of 1/1000 over the first 1000 iterations). Step it on
/// `iteration_completed`; it multiplies with any other scheduler of the optimizer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearWarmupConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Number of warm-up steps.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub iterations: u64,
    /// Fraction of the learning rate to start from.
    #[serde(default = "default_start_factor")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    pub start_factor: f64,
}

fn default_start_factor() -> f64 {
    0.001
}

impl Config for LinearWarmupConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "linear_warmup";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.warmup]
type = "linear_warmup"
optimizer = "optimizer.sgd"
iterations = 1000

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.warmup"]
"#;

    fn facts(&self) -> Facts {
        let schedule = Schedule { end: Some((self.iterations, "iterations")), warms_up: true, ..Schedule::default() };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }
}

impl Component for LinearWarmupConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(LinearWarmupConfig);

impl Curve for LinearWarmupConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let total = self.iterations.max(1);
        let part = step.min(total) as f64 / total as f64;
        base * (self.start_factor + (1.0 - self.start_factor) * part)
    }
}
