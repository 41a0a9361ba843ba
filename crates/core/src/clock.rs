//! The time of a run, and how far an engine is asked to stop.

use serde::{Deserialize, Serialize};

/// The time of the run, in the outermost engine's iterations and epochs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Iterations so far.
    pub step: u64,
    /// The epoch, counted from 1; 0 before the first.
    pub epoch: u64,
}

/// How far an engine is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Termination {
    /// The epoch only.
    Epoch,
    /// The whole run of the engine.
    Run,
}
