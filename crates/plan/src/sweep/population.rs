//! `[sweep.population]`: how trials learn from each other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the members of a population learn from each other (Jaderberg et al. 2017): after every `interval` reports the worst take weights and
/// options of some of the best, and change these options a little.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PopulationConfig {
    /// After how many reports of the objective.
    #[schemars(range(min = 1))]
    pub interval: u64,
    /// Which part of the members is the worst, and which the best; one at least.
    #[schemars(range(min = 0.0, max = 0.5))]
    pub fraction: f64,
    /// One of these a number is multiplied by.
    #[schemars(length(min = 1), inner(range(min = 0.0)))]
    pub factors: Vec<f64>,
    /// How probably a choice is drawn anew.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub resample: f64,
}

impl Default for PopulationConfig {
    fn default() -> Self {
        PopulationConfig { interval: 1, fraction: 0.2, factors: vec![0.8, 1.2], resample: 0.25 }
    }
}
