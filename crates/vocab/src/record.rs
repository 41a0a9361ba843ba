//! Records: what a run measures, on its way to sinks.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kind::NodeId;
use crate::objects::Objects;
use crate::value_ref::ValueRef;

/// Something measured.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name, grouped by `/`.
    pub tag: String,
    /// What was measured.
    pub value: RecordValue,
    /// Iterations of the outermost engine so far.
    pub step: u64,
    /// The outermost engine's epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// The node that measured it.
    pub node: NodeId,
    /// Seconds since 1970.
    pub time: f64,
}

/// The kinds of records.
#[derive(Debug, Clone)]
pub enum RecordValue {
    /// A number.
    Scalar(f64),
    /// An image, RGB bytes row by row.
    Image {
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// `height * width * 3` bytes.
        rgb: Vec<u8>,
        /// What is to be seen on it, which is not drawn yet.
        objects: Option<Box<Objects>>,
    },
    /// Markdown.
    Text(String),
    /// Values whose distribution is of interest.
    Histogram(Vec<f32>),
    /// How precision and recall of a class depend on confidence. Counts `[T]` are of what is scored at or above each of the thresholds
    /// 0, …, 1, evenly spaced.
    PrCurve {
        /// Right ones.
        true_positives: Vec<u32>,
        /// Wrong ones.
        false_positives: Vec<u32>,
        /// All that is to be found.
        positives: u32,
    },
    /// Which class is found as which.
    Confusion {
        /// The classes, rows and columns.
        names: Vec<String>,
        /// Row (what it is), column (what it is found as) and number, in order, without those that are 0.
        cells: Vec<[u32; 3]>,
    },
    /// The settings of the run, with the names of the values it is judged by.
    HParams {
        /// Setting and value.
        settings: Vec<(String, Value)>,
        /// Tags of scalars.
        metrics: Vec<String>,
    },
    /// A file that was written.
    Artifact(PathBuf),
}

impl RecordValue {
    /// The kind's name in `records.jsonl`.
    pub fn kind(&self) -> &'static str {
        match self {
            RecordValue::Scalar(_) => "scalar",
            RecordValue::Image { .. } => "image",
            RecordValue::Text(_) => "text",
            RecordValue::Histogram(_) => "histogram",
            RecordValue::PrCurve { .. } => "pr_curve",
            RecordValue::Confusion { .. } => "confusion",
            RecordValue::HParams { .. } => "hparams",
            RecordValue::Artifact(_) => "artifact",
        }
    }
}

impl Record {
    /// The record as one line of `records.jsonl`. Images, histograms, curves and matrices are told by size and range; JSON has no NaN and
    /// no infinity, so those become texts.
    pub fn to_json(&self) -> Value {
        let value = match &self.value {
            RecordValue::Scalar(value) => number(*value),
            RecordValue::Image { height, width, .. } => json!({ "height": height, "width": width }),
            RecordValue::Text(text) => json!(text),
            RecordValue::Histogram(values) => {
                let (min, max) =
                    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), &v| (a.min(v), b.max(v)));
                let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64;
                json!({ "count": values.len(), "min": number(min.into()), "max": number(max.into()), "mean": number(mean) })
            }
            RecordValue::PrCurve { true_positives, positives, .. } => {
                json!({ "thresholds": true_positives.len(), "positives": positives })
            }
            RecordValue::Confusion { names, cells } => {
                let all: u64 = cells.iter().map(|cell| u64::from(cell[2])).sum();
                json!({ "classes": names.len(), "count": all })
            }
            RecordValue::HParams { settings, metrics } => {
                let settings: serde_json::Map<String, Value> = settings.iter().cloned().collect();
                json!({ "settings": settings, "metrics": metrics })
            }
            RecordValue::Artifact(path) => json!(path.display().to_string()),
        };
        json!({
            "kind": self.value.kind(), "tag": self.tag, "value": value, "step": self.step, "epoch": self.epoch,
            "node": self.node.to_string(), "time": self.time,
        })
    }
}

