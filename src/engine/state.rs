//! Where an engine stands, and how far it may run.

use serde::{Deserialize, Serialize};

/// How far an engine may run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Epochs in all.
    pub max_epochs: Option<u64>,
    /// Iterations in all.
    pub max_iterations: Option<u64>,
    /// Iterations in one epoch, when fewer than the loader has.
    pub epoch_length: Option<u64>,
}

/// Where an engine stands. Saved in checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState {
    /// Iterations begun, over all epochs.
    pub iteration: u64,
    /// The epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// Iterations begun in this epoch.
    pub epoch_iteration: u64,
    /// Whether the epoch has begun and not ended: a resume goes on inside it.
    pub in_epoch: bool,
    /// Batches in an epoch of the loader, when it knows.
    pub epoch_length: Option<u64>,
}

impl EngineState {
    /// Starts again from nothing when the limits had been reached, or when `afresh`.
    pub(super) fn prepare(&mut self, limits: Limits, afresh: bool) {
        if afresh || self.finished(limits) {
            *self = EngineState::default();
        }
    }

    /// Whether the limits have been reached.
    pub fn finished(&self, limits: Limits) -> bool {
        let epochs = limits.max_epochs.is_some_and(|max| self.epoch >= max && !self.in_epoch);
        epochs || limits.max_iterations.is_some_and(|max| self.iteration >= max)
    }

    /// Whether no further iteration belongs to this epoch.
    pub(super) fn epoch_full(&self, limits: Limits) -> bool {
        limits.epoch_length.is_some_and(|length| self.epoch_iteration >= length)
            || limits.max_iterations.is_some_and(|max| self.iteration >= max)
    }

    /// Begins an epoch, or goes on inside one (then `true`).
    pub(super) fn begin_epoch(&mut self, epoch_length: Option<usize>) -> bool {
        self.epoch_length = epoch_length.map(|length| length as u64);
        let resumed = self.in_epoch;
        if !resumed {
            self.epoch += 1;
            self.epoch_iteration = 0;
            self.in_epoch = true;
        }
        resumed
    }

    pub(super) fn begin_iteration(&mut self) {
        self.iteration += 1;
        self.epoch_iteration += 1;
    }

    pub(super) fn end_epoch(&mut self) {
        self.in_epoch = false;
    }
}
