//! Cycles between two values.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use super::one_cycle::Anneal;
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Problems, Ref, Target};

/// Moves the learning rate up and down between `base_lr` and `max_lr`, over and over.
///
/// Straight up in `step_size_up` steps and down in `step_size_down` (Smith 2017; torch's `CyclicLR`); with
/// `anneal_strategy = "cos"` along half cosines. With `step_size_down = 0` it jumps back: Ignite's `CosineAnnealingScheduler` and
/// its monotonic `LinearCyclicalScheduler`, from `base_lr` to `max_lr`. `mode` makes later cycles lower, `cycle_mult` longer;
/// `base_mult` and `max_mult` move their ends. With another `target` than the learning rate, momentum is left alone.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CyclicalConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// The value at the ends of a cycle. Default: the configured one.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub base_lr: Option<f64>,
    /// The value in the middle of a cycle.
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub max_lr: f64,
    /// Steps from `base_lr` to `max_lr`.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    pub step_size_up: u64,
    /// Steps back; with 0 it jumps. Default: as many as up.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub step_size_down: Option<u64>,
    /// How the height of the cycles changes.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub mode: Mode,
    /// Factor of each step's height, with `mode = "exp_range"`.
    #[serde(default = "one")]
    #[schemars(extend("x-reload" = "hot", "exclusiveMinimum" = 0))]
    pub gamma: f64,
    /// The way between the two values.
    #[serde(default = "linear")]
    #[schemars(extend("x-reload" = "hot"))]
    pub anneal_strategy: Anneal,
    /// Factor by which each cycle is longer than the one before.
    #[serde(default = "one")]
    #[schemars(extend("x-reload" = "hot", "exclusiveMinimum" = 0))]
    pub cycle_mult: f64,
    /// Factor of `base_lr` from cycle to cycle.
    #[serde(default = "one")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub base_mult: f64,
    /// Factor of `max_lr` from cycle to cycle.
    #[serde(default = "one")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub max_mult: f64,
    /// Whether to cycle momentum (Adam: the first beta) inversely to the learning rate.
    #[serde(default = "yes")]
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
}

/// How the height of the cycles changes, torch's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Not.
    #[default]
    Triangular,
    /// Halved with each cycle.
    Triangular2,
    /// Multiplied by `gamma` with each step.
    ExpRange,
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

fn linear() -> Anneal {
    Anneal::Linear
}

fn default_base_momentum() -> f64 {
    0.8
}

fn default_max_momentum() -> f64 {
    0.9
}

impl Config for CyclicalConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "cyclical";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.001
momentum = 0.9

[scheduler.cycles]
type = "cyclical"
optimizer = "optimizer.sgd"
max_lr = 0.02
step_size_up = 2000
mode = "triangular2"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.cycles"]
"#;

    fn facts(&self) -> Facts {
        let schedule = Schedule { absolute: true, ..Schedule::default() };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        if self.gamma != 1.0 && self.mode != Mode::ExpRange {
            problems.at("gamma", "`gamma` is for `mode = \"exp_range\"`", "set the mode, or remove `gamma`");
        }
        if self.max_momentum < self.base_momentum {
            problems.at("base_momentum", "the minimum momentum is above the maximum", "exchange the two");
        }
    }
}

impl Component for CyclicalConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(CyclicalConfig);

impl CyclicalConfig {
    /// The cycle that a step is in, counted from 0, and how far from its ends it is, from 0 to 1.
    fn place(&self, step: u64) -> (i32, f64) {
        let up = self.step_size_up.max(1) as f64;
        let length = up + self.step_size_down.map_or(up, |down| down as f64);
        let rise = up / length;
        let (mut cycle, mut into, mut length) = (0, step as f64, length);
        // Lengths grow or shrink geometrically down to one step, so there are few until they stay the same.
        while into >= length {
            let next = (length * self.cycle_mult).floor().max(1.0);
            let passed = if next == length { (into / length).floor() } else { 1.0 };
            into -= passed * length;
            cycle += passed as i32;
            length = next;
        }
        let into = into / length;
        let part = if into <= rise { into / rise } else { (1.0 - into) / (1.0 - rise) };
        (cycle, self.anneal_strategy.between(0.0, 1.0, part.max(0.0)))
    }

    /// The height of a place in its cycle.
    fn height(&self, step: u64, (cycle, part): (i32, f64)) -> f64 {
        part * match self.mode {
            Mode::Triangular => 1.0,
            Mode::Triangular2 => 0.5_f64.powi(cycle),
            Mode::ExpRange => self.gamma.powf(step as f64),
        }
    }
}

impl Curve for CyclicalConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let place = self.place(step);
        let low = self.base_lr.unwrap_or(base) * self.base_mult.powi(place.0);
        let high = self.max_lr * self.max_mult.powi(place.0);
        low + (high - low) * self.height(step, place)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        let range = self.max_momentum - self.base_momentum;
        self.cycle_momentum.then(|| self.max_momentum - range * self.height(step, self.place(step)))
    }
}