/// A number as JSON: non-finite ones as `"NaN"`, `"Infinity"`, `"-Infinity"`.
pub fn number(value: f64) -> Value {
    if value.is_nan() {
        json!("NaN")
    } else if value.is_infinite() {
        json!(if value > 0.0 { "Infinity" } else { "-Infinity" })
    } else {
        json!(value)
    }
}

/// A number that [`number`] wrote; `None` for anything else.
pub fn read_number(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

/// A number for people, with four decimals or about four digits that count: 0.9910, 2.3026, 0.0263, 123.5, 1.23e-7.
pub fn short(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || !value.is_finite() {
        return format!("{value}");
    }
    if !(1e-4..1e6).contains(&size) {
        return format!("{value:.2e}");
    }
    let decimals = match size {
        0.1..100.0 => 4,
        _ => (3 - size.log10().floor() as i32).max(0) as usize,
    };
    let text = format!("{value:.decimals$}");
    if size < 0.1 { text.trim_end_matches('0').to_owned() } else { text }
}

/// An engine's state, passed to sinks after every iteration.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The engine.
    pub engine: NodeId,
    /// Whether no other engine runs this one.
    pub outermost: bool,
    /// Its epoch, counted from 1.
    pub epoch: u64,
    /// How many epochs it will run, when known.
    pub max_epochs: Option<u64>,
    /// Iterations done in this epoch.
    pub epoch_iteration: u64,
    /// Iterations in an epoch, when known.
    pub epoch_length: Option<u64>,
    /// Iterations done in all.
    pub iteration: u64,
    /// How many iterations it will run in all, when known.
    pub max_iterations: Option<u64>,
    /// Samples in this iteration.
    pub samples: u64,
    /// Values worth showing beside the bar: the loss, the learning rate.
    pub values: Vec<(String, f64)>,
}

/// Values of metrics that were computed together, told after their records, for those who show them as one.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The evaluation; none where an event computed a metric.
    pub engine: Option<NodeId>,
    /// Iterations of the outermost engine so far.
    pub step: u64,
    /// The outermost engine's epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// The values, metric by metric, in the order in which each reports them.
    pub values: Vec<(ValueRef, f64)>,
    /// Of the monitored ones the best so far.
    pub best: Vec<Best>,
}

/// The best of a monitored value so far.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Best {
    /// The value.
    pub monitor: ValueRef,
    /// How good it was.
    pub value: f64,
    /// The step at which it was measured.
    pub step: u64,
    /// The epoch, where it was in this life of the run.
    pub epoch: Option<u64>,
}

/// The best checkpoint by a monitored value.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BestCheckpoint {
    /// The value.
    pub monitor: ValueRef,
    /// How good it was.
    pub value: f64,
    /// The step of the checkpoint.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// How a run ended, for sinks and the console.
#[derive(Debug, Clone)]
pub struct Summary {
    /// `done`, `failed` or `interrupted`.
    pub status: String,
    /// The run's folder.
    pub folder: PathBuf,
    /// Time from start to end.
    pub elapsed: Duration,
    /// The last value of every metric.
    pub values: Vec<(String, f64)>,
    /// The latest checkpoint.
    pub checkpoint: Option<PathBuf>,
    /// The best checkpoints, one a monitored value.
    pub best: Vec<BestCheckpoint>,
    /// The error, when it failed.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0123, 0.05, 0.00037216, 0.00001234, 0.99104, 1.0, 12.3456, 123.456, 65432.1, -0.5, f64::NAN];
        let texts = [
            "0.0123",
            "0.05",
            "0.0003722",
            "1.23e-5",
            "0.9910",
            "1.0000",
            "12.3456",
            "123.5",
            "65432",
            "-0.5000",
            "NaN",
        ];
        assert_eq!(numbers.map(short), texts);
    }
}
