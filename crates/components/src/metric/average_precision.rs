//! Average precision of a classifier.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::class_score::{Average, ClassScore};
use super::ranked::{Point, Ranked};
use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::fields;

/// Average precision of a classifier: the precision at each score, weighted by the gain in recall there.
///
/// `Σ (Rₙ − Rₙ₋₁) Pₙ` over the scores in falling order, without interpolation; with two classes, of the score of class 1; with
/// more, each class against the rest, averaged (scikit-learn's `average_precision_score`, over softmax scores). A class
/// without samples is left out of the mean, with a warning. All scores are kept until the value is computed. Values:
/// `average_precision`, or `average_precision/<class>` with `average = "none"`. For detections see `coco_ap`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AveragePrecisionConfig {
    /// How the per-class values are averaged, with more than two classes; `micro` ranks all scores of all classes in one list.
    #[serde(default)]
    pub average: Average,
}

impl Config for AveragePrecisionConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "average_precision";
    const EXAMPLE: &'static str = r#"
[metric.ap]
type = "average_precision"
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

impl Component for AveragePrecisionConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(Ranked::new(Self::TYPE, self.average, average_precision)))
    }
}

pipe_core::register!(AveragePrecisionConfig);

fn average_precision(points: &[Point]) -> f64 {
    let positives = points.last().map_or(f64::NAN, |[positives, _]| *positives);
    let mut found = 0.0;
    let mut sum = 0.0;
    for [right, wrong] in points {
        sum += (right - found) / positives * right / (right + wrong);
        found = *right;
    }
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::metric::counts::tests::classified;
    use pipe_core::{Instance, Metric, Shared};
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored, tensor};

    fn metric(kind: &str, average: &str) -> Shared<dyn Metric> {
        match TestRun::new().try_build("metric.m", json!({ "type": kind, "average": average })).unwrap() {
            Instance::Metric(metric) => metric,
            _ => panic!("no metric"),
        }
    }

    /// Half of the samples before a checkpoint, half after.
    fn values(kind: &str, average: &str, case: &Value) -> Vec<f64> {
        let (logits, label) = (tensor(&case["logits"]), tensor(&case["label"]));
        let half = label.size()[0] / 2;
        let part = |from: i64, n: i64| classified(logits.narrow(0, from, n), label.narrow(0, from, n));
        let first = metric(kind, average);
        let (batch, output) = part(0, half);
        first.borrow_mut().update(&batch, &output).unwrap();
        let second = metric(kind, average);
        second.borrow_mut().load_state(&stored(&first.borrow().state().unwrap())).unwrap();
        let (batch, output) = part(half, label.size()[0] - half);
        second.borrow_mut().update(&batch, &output).unwrap();
        let values = second.borrow_mut().compute().unwrap().values;
        let third = metric(kind, average);
        third.borrow_mut().update(&batch, &output).unwrap();
        first.borrow_mut().merge(&stored(&third.borrow().state().unwrap())).unwrap();
        let merged = first.borrow_mut().compute().unwrap().values;
        assert!(values.iter().zip(&merged).all(|((_, one), (_, other))| one.to_bits() == other.to_bits()));
        second.borrow_mut().reset();
        assert!(second.borrow_mut().compute().unwrap().values.iter().all(|(_, value)| value.is_nan()));
        values.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn values_are_those_of_scikit_learn() {
        let file = parity("metric/ranked.json");
        let mut compared = 0;
        for case in file["cases"].as_array().unwrap() {
            for (name, expected) in case["values"].as_object().unwrap() {
                let (kind, average) = name.split_once(' ').unwrap();
                assert_close(name, &values(kind, average, case), &numbers(expected), 1e-12);
                compared += 1;
            }
        }
        assert_eq!(compared, 16);
    }

    #[test]
    fn what_cannot_be_ranked_is_told() {
        for kind in ["roc_auc", "average_precision"] {
            let case = |logits: Value, label: Value| {
                let metric = metric(kind, "macro");
                let (batch, output) = classified(tensor(&logits), tensor(&label));
                metric.borrow_mut().update(&batch, &output)?;
                metric.borrow_mut().compute().map(|report| report.values[0].1)
            };
            let value = case(json!([[2.0, 1.0, 0.5], [1.0, 2.0, 0.5]]), json!([0, 1])).unwrap();
            assert_close("the class that does not occur is left out", &[value], &[1.0], 1e-12);
            assert!(case(json!([[2.0, 1.0], [1.0, 2.0]]), json!([0, 0])).unwrap().is_nan());
            let error = case(json!([[2.0, 1.0], [1.0, 2.0]]), json!([0, 2])).unwrap_err().to_string();
            assert!(error.contains("label 2 is not in 0..2"), "{error}");
            let error = case(json!([[2.0, f64::NAN], [1.0, 2.0]]), json!([0, 1])).unwrap_err().to_string();
            assert!(error.contains("not finite"), "{error}");
            let error = case(json!([[2.0], [1.0]]), json!([0, 0])).unwrap_err().to_string();
            assert!(error.contains("at least 2 classes"), "{error}");
        }
    }
}
