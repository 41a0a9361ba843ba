//! Scores that rank the samples of each class: what ROC AUC and average precision share.

use anyhow::{Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use super::class_score::Average;
use super::counts::logits_and_labels;
use pipe_core::{Metric, MetricReport, ModelOutput, State, Stateful};
use pipe_data::Batch;

/// A point of the curve that sinks the threshold from score to score: true and false positives so far.
pub type Point = [f64; 2];

/// The scores class by class, and the labels.
type Ranking = (Vec<Vec<f64>>, Vec<usize>);

/// A value computed of the ranking of all samples. All scores are kept, on the device, until it is computed.
pub struct Ranked {
    name: &'static str,
    average: Average,
    /// From the points of a class, at least one true positive among them, to its value; NaN where it has none.
    score: fn(&[Point]) -> f64,
    logits: Vec<Tensor>,
    labels: Vec<Tensor>,
}

impl Ranked {
    /// A value called `name`.
    pub fn new(name: &'static str, average: Average, score: fn(&[Point]) -> f64) -> Ranked {
        Ranked { name, average, score, logits: Vec::new(), labels: Vec::new() }
    }

    /// The value of samples with these scores, of which `of` says whether they belong.
    fn of(&self, scores: &[f64], of: impl Fn(usize) -> bool) -> f64 {
        let points = points(scores, of);
        match points.last() {
            Some([positives, _]) if *positives > 0.0 => (self.score)(&points),
            _ => f64::NAN,
        }
    }

    /// What was seen; `None` before the first update.
    fn columns(&self) -> Result<Option<Ranking>> {
        let Some(first) = self.logits.first() else { return Ok(None) };
        let classes = first.size()[1];
        let logits = Tensor::cat(&self.logits, 0).to_device(Device::Cpu).to_kind(Kind::Double);
        // The softmax of two ranks as their difference does, which keeps apart what the softmax rounds to 1.
        let scores = if classes == 2 { &logits - logits.flip([1]) } else { logits.softmax(1, Kind::Double) };
        ensure!(bool::try_from(scores.isfinite().all())?, "some scores are not finite, so they have no order");
        let labels: Vec<i64> = Vec::try_from(Tensor::cat(&self.labels, 0).to_kind(Kind::Int64))?;
        if let Some(label) = labels.iter().find(|label| !(0..classes).contains(*label)) {
            bail!("label {label} is not in 0..{classes}, the model's classes: does its number match the dataset?");
        }
        let column = |class| Ok(Vec::try_from(scores.select(1, class).contiguous())?);
        let columns = (0..classes).map(column).collect::<Result<_>>()?;
        Ok(Some((columns, labels.into_iter().map(|label| label as usize).collect())))
    }

    fn averaged(&self, columns: &[Vec<f64>], labels: &[usize]) -> f64 {
        if let ([_, positive], true) = (columns, self.average != Average::None) {
            return self.of(positive, |i| labels[i] == 1);
        }
        if self.average == Average::Micro {
            let samples = labels.len();
            return self.of(&columns.concat(), |i| labels[i % samples] == i / samples);
        }
        let mut weighed = (0.0, 0.0);
        let mut without = 0;
        for (class, column) in columns.iter().enumerate() {
            let value = self.of(column, |i| labels[i] == class);
            let support = labels.iter().filter(|label| **label == class).count() as f64;
            let weight = if self.average == Average::Weighted { support } else { 1.0 };
            match value.is_nan() {
                true => without += 1,
                false => weighed = (weighed.0 + weight * value, weighed.1 + weight),
            }
        }
        if without > 0 {
            let classes = columns.len();
            tracing::warn!("{}: {without} of {classes} classes cannot be ranked in these data; left out", self.name);
        }
        weighed.0 / weighed.1
    }
}

/// The curve of scores, tied ones at one point.
fn points(scores: &[f64], of: impl Fn(usize) -> bool) -> Vec<Point> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_unstable_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let mut curve: Vec<Point> = Vec::new();
    let mut now = [0.0, 0.0];
    for (at, i) in order.iter().enumerate() {
        now[usize::from(!of(*i))] += 1.0;
        if order.get(at + 1).is_none_or(|next| scores[*next] != scores[*i]) {
            curve.push(now);
        }
    }
    curve
}

impl Metric for Ranked {
    fn reset(&mut self) {
        self.logits.clear();
        self.labels.clear();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let (logits, label) = logits_and_labels(batch, output)?;
        let classes = logits.size()[1];
        ensure!(classes > 1, "`{}` needs a score for each of at least 2 classes, the model gives {classes}", self.name);
        if let Some(first) = self.logits.first() {
            let before = first.size()[1];
            ensure!(before == classes, "the model predicted {classes} classes, but {before} in earlier batches");
        }
        self.logits.push(logits.detach());
        self.labels.push(label);
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        let (logits, labels) = (other.tensors.get("logits"), other.tensors.get("labels"));
        ensure!(logits.is_some() == labels.is_some(), "the saved scores belong to another metric");
        let at = self.logits.first().map_or(Device::Cpu, Tensor::device);
        self.logits.extend(logits.map(|logits| logits.to_device(at)));
        self.labels.extend(labels.map(|labels| labels.to_device(at)));
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let name = self.name;
        let values = match (self.columns()?, self.average) {
            (Some((columns, labels)), Average::None) => (columns.iter().enumerate())
                .map(|(class, column)| (format!("{name}/{class}"), self.of(column, |i| labels[i] == class)))
                .collect(),
            (Some((columns, labels)), _) => vec![(name.to_owned(), self.averaged(&columns, &labels))],
            (None, Average::None) => Vec::new(),
            (None, _) => vec![(name.to_owned(), f64::NAN)],
        };
        Ok(MetricReport { values, ..MetricReport::default() })
    }
}

impl Stateful for Ranked {
    fn state(&self) -> Result<State> {
        let mut state = State::default();
        if !self.logits.is_empty() {
            state.tensors.insert("logits".into(), Tensor::cat(&self.logits, 0));
            state.tensors.insert("labels".into(), Tensor::cat(&self.labels, 0));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.reset();
        self.logits.extend(state.tensors.get("logits").map(Tensor::copy));
        self.labels.extend(state.tensors.get("labels").map(Tensor::copy));
        ensure!(self.logits.len() == self.labels.len(), "the saved scores belong to another metric");
        Ok(())
    }
}
