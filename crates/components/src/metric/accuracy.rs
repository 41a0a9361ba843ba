//! Classification accuracy.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::top_k_accuracy::TopK;
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::fields;

/// Accuracy: the fraction of samples whose top-1 prediction is correct.
///
/// Value: `accuracy`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccuracyConfig {}

impl Config for AccuracyConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "accuracy";
    const EXAMPLE: &'static str = r#"
[metric.accuracy]
type = "accuracy"
"#;

    fn facts(&self) -> Facts {
        Facts::of_values(self.values(), Better::Higher)
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::LOGITS, fields::LABEL])
    }

    fn values(&self) -> Vec<String> {
        vec!["accuracy".to_owned()]
    }
}

impl Component for AccuracyConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(TopK::new(vec![(1, "accuracy".to_owned())])))
    }
}

pipe_core::register!(AccuracyConfig);
