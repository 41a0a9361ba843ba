//! How a run stands, read from outside.

use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lock;

/// How a run stands, as its folder tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Its process is at work.
    Running,
    /// Its process is gone and did not say how it ended: killed, or the machine went down.
    Lost,
    /// It reached its end.
    Done,
    /// It was asked to end, and left a checkpoint if it had begun.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// It was given to an engine, such as SLURM, and has not begun.
    Submitted,
}

impl Status {
    /// All that there are.
    pub const ALL: [Status; 6] =
        [Status::Running, Status::Done, Status::Interrupted, Status::Failed, Status::Lost, Status::Submitted];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Running => "running",
            Status::Lost => "lost",
            Status::Done => "done",
            Status::Interrupted => "interrupted",
            Status::Failed => "failed",
            Status::Submitted => "submitted",
        })
    }
}

/// What `run.json` in a folder says; nothing where there is none.
pub fn read(folder: &Path) -> Map<String, Value> {
    let text = fs::read_to_string(folder.join("run.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// How the run in a folder stands, from `run.json`, the lock and the heartbeat; `None` where there is no run.
pub fn status(folder: &Path) -> Option<Status> {
    Some(match read(folder).get("status")?.as_str()? {
        "done" => Status::Done,
        "interrupted" => Status::Interrupted,
        "failed" => Status::Failed,
        _ if lock::alive(folder) => Status::Running,
        _ => Status::Lost,
    })
}

/// When a run was created, in seconds since 1970: its first life, if it was resumed.
pub fn created(info: &Map<String, Value>) -> f64 {
    let first = info.get("earlier").and_then(|earlier| earlier.get(0)?.get("started")?.as_f64());
    let own = |name: &str| info.get(name).and_then(Value::as_f64);
    own("created").or(first).or(own("started")).unwrap_or_default()
}

/// How often what a run recorded was cut off, so that it could go on from before.
pub fn generation(info: &Map<String, Value>) -> u64 {
    info.get("generation").and_then(Value::as_u64).unwrap_or_default()
}
