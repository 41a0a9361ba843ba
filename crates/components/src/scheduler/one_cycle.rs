//! The one-cycle policy.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled, half_cosine};
use pipe_core::facts::{Behind, Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Problems, Ref, Target};

/// Increases the learning rate to a maximum and then decreases it far below the start, in one cycle; momentum moves inversely.
///
/// The rate goes from `max_lr / div_factor` to `max_lr` over the first `pct_start` of the steps, then down to
/// `max_lr / div_factor / final_div_factor` (Smith & Topin 2018; torch's `OneCycleLR`). After `total_steps` it stays there.
/// SGD without momentum stays without; with another `target` than the learning rate, momentum is left alone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OneCycleConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Total number of steps of the cycle.
    #[schemars(extend("x-reload" = "hot"), range(min = 2))]
    pub total_steps: u64,
    /// Maximum learning rate, the same for all parameter groups. Default: each group's own rate.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub max_lr: Option<f64>,
    /// Fraction of the steps in which the learning rate increases.
    #[serde(default = "default_pct_start")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    pub pct_start: f64,
    /// Annealing strategy.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub anneal_strategy: Anneal,
    /// Whether to cycle momentum (Adam: the first beta) inversely to the learning rate.
    #[serde(default = "default_cycle_momentum")]
    #[schemars(extend("x-reload" = "hot"))]
    pub cycle_momentum: bool,
    /// Minimum momentum.
    #[serde(default = "default_base_momentum")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    pub base_momentum: f64,
    /// Maximum momentum.
    #[serde(default = "default_max_momentum")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    pub max_momentum: f64,
    /// Ratio of the maximum learning rate to the initial one.
    #[serde(default = "default_div_factor")]
    #[schemars(extend("x-reload" = "hot"), range(min = 1.0))]
    pub div_factor: f64,
    /// Ratio of the initial learning rate to the final one.
    #[serde(default = "default_final_div_factor")]
    #[schemars(extend("x-reload" = "hot"), range(min = 1.0))]
    pub final_div_factor: f64,
    /// Whether to use three phases: up to the maximum, back to the initial rate in the same time, then down to the final rate.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub three_phase: bool,
}

/// Annealing strategy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine.
    #[default]
    Cos,
    /// A straight line.
    Linear,
}

impl Anneal {
    /// The value between `from` and `to` at the fraction `part` of the phase.
    pub(super) fn between(self, from: f64, to: f64, part: f64) -> f64 {
        match self {
            Anneal::Cos => to + (from - to) * half_cosine(part),
            Anneal::Linear => from + (to - from) * part,
        }
    }
}

impl OneCycleConfig {
    /// The value at a step of a cycle from `start` over `top` to `end`. Phases end at fractional steps, as torch's do.
    fn at(&self, step: u64, [start, top, end]: [f64; 3]) -> f64 {
        let total = self.total_steps as f64;
        let last = total - 1.0;
        let rise = self.pct_start * total;
        let phases = if self.three_phase {
            vec![(rise - 1.0, start, top), (2.0 * rise - 2.0, top, start), (last, start, end)]
        } else {
            vec![(rise - 1.0, start, top), (last, top, end)]
        };
        let (step, mut begin) = (step as f64, 0.0);
        for (finish, from, to) in phases {
            if step <= finish {
                let part = if finish > begin { (step - begin) / (finish - begin) } else { 1.0 };
                return self.anneal_strategy.between(from, to, part);
            }
            begin = finish;
        }
        end
    }
}

fn default_pct_start() -> f64 {
    0.3
}

fn default_cycle_momentum() -> bool {
    true
}

fn default_base_momentum() -> f64 {
    0.85
}

fn default_max_momentum() -> f64 {
    0.95
}

fn default_div_factor() -> f64 {
    25.0
}

fn default_final_div_factor() -> f64 {
    1e4
}

impl Config for OneCycleConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "one_cycle";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.cycle]
type = "one_cycle"
optimizer = "optimizer.sgd"
total_steps = 9000
max_lr = 0.1

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.cycle"]
"#;

    fn facts(&self) -> Facts {
        let schedule = Schedule {
            end: Some((self.total_steps, "total_steps")),
            behind: Behind::Vanishes,
            absolute: self.max_lr.is_some(),
            ..Schedule::default()
        };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        if self.three_phase && self.pct_start > 0.5 {
            let message = "with three phases `pct_start` counts twice, which is more than the whole cycle";
            problems.at("pct_start", message, "use at most 0.5");
        }
    }
}

impl Component for OneCycleConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(OneCycleConfig);

impl Curve for OneCycleConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let max = self.max_lr.unwrap_or(base);
        let start = max / self.div_factor;
        let levels = [start, max, start / self.final_div_factor];
        self.at(step, levels)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        let (low, high) = (self.base_momentum, self.max_momentum);
        self.cycle_momentum.then(|| self.at(step, [high, low, high]))
    }
}
