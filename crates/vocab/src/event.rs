//! Events of engines, and on which of their occurrences targets run.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::contract::Event;

/// One list of the events, for the type, their names and what is said of them.
macro_rules! engine_events {
    ($($event:ident, $name:literal, $doc:literal;)*) => {
        /// The events that every engine fires, under PyTorch-Ignite's names.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum EngineEvent {
            $(#[doc = $doc] #[serde(rename = $name)] $event,)*
        }

        impl EngineEvent {
            /// All of them.
            pub const ALL: &[EngineEvent] = &[$(EngineEvent::$event,)*];

            /// Its name in a pipeline.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$event => $name,)*
                }
            }
        }

        /// What `pipe components` says of the events of engines.
        pub const ENGINE_EVENTS: &[Event] = &[$(Event { name: $name, doc: $doc },)*];
    };
}

// In the order in which a run fires them.
engine_events! {
    Started, "started", "the engine starts";
    EpochStarted, "epoch_started", "an epoch starts";
    GetBatchStarted, "get_batch_started", "before a batch is requested";
    DataloaderStopIteration, "dataloader_stop_iteration", "a pass over the loader's data has ended; the next begins";
    GetBatchCompleted, "get_batch_completed", "after a batch was received";
    IterationStarted, "iteration_started", "before an iteration";
    BackwardCompleted, "backward_completed", "in training, after the gradients of a batch were computed";
    OptimizerStepCompleted, "optimizer_step_completed", "in training, after the optimizer's step";
    IterationCompleted, "iteration_completed", "after an iteration";
    TerminateSingleEpoch, "terminate_single_epoch", "a handler stopped the epoch";
    EpochCompleted, "epoch_completed", "an epoch is completed";
    Terminate, "terminate", "a handler stopped the engine";
    ExceptionRaised, "exception_raised", "an error stops the engine";
    Interrupt, "interrupt", "Ctrl-C stopped the engine";
    Completed, "completed", "the engine is completed";
}

impl EngineEvent {
    /// Whether filters count iterations at this event; otherwise epochs.
    pub const fn counts_iterations(self) -> bool {
        use EngineEvent::OptimizerStepCompleted;
        use EngineEvent::{
            BackwardCompleted, GetBatchCompleted, GetBatchStarted, IterationCompleted, IterationStarted,
        };
        matches!(self, GetBatchStarted | GetBatchCompleted | IterationStarted | IterationCompleted)
            || matches!(self, BackwardCompleted | OptimizerStepCompleted)
    }
}

/// The event of a checkpoint handler: it has saved one.
pub const SAVED_CHECKPOINT: &str = "saved";

/// An event: one of an engine, or a handler's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventName<'a> {
    /// One that every engine fires.
    Engine(EngineEvent),
    /// One that a handler declares.
    Own(&'a str),
}

impl<'a> EventName<'a> {
    /// Its name in a pipeline.
    pub fn as_str(self) -> &'a str {
        match self {
            EventName::Engine(event) => event.name(),
            EventName::Own(name) => name,
        }
    }
}

impl<'a> From<&'a str> for EventName<'a> {
    fn from(name: &'a str) -> Self {
        let of_engines = EngineEvent::ALL.iter().find(|event| event.name() == name);
        of_engines.map_or(EventName::Own(name), |event| EventName::Engine(*event))
    }
}

impl fmt::Display for EventName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl PartialEq<EngineEvent> for EventName<'_> {
    fn eq(&self, other: &EngineEvent) -> bool {
        *self == EventName::Engine(*other)
    }
}

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
