//! Decay when a monitored value stops improving.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::Driven;
use crate::monitor::Mode;
use pipe_core::Scheduler;
use pipe_core::facts::{Facts, Schedule, Watched};
use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, NodeId, Optimizer, Problems, Ref, RunContext, State, Stateful,
    Target, ValueRef,
};

/// Multiplies the learning rate by `factor` when a monitored value has stopped improving.
///
/// Each step checks the latest value of `monitor`. After more than `patience` steps without an improvement the rate is
/// lowered, then `cooldown` steps are not counted (torch's `ReduceLROnPlateau`). A value that is NaN
/// or infinite is never an improvement: it counts as a step without one, with a warning in the log.
/// Step it after the evaluation that computes the value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlateauConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// The monitored value, such as `metric.accuracy:accuracy`.
    pub monitor: ValueRef,
    /// Whether lower (`min`) or higher (`max`) values are better.
    pub mode: Mode,
    /// Factor by which the learning rate is multiplied; below 1.
    #[serde(default = "default_factor")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    pub factor: f64,
    /// Patience: number of steps without improvement that are tolerated before the learning rate is lowered.
    #[serde(default = "default_patience")]
    #[schemars(extend("x-reload" = "hot"))]
    pub patience: u64,
    /// Minimum improvement over the best value.
    #[serde(default = "default_threshold")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub threshold: f64,
    /// Whether the threshold is relative to the best value (`rel`) or absolute (`abs`).
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub threshold_mode: ThresholdMode,
    /// Number of steps to wait after a decay before counting again.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub cooldown: u64,
    /// Minimum learning rate. Other schedulers of the optimizer multiply on top of it.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub min_lr: f64,
    /// Minimum decay: smaller changes of the learning rate are ignored.
    #[serde(default = "default_eps")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub eps: f64,
}

/// How the threshold is interpreted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// A fraction of the best value.
    #[default]
    Rel,
    /// A difference from the best value.
    Abs,
}

fn default_factor() -> f64 {
    0.1
}

fn default_patience() -> u64 {
    10
}

fn default_threshold() -> f64 {
    1e-4
}

fn default_eps() -> f64 {
    1e-8
}

impl Config for PlateauConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "plateau";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[metric.loss]
type = "loss"

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.plateau]
type = "plateau"
optimizer = "optimizer.sgd"
monitor = "metric.loss:loss"
mode = "min"
patience = 3

[[on]]
event = "engine.evaluator:completed"
run = ["scheduler.plateau"]
"#;

    fn facts(&self) -> Facts {
        let watched = Watched { value: self.monitor.clone(), better: self.mode.better(), option: vec!["mode".into()] };
        Facts {
            schedule: Some(Schedule::default()),
            watches: vec![watched],
            patience: Some((self.patience, "patience")),
            ..Facts::default()
        }
    }

    fn check(&self, problems: &mut Problems) {
        if self.factor >= 1.0 {
            problems.at(
                "factor",
                format!("a factor of {} does not lower the learning rate", self.factor),
                "use a factor below 1, such as 0.1",
            );
        }
    }
}

impl Component for PlateauConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let driven = Driven::of(ctx, self.optimizer.as_ref(), self.target.as_ref())?;
        let driven = driven.context("a scheduler of a measured value cannot be part of another scheduler")?;
        let plateau = Plateau { node: ctx.node.clone(), driven, config: self, seen: Seen::default() };
        plateau.apply()?;
        Ok(Instance::Scheduler(Rc::new(RefCell::new(plateau))))
    }
}

pipe_core::register!(PlateauConfig);

struct Plateau {
    node: NodeId,
    driven: Driven,
    config: PlateauConfig,
    seen: Seen,
}

/// The state of the monitored value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    /// `None` before the first number.
    best: Option<f64>,
    bad_steps: u64,
    cooldown_left: u64,
    reductions: u64,
}

impl PlateauConfig {
    fn is_better(&self, value: f64, best: Option<f64>) -> bool {
        let step = self.mode.towards_better(self.threshold);
        self.mode.improves(value, best, |best| match self.threshold_mode {
            ThresholdMode::Rel => best * (1.0 + step),
            ThresholdMode::Abs => best + step,
        })
    }

