//! Precision, recall and F: per-class scores from three counts, and their averages.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, Form, logits_and_labels};
use pipe_core::{Metric, MetricReport};
use pipe_core::{ModelOutput, State, Stateful};
use pipe_data::Batch;

/// How the per-class scores are averaged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The mean over the classes that occur, as a label or as a prediction.
    #[default]
    Macro,
    /// The score of the counts summed over all classes.
    Micro,
    /// The mean over the classes, weighted by the number of labels of each.
    Weighted,
    /// No averaging: one value per class, `<name>/<class>`.
    None,
}

/// A per-class score, averaged.
pub struct ClassScore {
    counts: Counts,
    name: &'static str,
    average: Average,
    /// From correct predictions, predictions and labels of a class to its score.
    score: Box<dyn Fn(f64, f64, f64) -> f64>,
}

impl ClassScore {
    /// A score called `name`. `score` takes correct predictions, predictions and labels of a class; 0 / 0 counts as 0, as
    /// in scikit-learn.
    pub fn new(name: &'static str, average: Average, score: impl Fn(f64, f64, f64) -> f64 + 'static) -> ClassScore {
        let score = move |right, predicted, labelled| {
            let value: f64 = score(right, predicted, labelled);
            if value.is_nan() { 0.0 } else { value }
        };
        ClassScore { counts: Counts::new(Form::PerClass), name, average, score: Box::new(score) }
    }

    /// The names of the values that do not depend on the classes.
    pub fn values(name: &str, average: Average) -> Vec<String> {
        if average == Average::None { Vec::new() } else { vec![name.to_owned()] }
    }

    fn averaged(&self, right: &[f64], predicted: &[f64], labelled: &[f64]) -> f64 {
        let of = |i: usize| (self.score)(right[i], predicted[i], labelled[i]);
        let total = |counts: &[f64]| counts.iter().sum::<f64>();
        match self.average {
            Average::Micro => (self.score)(total(right), total(predicted), total(labelled)),
            Average::Weighted => (0..right.len()).map(|i| of(i) * labelled[i]).sum::<f64>() / total(labelled),
            Average::Macro | Average::None => {
                let occurs: Vec<usize> = (0..right.len()).filter(|i| predicted[*i] + labelled[*i] > 0.0).collect();
                occurs.iter().map(|i| of(*i)).sum::<f64>() / occurs.len() as f64
            }
        }
    }
}

impl Metric for ClassScore {
    fn reset(&mut self) {
        self.counts.reset();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let (logits, label) = logits_and_labels(batch, output)?;
        self.counts.update(&logits.argmax(1, false), &label, logits.size()[1], None)
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        self.counts.merge(other)
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let name = self.name;
        let values = match (self.counts.rows()?.as_deref(), self.average) {
            (Some([right, predicted, labelled]), Average::None) => (0..right.len())
                .map(|i| (format!("{name}/{i}"), (self.score)(right[i], predicted[i], labelled[i])))
                .collect(),
            (Some([right, predicted, labelled]), _) => {
                vec![(name.to_owned(), self.averaged(right, predicted, labelled))]
            }
            (_, Average::None) => Vec::new(),
            _ => vec![(name.to_owned(), f64::NAN)],
        };
        Ok(MetricReport { values, ..MetricReport::default() })
    }
}

impl Stateful for ClassScore {
    fn state(&self) -> Result<State> {
        Ok(self.counts.state())
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.counts.load_state(state)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::metric::counts::tests::classified;
    use pipe_core::Metric;
    use pipe_core::ModelOutput;
    use pipe_core::{Instance, Shared};
    use pipe_data::{Batch, BatchField, fields};
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored, tensor};

    fn build(table: Value) -> Shared<dyn Metric> {
        match TestRun::new().try_build("metric.m", table).unwrap() {
            Instance::Metric(metric) => metric,
            _ => panic!("no metric"),
        }
    }

    /// Updates batch by batch, each time in a metric restored from the state of the one before. Batches of which each had a metric of
    /// its own come to the same, merged.
    fn report(table: &Value, batches: &[(Batch, ModelOutput)]) -> Vec<(String, f64)> {
        let mut metric = build(table.clone());
        for (batch, output) in batches {
            let state = stored(&metric.borrow().state().unwrap());
            metric = build(table.clone());
            metric.borrow_mut().load_state(&state).unwrap();
            metric.borrow_mut().update(batch, output).unwrap();
        }
        let values = metric.borrow_mut().compute().unwrap().values;
        let merged = build(table.clone());
        assert!(merged.borrow().merges());
        for (batch, output) in batches {
            let part = build(table.clone());
            part.borrow_mut().update(batch, output).unwrap();
            merged.borrow_mut().merge(&stored(&part.borrow().state().unwrap())).unwrap();
        }
        let of_parts = merged.borrow_mut().compute().unwrap().values;
        let bits =
            |values: &[(String, f64)]| -> Vec<_> { values.iter().map(|(n, v)| (n.clone(), v.to_bits())).collect() };
        assert_eq!(bits(&of_parts), bits(&values), "{table}");
        metric.borrow_mut().reset();
        let empty = metric.borrow_mut().compute().unwrap().values;
        assert!(empty.iter().all(|(_, value)| value.is_nan()), "{table}: {empty:?} without data");
        values
    }

