//! An engine's state, and how far it may run.

use pipe_vocab::NodeId;
use pipe_vocab::event::EngineEvent;
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

/// An engine's state. Saved in checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineState {
    /// Iterations begun, over all epochs.
    pub iteration: u64,
    /// The epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// Iterations begun in this epoch.
    pub epoch_iteration: u64,
    /// Whether the epoch has begun and its events have not ended: a resume continues inside it.
    pub in_epoch: bool,
    /// Batches in an epoch of the loader, when it knows.
    pub epoch_length: Option<u64>,
    /// The event whose targets are running: a resume continues with those that are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firing: Option<Firing>,
}

/// An event in the middle of its targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// The event.
    pub event: EngineEvent,
    /// The targets that a resume need not run again, in the order in which they ran.
    pub done: Vec<NodeId>,
}

impl EngineState {
    /// Starts again from nothing when the limits had been reached, or when `afresh`.
    pub fn prepare(&mut self, limits: Limits, afresh: bool) {
        if afresh || self.finished(limits) {
            *self = EngineState::default();
        }
    }

    /// Whether the limits have been reached, the events that belong to that included.
    pub fn finished(&self, limits: Limits) -> bool {
        self.firing.is_none() && !self.goes_on(limits)
    }

    /// Whether an epoch is left, be it only the end of one that was cut off after its last iteration.
    pub fn goes_on(&self, limits: Limits) -> bool {
        self.in_epoch || !self.at_limit(limits)
    }

    /// Whether nothing but events of the last epoch is left.
    pub fn last_epoch_done(&self, limits: Limits) -> bool {
        let Some(firing) = &self.firing else { return false };
        let last = limits.max_epochs.is_some_and(|max| self.epoch >= max);
        last && firing.event == EngineEvent::EpochCompleted || self.at_limit(limits)
    }

    /// Whether no further iteration may begin.
    pub fn at_limit(&self, limits: Limits) -> bool {
        let epochs = limits.max_epochs.is_some_and(|max| self.epoch >= max && !self.in_epoch);
        epochs || limits.max_iterations.is_some_and(|max| self.iteration >= max)
    }

    /// Whether no further iteration belongs to this epoch.
    pub fn epoch_full(&self, limits: Limits) -> bool {
        limits.epoch_length.is_some_and(|length| self.epoch_iteration >= length)
            || limits.max_iterations.is_some_and(|max| self.iteration >= max)
    }

    /// Begins an epoch, or continues inside one (then `true`).
    pub fn begin_epoch(&mut self, epoch_length: Option<usize>) -> bool {
        self.epoch_length = epoch_length.map(|length| length as u64);
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
    }

    /// Ends the epoch.
    pub fn end_epoch(&mut self) {
        self.in_epoch = false;
    }
}
