//! An engine's state, and how far it may run.

use serde::{Deserialize, Serialize};

/// How far an engine may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Epochs in all.
    pub max_epochs: Option<u64>,
    /// Iterations in all.
    pub max_iterations: Option<u64>,
    /// Iterations in one epoch, where an epoch is not one pass over the loader's data.
    pub epoch_length: Option<u64>,
}

/// An engine's state. Saved in checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState {
    /// Iterations begun, over all epochs.
    pub iteration: u64,
    /// The epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// Iterations begun in this epoch.
    pub epoch_iteration: u64,
    /// Whether a run of the engine has begun and not ended.
    pub running: bool,
    /// The limits under which the latest run of the engine came to its end: at them, or because a handler ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Limits>,
    /// Whether the epoch has begun and its events have not ended: a resume continues inside it.
    pub in_epoch: bool,
    /// Whether `get_batch_started` has fired for a batch that has not come yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asked: bool,
    /// Whether the iteration has begun and its batch has not been processed yet.
    pub begun: bool,
    /// Batches in a pass over the loader's data, when it is known.
    pub epoch_length: Option<u64>,
    /// The pass over the loader's data, counted from 0.
    pub pass: u64,
    /// Batches taken of this pass.
    pub pass_used: u64,
}

impl EngineState {
    /// Whether an epoch is left, be it only the end of one that was cut off after its last iteration.
    pub fn goes_on(&self, limits: Limits) -> bool {
        self.in_epoch || !self.at_limit(limits)
    }

    /// Whether no further iteration may begin.
    pub fn at_limit(&self, limits: Limits) -> bool {
        let epochs = limits.max_epochs.is_some_and(|max| self.epoch >= max && !self.in_epoch);
        epochs || limits.max_iterations.is_some_and(|max| self.iteration >= max)
    }

    /// Whether no further iteration belongs to this epoch.
    pub fn epoch_full(&self, limits: Limits) -> bool {
        limits.epoch_length.or(self.epoch_length).is_some_and(|length| self.epoch_iteration >= length)
            || limits.max_iterations.is_some_and(|max| self.iteration >= max)
    }

    /// Begins an epoch, or continues inside one (then `true`).
    pub fn begin_epoch(&mut self, epoch_length: Option<u64>) -> bool {
        self.epoch_length = epoch_length;
        let resumed = self.in_epoch;
        if !resumed {
            self.epoch += 1;
            self.epoch_iteration = 0;
            self.in_epoch = true;
        }
        resumed
    }

    /// Begins an iteration.
    pub fn begin_iteration(&mut self) {
        self.iteration += 1;
        self.epoch_iteration += 1;
        self.begun = true;
    }

    /// Begins the next pass over the data.
    pub fn begin_pass(&mut self) {
        self.pass += 1;
        self.pass_used = 0;
    }
}