    fn check(table: Value, batches: &[(Batch, ModelOutput)], expected: &Value) {
        let values: Vec<f64> = report(&table, batches).into_iter().map(|(_, value)| value).collect();
        assert_close(&table.to_string(), &values, &numbers(expected), 1e-6);
    }

    #[test]
    fn values_are_those_of_ignite() {
        let data = parity("metric/classification.json");
        let (logits, label) = (tensor(&data["logits"]), tensor(&data["label"]));
        let sizes: Vec<i64> = numbers(&data["sizes"]).into_iter().map(|n| n as i64).collect();
        let (logits, label) = (logits.split_with_sizes(&sizes, 0), label.split_with_sizes(&sizes, 0));
        let batches: Vec<_> = logits.into_iter().zip(label).map(|(logits, label)| classified(logits, label)).collect();
        let values = &data["values"];
        check(json!({ "type": "accuracy" }), &batches, &values["accuracy"]);
        let top = json!([values["top_1"], values["top_2"], values["top_3"]]);
        check(json!({ "type": "top_k_accuracy", "k": [1, 2, 3] }), &batches, &top);
        for name in ["precision", "recall"] {
            for average in ["macro", "micro", "weighted", "none"] {
                check(json!({ "type": name, "average": average }), &batches, &values[format!("{name} {average}")]);
            }
        }
        for beta in ["0.5", "1.0", "2.0"] {
            let number: f64 = beta.parse().unwrap();
            check(json!({ "type": "f_beta", "beta": number }), &batches, &values[format!("f_beta {beta}")]);
        }
        let confusion = report(&json!({ "type": "confusion_matrix" }), &batches);
        let expected = json!([values["accuracy"], values["recall macro"]]);
        assert_close("confusion", &confusion.iter().map(|(_, v)| *v).collect::<Vec<_>>(), &numbers(&expected), 1e-6);
    }

    #[test]
    fn overlaps_are_those_of_ignite() {
        let data = parity("metric/classification.json");
        let (scores, classes) = (tensor(&data["segmentation_logits"]), tensor(&data["segmentation"]));
        let values = &data["values"];
        let expected = json!([values["mean_iou"], values["pixel_accuracy"], values["iou"]]);
        let (mut batch, mut outputs) = (Batch::new(3), Batch::new(3));
        batch.set(fields::SEGMENTATION, BatchField::Stacked(classes.shallow_clone()));
        outputs.set(fields::SEGMENTATION_LOGITS, BatchField::List(scores.unbind(0)));
        let output = ModelOutput { outputs, ..ModelOutput::default() };
        check(json!({ "type": "mean_iou" }), &[(batch, output)], &expected);

        let (mut batch, mut outputs) = (Batch::new(3), Batch::new(3));
        batch.set(fields::SEGMENTATION, BatchField::Stacked(classes));
        outputs.set(fields::SEGMENTATION_LOGITS, BatchField::Stacked(scores.narrow(3, 0, 4)));
        let output = ModelOutput { outputs, ..ModelOutput::default() };
        let error = build(json!({ "type": "mean_iou" })).borrow_mut().update(&batch, &output).unwrap_err().to_string();
        assert!(error.contains("[4, 6, 4]") && error.contains("[6, 5]"), "{error}");
    }

    #[test]
    fn classes_that_do_not_occur_are_left_out_of_the_mean() {
        let logits = tensor(&json!([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [2.0, 1.0, 0.0]]));
        let batch = [classified(logits, tensor(&json!([0, 1, 1])))];
        check(json!({ "type": "precision" }), &batch, &json!(0.75));
        check(json!({ "type": "recall", "average": "none" }), &batch, &json!([1.0, 0.5, 0.0]));
    }

    #[test]
    fn missing_and_misshapen_fields_are_named() {
        let metric = build(json!({ "type": "accuracy" }));
        let (batch, output) = classified(tensor(&json!([[1.0, 0.0]])), tensor(&json!([0])));
        let error = metric.borrow_mut().update(&Batch::new(1), &output).unwrap_err().to_string();
        assert!(error.contains("`label`"), "{error}");
        let error = metric.borrow_mut().update(&batch, &ModelOutput::default()).unwrap_err().to_string();
        assert!(error.contains("`logits`"), "{error}");
        let (batch, output) = classified(tensor(&json!([[1.0, 0.0]])), tensor(&json!([0, 1])));
        assert!(metric.borrow_mut().update(&batch, &output).is_err());
        let table = json!({ "type": "top_k_accuracy", "k": [5] });
        let (batch, output) = classified(tensor(&json!([[1.0, 0.0]])), tensor(&json!([0])));
        let error = build(table).borrow_mut().update(&batch, &output).unwrap_err().to_string();
        assert!(error.contains("the model has 2"), "{error}");
    }
}
