//! Recall.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_score::{Average, ClassScore};
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::fields;

/// Recall: the fraction of a class's samples that are predicted as such.
///
/// Per class: correct predictions over labels; a class without samples counts as 0. Values: `recall`, or
/// `recall/<class>` with `average = "none"`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RecallConfig {
    /// How the per-class values are averaged.
    #[serde(default)]
    pub average: Average,
}

impl Config for RecallConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "recall";
    const EXAMPLE: &'static str = r#"
[metric.recall]
type = "recall"
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

impl Component for RecallConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(ClassScore::new(Self::TYPE, self.average, |right, _, labelled| right / labelled)))
    }
}

pipe_core::register!(RecallConfig);
