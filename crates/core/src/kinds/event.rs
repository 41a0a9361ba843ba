//! The context of a handler call, and how engines and handlers reach the targets of events.

use std::cell::RefCell;
use std::ops::ControlFlow;

use anyhow::{Context, Result};
use pipe_vocab::{NodeId, event::EventName};

use super::engine_state::EngineState;
use super::step::Step;
use crate::context::RunContext;
use crate::place::Frame;

/// Why the control flow breaks: the run was interrupted and is to end with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// Where a run stands between two pieces of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// Between two iterations of the outermost engine.
    Iteration,
    /// After an epoch of the outermost engine, its events included.
    Epoch,
    /// Between two iterations that must not be parted: of an engine that another one's event runs, or while gradients wait
    /// for the optimizer's step. Time to read an edit, not to apply it.
    Inner,
}

/// What lies behind an engine's events: the joined nodes of the run.
pub trait Dispatch {
    /// Runs the targets of an event, in the order of the file, less those that were done where a resume goes on in it. An error
    /// of one does not keep the others from running; an interruption does.
    ///
    /// # Errors
    /// All errors of the targets, the first as the cause.
    fn fire(&self, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>>;

    /// Whether anything runs on an event of a node.
    fn listens(&self, node: &NodeId, event: &str) -> bool;

    /// A run of an engine begins: its counts are new, so what ran `once` may run again.
    fn begin(&self, engine: &NodeId);

    /// Called by `engine` between its iterations and after its epochs; it holds nothing borrowed meanwhile.
    fn pause(&self, engine: &NodeId, boundary: Boundary);
}

/// The context of a handler call.
pub struct EventContext<'a> {
    /// What everything running shares.
    pub run: &'a RunContext,
    /// The joined nodes, for events of a handler's own.
    pub dispatch: &'a dyn Dispatch,
    /// The engine inside which the event fired.
    pub engine: &'a NodeId,
    /// The node that fired it: the engine, or a handler with events of its own.
    pub node: &'a NodeId,
    /// The event.
    pub event: EventName<'a>,
    /// The count that filters see.
    pub count: u64,
    /// The engine's state.
    pub state: &'a EngineState,
    /// The iteration's batch and output, from `backward_completed` to `iteration_completed`; see [`EventContext::step`].
    pub step: Option<&'a Step>,
    /// Where a resume goes on in the middle of this event.
    pub resumed: Option<&'a Frame>,
    /// Events of the handler's own that are to fire once it has returned.
    pub own: &'a RefCell<Vec<String>>,
}

impl<'a> EventContext<'a> {
    /// The iteration's batch and output.
    ///
    /// # Errors
    /// On other events than those of an iteration's work.
    pub fn step(&self) -> Result<&'a Step> {
        self.step.with_context(|| {
            format!("a batch is available on `iteration_completed` and the like, not on `{}`", self.event)
        })
    }

    /// Fires an event of a handler's own, such as `saved`, once the handler has returned.
    pub fn fire(&self, event: &str) {
        self.own.borrow_mut().push(event.to_owned());
    }
}
