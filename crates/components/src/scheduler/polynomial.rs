//! Polynomial decay.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Behind, Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Ref, Target};

/// Lowers the learning rate to zero over `total_iters` steps along a polynomial.
///
/// The rate after `t` steps is `lr · (1 − min(t, total_iters) / total_iters)^power` (torch's `PolynomialLR`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolynomialConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Steps until the rate is zero.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub total_iters: u64,
    /// The polynomial's power; 1 is a straight line.
    #[serde(default = "default_power")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub power: f64,
}

fn default_power() -> f64 {
    1.0
}

impl Config for PolynomialConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "polynomial";
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
type = "polynomial"
optimizer = "optimizer.sgd"
total_iters = 30000
power = 0.9

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.decay"]
"#;

    fn facts(&self) -> Facts {
        let schedule =
            Schedule { end: Some((self.total_iters, "total_iters")), behind: Behind::Vanishes, ..Schedule::default() };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }
}

impl Component for PolynomialConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(PolynomialConfig);

impl Curve for PolynomialConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let total = self.total_iters.max(1);
        base * (1.0 - step.min(total) as f64 / total as f64).powf(self.power)
    }
}