    /// The learning rate after this many decays.
    fn lr(&self, base: f64, reductions: u64) -> f64 {
        let mut lr = base;
        for _ in 0..reductions {
            let lower = (lr * self.factor).max(self.min_lr);
            if lr - lower <= self.eps {
                break;
            }
            lr = lower;
        }
        lr
    }
}

impl Plateau {
    fn apply(&self) -> Result<()> {
        self.driven.apply(&self.node, |base| self.config.lr(base, self.seen.reductions), None)
    }

    fn count(&mut self, value: f64) {
        let seen = &mut self.seen;
        if self.config.is_better(value, seen.best) {
            seen.best = Some(value);
            seen.bad_steps = 0;
        } else {
            seen.bad_steps += 1;
        }
        if seen.cooldown_left > 0 {
            seen.cooldown_left -= 1;
            seen.bad_steps = 0;
        }
        if seen.bad_steps > self.config.patience {
            seen.reductions += 1;
            seen.cooldown_left = self.config.cooldown;
            seen.bad_steps = 0;
        }
    }
}

impl Scheduler for Plateau {
    fn step(&mut self, run: &RunContext) -> Result<()> {
        let monitor = &self.config.monitor;
        let value = run.value(monitor).with_context(|| {
            format!(
                "`{monitor}` has not been measured yet: in `run`, put {} after the evaluation that computes it",
                self.node
            )
        })?;
        if !value.is_finite() {
            tracing::warn!("{}: {monitor} is {value}; this counts as a step without an improvement", self.node);
        }
        self.count(value);
        self.apply()
    }
}

impl Stateful for Plateau {
    fn state(&self) -> Result<State> {
        State::of(&self.seen)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.seen = state.to()?;
        self.apply()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::{Device, Kind as DType, Tensor};

    use pipe_run::testing::{TestRun, stored};

    fn run() -> TestRun {
        let test = TestRun::with_parameters(&[("w", &Tensor::zeros([1], (DType::Float, Device::Cpu)))]);
        test.optimizer("optimizer.o", json!({ "type": "sgd", "model": "model.net", "lr": 1.0 }));
        test
    }

    fn table() -> serde_json::Value {
        json!({ "type": "plateau", "optimizer": "optimizer.o", "monitor": "metric.m:loss", "mode": "min", "patience": 1,
                "factor": 0.5 })
    }

    fn steps(test: &TestRun, scheduler: &pipe_core::Shared<dyn super::Scheduler>, values: &[f64]) -> Vec<f64> {
        let lr = |value: &f64| {
            test.run.set_value(&"metric.m".parse().unwrap(), "loss", *value);
            scheduler.borrow_mut().step(&test.run).unwrap();
            let pipe_core::Instance::Optimizer(optimizer) = test.graph.node(&"optimizer.o".parse().unwrap()).unwrap()
            else {
                panic!("no optimizer")
            };
            optimizer.borrow().groups()[0].lr()
        };
        values.iter().map(lr).collect()
    }

    #[test]
    fn nan_is_never_best() {
        let test = run();
        let scheduler = test.scheduler("scheduler.s", table());
        let lrs = steps(&test, &scheduler, &[f64::NAN, 3.0, f64::NAN, f64::NAN, 2.0]);
        assert_eq!(lrs, [1.0, 1.0, 1.0, 0.5, 0.5]);
        assert_eq!(scheduler.borrow().state().unwrap().values["best"], 2.0);
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let test = run();
        let scheduler = test.scheduler("scheduler.s", table());
        let error = scheduler.borrow_mut().step(&test.run).unwrap_err().to_string();
        assert!(error.contains("metric.m:loss") && error.contains("scheduler.s"), "{error}");
    }

    #[test]
    fn patience_is_resumed() {
        let values = [3.0, 3.0, 3.0, 2.0, 2.0, 2.0, 2.0];
        let whole = run();
        let expected = steps(&whole, &whole.scheduler("scheduler.s", table()), &values);
        assert_eq!(expected, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]);
        for cut in 1..values.len() {
            let first = run();
            let scheduler = first.scheduler("scheduler.s", table());
            steps(&first, &scheduler, &values[..cut]);
            let state = stored(&scheduler.borrow().state().unwrap());
            let second = run();
            let scheduler = second.scheduler("scheduler.s", table());
            scheduler.borrow_mut().load_state(&state).unwrap();
            assert_eq!(steps(&second, &scheduler, &values[cut..]), expected[cut..]);
        }
    }
}
