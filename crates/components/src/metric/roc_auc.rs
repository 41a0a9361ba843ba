//! Area under the ROC curve.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_score::{Average, ClassScore};
use super::ranked::{Point, Ranked};
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::fields;

/// ROC AUC: the probability that a sample of a class has a higher score than one of the others, ties counting half.
///
/// With two classes, of the score of class 1; with more, each class against the rest, averaged (scikit-learn's `roc_auc_score`
/// with `multi_class = "ovr"`, over softmax scores). A class without samples, or with all of them, has no such area: it is left
/// out of the mean, with a warning. All scores are kept until the value is computed. Values: `roc_auc`, or `roc_auc/<class>` with
/// `average = "none"`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RocAucConfig {
    /// How the per-class values are averaged, with more than two classes; `micro` ranks all scores of all classes in one list.
    #[serde(default)]
    pub average: Average,
}

impl Config for RocAucConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "roc_auc";
    const EXAMPLE: &'static str = r#"
[metric.auc]
type = "roc_auc"
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

impl Component for RocAucConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(Ranked::new(Self::TYPE, self.average, area)))
    }
}

pipe_core::register!(RocAucConfig);

/// The trapezoidal rule; NaN where all samples are positive.
fn area(points: &[Point]) -> f64 {
    let mut before = [0.0, 0.0];
    let mut area = 0.0;
    for point in points {
        area += (point[1] - before[1]) * (point[0] + before[0]) / 2.0;
        before = *point;
    }
    area / (before[0] * before[1])
}
