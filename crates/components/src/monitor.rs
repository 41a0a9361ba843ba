//! What the components that watch a value have in common.

use pipe_core::facts::Better;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Lower ones.
    Min,
    /// Higher ones.
    Max,
}

impl Mode {
    /// As rules see it.
    pub fn better(self) -> Better {
        match self {
            Mode::Min => Better::Lower,
            Mode::Max => Better::Higher,
        }
    }

    /// Whether a value is an improvement: finite, and beyond the bound that `bound` makes of the best one so far, if there is one.
    pub fn improves(self, value: f64, best: Option<f64>, bound: impl FnOnce(f64) -> f64) -> bool {
        value.is_finite()
            && best.is_none_or(|best| match self {
                Mode::Min => value < bound(best),
                Mode::Max => value > bound(best),
            })
    }

    /// A margin above 0 as the step towards better values: down for `min`, up for `max`.
    pub fn towards_better(self, margin: f64) -> f64 {
        match self {
            Mode::Min => -margin,
            Mode::Max => margin,
        }
    }
}
