//! Precision, recall and F: scores of each class from three counts, and their averages.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counts::{Counts, Form, logits_and_labels};
use super::{Metric, MetricReport};
use crate::components::model::ModelOutput;
use crate::data::Batch;
use crate::run::{State, Stateful};

/// How the scores of the classes become one number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The mean over the classes that occur, as a label or as a prediction.
    #[default]
    Macro,
    /// The score of all classes' counts together.
    Micro,
    /// The mean over the classes, weighted by how often each is the label.
    Weighted,
    /// One value a class, `<name>/<class>`.
    None,
}

/// A score of each class, averaged.
pub struct ClassScore {
    counts: Counts,
    name: &'static str,
    average: Average,
    /// From right predictions, predictions and labels of a class to its score.
    score: Box<dyn Fn(f64, f64, f64) -> f64>,
}

impl ClassScore {
    /// A score called `name`. `score` is told right predictions, predictions and labels of a class; 0 / 0 counts as 0, as
    /// in scikit-learn.
    pub fn new(name: &'static str, average: Average, score: impl Fn(f64, f64, f64) -> f64 + 'static) -> ClassScore {
        let score = move |right, predicted, labelled| {
            let value: f64 = score(right, predicted, labelled);
            if value.is_nan() { 0.0 } else { value }
        };
        ClassScore { counts: Counts::new(Form::PerClass), name, average, score: Box::new(score) }
    }

    /// The names of the values that it gives whatever the classes.
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
        self.counts.update(&logits.argmax(1, false), label, logits.size()[1], None)
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
        Ok(MetricReport { values, text: None })
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
