//! The harmonic mean of precision and recall.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_score::{Average, ClassScore};
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::fields;

/// F-beta score: the weighted harmonic mean of precision and recall, recall weighing `beta` times as much.
///
/// Per class: `(1 + β²) · correct / (β² · labels + predictions)`. Values: `f_beta`, or `f_beta/<class>` with
/// `average = "none"`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FBetaConfig {
    /// Weight of recall relative to precision; 1 gives the F1 score.
    #[serde(default = "default_beta")]
    #[schemars(range(min = 0.0))]
    pub beta: f64,
    /// How the per-class values are averaged.
    #[serde(default)]
    pub average: Average,
}

fn default_beta() -> f64 {
    1.0
}

impl Config for FBetaConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "f_beta";
    const EXAMPLE: &'static str = r#"
[metric.f_beta]
type = "f_beta"
beta = 0.5
"#;

    fn facts(&self) -> Facts {
        Facts::of_values(self.values(), Better::Higher)
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::LOGITS, fields::LABEL])
    }

    fn values(&self) -> Vec<String> {
        ClassScore::values(Self::TYPE, self.average)
    }
}

impl Component for FBetaConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let square = self.beta * self.beta;
        let score = move |right, predicted, labelled| (1.0 + square) * right / (square * labelled + predicted);
        Ok(Instance::metric(ClassScore::new(Self::TYPE, self.average, score)))
    }
}

pipe_core::register!(FBetaConfig);
