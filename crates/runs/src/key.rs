//! A column of a table of runs: something that is known of a run, an option of its pipeline, what a curve came to.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use pipe_vocab::record::number;
use serde_json::{Value, json};

use crate::run::{Metric, Run};

/// What is known of every run, by name.
pub const FIELDS: [&str; 18] = [
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
    "job",
    "state",
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

    /// Whether any of the runs has it; where none does, the names that are like it. A word that both options and curves end with is neither.
    pub fn known<R: Borrow<Run>>(&self, runs: &[R]) -> Result<(), Vec<String>> {
        let is_field = self.which.is_none() && FIELDS.contains(&self.name.as_str());
        if is_field {
            return Ok(());
        }
        let has = |run: &Run| run.options.contains_key(&self.name) || run.metrics.contains_key(&self.name);
        if self.which.is_none() && !runs.iter().any(|run| has(run.borrow())) {
            let options = ending(&format!(".{}", self.name), runs, |run| run.options.keys());
            let curves = ending(&format!("/{}", self.name), runs, |run| run.metrics.keys());
            if !options.is_empty() && !curves.is_empty() {
                return Err(options.into_iter().take(2).chain(curves.into_iter().take(2)).collect());
            }
        }
        if runs.iter().any(|run| self.value(run.borrow()).is_some()) {
            return Ok(());
        }
        Err(nearest(&self.name, &self.meant(runs)))
    }

    /// What may have been meant: of one that asks for a curve's value, curves.
    fn meant<R: Borrow<Run>>(&self, runs: &[R]) -> BTreeSet<String> {
        let mut curves = BTreeSet::new();
        let mut names = BTreeSet::new();
        for run in runs.iter().map(R::borrow) {
            curves.extend(run.metrics.iter().map(|(tag, metric)| (tag.as_str(), metric.node.as_str())));
            if self.which.is_none() {
                names.extend(run.options.keys().map(String::as_str));
            }
        }
        if self.which.is_none() {
            names.extend(FIELDS);
        }
        let mut names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
        for (tag, node) in curves {
            names.insert(tag.to_owned());
            // Whoever writes a metric's name is told it as it can be written here.
            if self.name.starts_with("metric") && Key::of(node).known_as(tag, runs) {
                names.insert(node.to_owned());
            }
        }
        names
    }

    /// Whether it means the curve of a tag in one of the runs.
    fn known_as<R: Borrow<Run>>(&self, tag: &str, runs: &[R]) -> bool {
        let means = |run: &Run| {
            self.metric(run).is_some_and(|own| run.metrics.get(tag).is_some_and(|of| std::ptr::eq(own, of)))
        };
        runs.iter().any(|run| means(run.borrow()))
    }
}

/// The names of runs that end so.
fn ending<'a, R: Borrow<Run>, N: Iterator<Item = &'a String>>(
    end: &str,
    runs: &'a [R],
    names: impl Fn(&'a Run) -> N,
) -> BTreeSet<String> {
    runs.iter().flat_map(|run| names(run.borrow())).filter(|name| name.ends_with(end)).cloned().collect()
}

/// That no run has a key, and what it may have been meant for.
pub(crate) fn unknown(key: &Key, near: &[String]) -> String {
    let hint = if near.is_empty() { String::new() } else { format!("; there is `{}`", near.join("`, `")) };
    let what = if key.which.is_some() { "a curve " } else { "" };
    format!("no run has {what}`{}`{hint}", key.name)
}

/// The names that are most like one, three at most, the likest first.
fn nearest(wanted: &str, names: &BTreeSet<String>) -> Vec<String> {
    // Longer ones are nobody's mistake in writing.
    if wanted.chars().count() > 200 {
        return Vec::new();
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let wanted = plain(wanted);
    let mut near: Vec<(f64, &String)> = names.iter().map(|name| (likeness(&wanted, &plain(name)), name)).collect();
    let best = near.iter().map(|(likeness, _)| *likeness).fold(0.0, f64::max);
    near.retain(|(likeness, _)| *likeness >= NEAR && *likeness > best - 0.1);
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(3).map(|(_, name)| name.clone()).collect()
}

/// Names that are less alike than this were hardly meant.
const NEAR: f64 = 0.7;

/// How much a name is like another, from 0 to 1: as a whole, or as the end of it, such as `accuracy` of `eval/accuracy`.
fn likeness(wanted: &str, name: &str) -> f64 {
    let alike = |part: &str| match wanted.len() >= 3 && part.starts_with(wanted) {
        true => 0.9,
        false => strsim::normalized_damerau_levenshtein(wanted, part),
    };
    let ends = name.match_indices(['.', '/', ':']).map(|(at, _)| alike(&name[at + 1..]) - 0.05);
    ends.fold(alike(name), f64::max)
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
        // Without why it is this one.
        "device" => json!(run.device.as_deref().and_then(|device| device.split(',').next())),
        "seed" => json!(run.seed),
        "tags" => json!(run.tags),
        "group" => json!(run.group),
        "note" => json!(run.note),
        "error" => json!(run.error),
        "folder" => json!(run.folder),
        "generation" => json!(run.generation),
        "job" => json!(run.job.as_ref()?.receipt.job),
        "state" => json!(run.job.as_ref()?.state),
        "fork" => json!(run.forked_from.as_ref()?["run"]),
        _ => Value::Null,
    };
    (!value.is_null()).then_some(value)
}
