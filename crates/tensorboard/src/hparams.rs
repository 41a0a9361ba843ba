//! The HPARAMS page: what a run was set to, which of its metrics matter, and how it ended.

use super::proto::Message;
use super::summary;

/// The value of one hyperparameter.
#[derive(Clone, Debug, PartialEq)]
pub enum HParam {
    /// A number; one that is not finite is stored as text, because the page's JSON has no such numbers.
    Number(f64),
    /// A string.
    Text(String),
    /// A switch.
    Bool(bool),
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionStatus {
    /// The run finished.
    Success = 1,
    /// The run failed or was interrupted.
    Failure = 2,
}

/// `tensorboard.hparams.DataType`.
enum DataType {
    String = 1,
    Bool = 2,
    Float64 = 3,
}

impl HParam {
    fn data_type(&self) -> DataType {
        match self {
            Self::Number(number) if number.is_finite() => DataType::Float64,
            Self::Number(_) | Self::Text(_) => DataType::String,
            Self::Bool(_) => DataType::Bool,
        }
    }

    /// `google.protobuf.Value`.
    fn message(&self) -> Message {
        match self {
            Self::Number(number) if number.is_finite() => Message::new().double(2, *number),
            Self::Number(number) => Message::new().string(3, &number.to_string()),
            Self::Text(text) => Message::new().string(3, text),
            Self::Bool(on) => Message::new().bool(4, *on),
        }
    }
}

/// `Experiment`: the columns of the page.
pub(super) fn experiment(hparams: &[(&str, HParam)], metrics: &[&str], wall_time: f64) -> Message {
    let mut experiment = Message::new().double(3, wall_time);
    for (name, value) in hparams {
        let info = Message::new().string(1, name).int(4, value.data_type() as i64);
        experiment = experiment.message(4, &info);
    }
    for tag in metrics {
        // The group stays empty: the metric is in the run's own folder.
        let info = Message::new().message(1, &Message::new().string(2, tag));
        experiment = experiment.message(5, &info);
    }
    plugin_value("_hparams_/experiment", 2, &experiment)
}

/// `SessionStartInfo`: the values of this run.
pub(super) fn session_start(hparams: &[(&str, HParam)], wall_time: f64) -> Message {
    let mut info = Message::new();
    for (name, value) in hparams {
        // A map entry: key 1, value 2.
        info = info.message(1, &Message::new().string(1, name).message(2, &value.message()));
    }
    plugin_value("_hparams_/session_start_info", 3, &info.double(5, wall_time))
}

/// `SessionEndInfo`: how and when it ended.
pub(super) fn session_end(status: SessionStatus, wall_time: f64) -> Message {
    let info = Message::new().int(1, status as i64).double(2, wall_time);
    plugin_value("_hparams_/session_end_info", 4, &info)
}

/// The plugin keeps its data in the metadata alone; there is no tensor. `field` is the member of `HParamsPluginData`.
fn plugin_value(tag: &str, field: u32, data: &Message) -> Message {
    let content = Message::new().int(1, 0).message(field, data);
    let metadata = summary::plugin_metadata("hparams", content, None);
    Message::new().string(1, tag).message(9, &metadata)
}
