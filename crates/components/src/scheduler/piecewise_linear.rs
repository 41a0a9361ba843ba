//! Piecewise linear learning rate.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Optimizer, Problems, Ref, Target};

/// Interpolates the learning rate linearly between given points.
///
/// Before the first point and after the last one the rate stays at that point's value (Ignite's `PiecewiseLinear`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PiecewiseLinearConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// Points `[step, value]`, steps ascending. Values are learning rates (or those of `target`), the same for all parameter groups, or multiples of
    /// each group's own rate when `relative` is set.
    #[schemars(extend("x-reload" = "hot"))]
    pub points: Vec<(u64, f64)>,
    /// Whether values are multiples of the configured learning rate.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub relative: bool,
}

impl PiecewiseLinearConfig {
    fn at(&self, step: u64) -> f64 {
        let next = self.points.partition_point(|(at, _)| *at <= step);
        let before = next.checked_sub(1).and_then(|i| self.points.get(i));
        match (before, self.points.get(next)) {
            (Some(&(from, low)), Some(&(to, high))) => low + (high - low) * (step - from) as f64 / (to - from) as f64,
            (Some((_, only)), None) | (None, Some((_, only))) => *only,
            (None, None) => 0.0,
        }
    }
}

impl Config for PiecewiseLinearConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "piecewise_linear";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.drawn]
type = "piecewise_linear"
optimizer = "optimizer.sgd"
points = [[0, 0.0001], [1000, 0.02], [60000, 0.02], [90000, 0.0]]

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.drawn"]
"#;

    fn facts(&self) -> Facts {
        let schedule = Schedule {
            end: self.points.last().map(|(step, _)| (*step, "points")),
            absolute: !self.relative,
            ..Schedule::default()
        };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        if self.points.is_empty() {
            problems.at("points", "there are no points", "give at least one `[step, value]`");
        }
        if let Some(pair) = self.points.windows(2).find(|pair| pair[1].0 <= pair[0].0) {
            let message = format!("step {} comes after step {}", pair[1].0, pair[0].0);
            problems.at("points", message, "order the points by step, each step once");
        }
        if let Some((step, value)) = self.points.iter().find(|(_, value)| *value < 0.0 || !value.is_finite()) {
            problems.at(
                "points",
                format!("the value {value} at step {step} is below 0 or not finite"),
                "use 0 or more",
            );
        }
    }
}

impl Component for PiecewiseLinearConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Scheduled::build(ctx, self.optimizer.clone(), self.target.clone(), self)
    }
}

pipe_core::register!(PiecewiseLinearConfig);

impl Curve for PiecewiseLinearConfig {
    fn value(&self, step: u64, base: f64) -> f64 {
        let value = self.at(step);
        if self.relative { base * value } else { value }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::{Device, Kind as DType, Tensor};

    use pipe_run::testing::TestRun;

    #[test]
    fn points_must_rise() {
        let test = TestRun::with_parameters(&[("w", &Tensor::zeros([1], (DType::Float, Device::Cpu)))]);
        test.optimizer("optimizer.o", json!({ "type": "sgd", "model": "model.net" }));
        for points in [json!([]), json!([[5, 0.1], [5, 0.2]]), json!([[5, 0.1], [4, 0.2]]), json!([[0, -0.1]])] {
            let table = json!({ "type": "piecewise_linear", "optimizer": "optimizer.o", "points": points });
            let error = test.try_build("scheduler.s", table).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with("points: "), "{points}: {error}");
        }
    }
}
