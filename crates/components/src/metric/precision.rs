//! Precision.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_score::{Average, ClassScore};
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::fields;

/// Precision: the fraction of a class's predictions that are correct.
///
/// Per class: correct predictions over predictions; a class that is never predicted counts as 0. Values: `precision`, or
/// `precision/<class>` with `average = "none"`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrecisionConfig {
    /// How the per-class values are averaged.
    #[serde(default)]
    pub average: Average,
}

impl Config for PrecisionConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "precision";
    const EXAMPLE: &'static str = r#"
[metric.precision]
type = "precision"
average = "macro"
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

impl Component for PrecisionConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(ClassScore::new(Self::TYPE, self.average, |right, predicted, _| right / predicted)))
    }
}

pipe_core::register!(PrecisionConfig);
