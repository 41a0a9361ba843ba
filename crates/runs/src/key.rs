//! A column of a table of runs: something that is known of a run, an option of its pipeline, what a curve came to.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use pipe_vocab::record::number;
use serde_json::{Value, json};

use crate::run::{Metric, Run};

/// What is known of every run, by name.
pub const FIELDS: [&str; 16] = [
    "name",
    "pipeline",
    "status",
    "created",
    "seconds",
    "steps",
    "epochs",
    "device",
    "seed",
    "tags",
    "group",
    "note",
    "error",
    "folder",
    "generation",
    "fork",
];

/// Which value of a curve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The latest.
    Last,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// As it was written.
    pub text: String,
    /// Its name: a field, an option, a tag, a metric.
    pub name: String,
    /// Of a curve, which of its values.
    pub which: Option<Which>,
}

impl Key {
    /// Reads `optimizer.sgd.lr`, `train/loss`, `metric.accuracy`, `min(train/loss)`.
    pub fn of(text: &str) -> Key {
        let text = text.trim();
        let call = text.split_once('(').and_then(|(function, rest)| Some((function.trim(), rest.strip_suffix(')')?)));
        let which = call.and_then(|(function, _)| match function {
            "min" => Some(Which::Min),
            "max" => Some(Which::Max),
            "last" => Some(Which::Last),
            _ => None,
        });
        let name = match (which, call) {
            (Some(_), Some((_, inner))) => inner.trim(),
            _ => text,
        };
        Key { text: text.to_owned(), name: name.to_owned(), which }
    }

    /// Reads columns, parted by commas.
    pub fn list(text: &str) -> Vec<Key> {
        text.split(',').map(str::trim).filter(|key| !key.is_empty()).map(Key::of).collect()
    }

    /// Its value of a run; `None` where the run has none.
    pub fn value(&self, run: &Run) -> Option<Value> {
        if let Some(which) = self.which {
            return metric_value(self.metric(run)?, which);
        }
        if FIELDS.contains(&self.name.as_str()) {
            return field(run, &self.name);
        }
        if let Some(value) = run.options.get(&self.name) {
            return Some(value.clone());
        }
        metric_value(self.metric(run)?, Which::Last)
    }

    /// The curve that is meant: that of the tag; of `metric.NAME` and `metric.NAME:VALUE` the only one whose tag ends so.
    pub fn metric<'a>(&self, run: &'a Run) -> Option<&'a Metric> {
        if let Some(metric) = run.metrics.get(&self.name) {
            return Some(metric);
        }
        let ending = self.name.strip_prefix("metric.").map_or(self.name.clone(), |name| name.replace(':', "/"));
        let ends =
            |tag: &str| tag.strip_suffix(&ending).is_some_and(|before| before.is_empty() || before.ends_with('/'));
        let mut found = run.metrics.iter().filter(|(tag, _)| ends(tag));
        let first = found.next()?;
        found.next().is_none().then_some(first.1)
    }

    /// Whether any of the runs has it; where none does, the names that are like it.
    pub fn known<R: Borrow<Run>>(&self, runs: &[R]) -> Result<(), Vec<String>> {
        let is_field = self.which.is_none() && FIELDS.contains(&self.name.as_str());
        if is_field || runs.iter().any(|run| self.value(run.borrow()).is_some()) {
            return Ok(());
        }
        let mut names: BTreeSet<&str> = FIELDS.into();
        for run in runs.iter().map(R::borrow) {
            names.extend(run.options.keys().map(String::as_str));
            names.extend(run.metrics.keys().map(String::as_str));
        }
        let mut near: Vec<(f64, &str)> = names
            .into_iter()
            .map(|name| (strsim::jaro_winkler(name, &self.name), name))
            .filter(|(likeness, _)| *likeness > 0.8)
            .collect();
        near.sort_by(|a, b| b.0.total_cmp(&a.0));
        Err(near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect())
    }
}

fn metric_value(metric: &Metric, which: Which) -> Option<Value> {
    let at = match which {
        Which::Last => Some(metric.last),
        Which::Min => metric.min,
        Which::Max => metric.max,
    };
    at.map(|at| number(at.value))
}

fn field(run: &Run, name: &str) -> Option<Value> {
    let value = match name {
        "name" => json!(run.name),
        "pipeline" => json!(run.pipeline),
        "status" => json!(run.status),
        "created" => json!(run.created),
        "seconds" => json!(run.seconds),
        "steps" => json!(run.steps),
        "epochs" => json!(run.epochs),
        "device" => json!(run.device),
        "seed" => json!(run.seed),
        "tags" => json!(run.tags),
        "group" => json!(run.group),
        "note" => json!(run.note),
        "error" => json!(run.error),
        "folder" => json!(run.folder),
        "generation" => json!(run.generation),
        "fork" => json!(run.forked_from.as_ref()?["run"]),
        _ => Value::Null,
    };
    (!value.is_null()).then_some(value)
}
