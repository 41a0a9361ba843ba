//! Events of engines, and on which of their occurrences targets run.

use crate::contract::Event;

/// Names of the events that every engine fires; those of PyTorch-Ignite.
pub mod names {
    /// The engine starts.
    pub const STARTED: &str = "started";
    /// An epoch starts.
    pub const EPOCH_STARTED: &str = "epoch_started";
    /// Before a batch is requested.
    pub const GET_BATCH_STARTED: &str = "get_batch_started";
    /// After a batch was received.
    pub const GET_BATCH_COMPLETED: &str = "get_batch_completed";
    /// Before an iteration.
    pub const ITERATION_STARTED: &str = "iteration_started";
    /// After an iteration.
    pub const ITERATION_COMPLETED: &str = "iteration_completed";
    /// The loader has no more batches.
    pub const DATALOADER_STOP_ITERATION: &str = "dataloader_stop_iteration";
    /// An error stops the engine.
    pub const EXCEPTION_RAISED: &str = "exception_raised";
    /// A handler stopped the epoch.
    pub const TERMINATE_SINGLE_EPOCH: &str = "terminate_single_epoch";
    /// An epoch is completed.
    pub const EPOCH_COMPLETED: &str = "epoch_completed";
    /// A handler stopped the engine.
    pub const TERMINATE: &str = "terminate";
    /// Ctrl-C stopped the engine.
    pub const INTERRUPT: &str = "interrupt";
    /// The engine is completed.
    pub const COMPLETED: &str = "completed";
    /// A checkpoint handler has saved one: its own event, not an engine's.
    pub const SAVED_CHECKPOINT: &str = "saved_checkpoint";
}

/// What `pipe components` says of the events of engines.
pub const ENGINE_EVENTS: &[Event] = &[
    Event { name: names::STARTED, doc: "the engine starts" },
    Event { name: names::EPOCH_STARTED, doc: "an epoch starts" },
    Event { name: names::GET_BATCH_STARTED, doc: "before a batch is requested" },
    Event { name: names::GET_BATCH_COMPLETED, doc: "after a batch was received" },
    Event { name: names::ITERATION_STARTED, doc: "before an iteration" },
    Event { name: names::ITERATION_COMPLETED, doc: "after an iteration" },
    Event { name: names::DATALOADER_STOP_ITERATION, doc: "the loader has no more batches" },
    Event { name: names::EXCEPTION_RAISED, doc: "an error stops the engine" },
    Event { name: names::TERMINATE_SINGLE_EPOCH, doc: "a handler stopped the epoch" },
    Event { name: names::EPOCH_COMPLETED, doc: "an epoch is completed" },
    Event { name: names::TERMINATE, doc: "a handler stopped the engine" },
    Event { name: names::INTERRUPT, doc: "Ctrl-C stopped the engine" },
    Event { name: names::COMPLETED, doc: "the engine is completed" },
];

/// On which occurrences of an event its targets run. `count` is the engine's iteration for iteration events, its epoch
/// for the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Every n-th time; with `after`, counted from there.
    pub every: Option<u64>,
    /// At these counts, once each.
    pub once: Vec<u64>,
    /// Only below this count.
    pub before: Option<u64>,
    /// Only above this count.
    pub after: Option<u64>,
    /// Also the first time, whatever `every` says.
    pub first: bool,
}

impl Filter {
    /// Whether the targets run at this count.
    pub fn passes(&self, count: u64) -> bool {
        let after = self.after.unwrap_or(0);
        if count <= after && self.after.is_some() || self.before.is_some_and(|before| count >= before) {
            return false;
        }
        if self.first && count == after + 1 {
            return true;
        }
        let every = match (self.every, self.after) {
            (None, _) => self.once.is_empty() && !self.first,
            (Some(n), None) => count.is_multiple_of(n),
            // Ignite counts from the first event that is let through.
            (Some(n), Some(after)) => (count - after - 1).is_multiple_of(n),
        };
        every || self.once.contains(&count)
    }
}
