//! The context of a handler call, and how engines and handlers reach the targets of events.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::ControlFlow;

use anyhow::Result;
use pipe_vocab::{NodeId, event::EventName};

use super::engine_state::EngineState;
use super::process::Step;
use crate::context::RunContext;

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
    /// Runs the targets of an event, in the order of the file, less those that are done by [`EventContext::cut`]. An error of one
    /// does not keep the others from running; an interruption does.
    ///
    /// # Errors
    /// All errors of the targets, the first as the cause.
    fn fire(&self, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>>;

    /// Called by `engine` between its iterations and after its epochs; it holds nothing borrowed meanwhile.
    fn pause(&self, engine: &NodeId, boundary: Boundary);
}

/// How far an event has come, for a checkpoint that is taken in the middle of it.
#[derive(Debug, Default)]
pub struct Cut {
    /// Targets that have run and will not run again, were the run resumed from here.
    pub done: RefCell<Vec<NodeId>>,
    /// Whether an event of a handler's own was cut off by an interruption.
    pub interrupted: Cell<bool>,
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
    /// The iteration's batch and output, on `iteration_completed`; see [`EventContext::step`].
    pub step: Option<&'a Step>,
    /// How far this event has come.
    pub cut: &'a Cut,
}

/// There is no batch at hand: not on this event, or because the run was resumed between two targets of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoStep;

impl fmt::Display for NoStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch is available on `iteration_completed` only")
    }
}

impl std::error::Error for NoStep {}

impl<'a> EventContext<'a> {
    /// The iteration's batch and output.
    ///
    /// # Errors
    /// [`NoStep`] on other events than `iteration_completed`, and where a resume continues in the middle of it.
    pub fn step(&self) -> Result<&'a Step> {
        self.step.ok_or_else(|| NoStep.into())
    }

    /// Fires an event of a handler's own, such as `saved_checkpoint`.
    ///
    /// # Errors
    /// Those of its targets.
    pub fn fire(&self, node: &NodeId, event: &str) -> Result<()> {
        let flow =
            self.dispatch.fire(&EventContext { node, event: EventName::Own(event), cut: &Cut::default(), ..*self })?;
        if flow.is_break() {
            self.cut.interrupted.set(true);
        }
        Ok(())
    }
}
