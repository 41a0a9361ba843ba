//! `[sweep.population]`: how trials learn from each other, and what a population cannot have.

use pipe_document::PathSegment;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Sampler, SweepConfig};

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

/// What is wrong with a section for a population: where, what, and what to do.
pub(super) fn mistakes(config: &SweepConfig) -> Vec<(Vec<PathSegment>, &'static str, &'static str)> {
    if config.sampler != Sampler::Population {
        let help = "set `sampler = \"population\"`";
        let stray =
            config.population.iter().map(|_| (vec!["population".into()], "no other sampler has a population", help));
        return stray.collect();
    }
    let mut found: Vec<(Vec<PathSegment>, &str, &str)> = Vec::new();
    let mut wrong = |holds: bool, option: &str, message, help| {
        if holds {
            found.push((vec![option.into()], message, help));
        }
    };
    let several = config.objectives.len() > 1;
    wrong(several, "objectives", "a population has one objective, by which the worst is known", "keep one");
    wrong(config.seeds > 1, "seeds", "each member of a population is one run", "remove `seeds`");
    let message = "no member of a population is ended early: the worst go on from the best";
    wrong(config.pruner.is_some(), "pruner", message, "remove `pruner`");
    let help = "`trials` is the number of its members";
    wrong(config.trials == Some(1), "trials", "a population has two members at least", help);
    for name in config.parameters.keys().filter(|name| name.starts_with("vars.")) {
        let path = vec!["parameters".into(), name.as_str().into()];
        found.push((path, "a run at work has no variables any more", "name the option that the variable stands in"));
    }
    found
}
