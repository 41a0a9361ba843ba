//! Where a run stands: the events whose targets are running. A checkpoint keeps it, and a resume goes on from it.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use indexmap::IndexMap;
use pipe_history::Lengths;
use pipe_plugin::State;
use pipe_vocab::NodeId;
use pipe_vocab::event::{EngineEvent, EventName};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Tensor;

use crate::clock::{Clock, Termination};

/// An event in the middle of its targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The engine inside which it fired.
    pub engine: NodeId,
    /// The node that fired it: the engine, or a handler with events of its own.
    pub node: NodeId,
    /// Its name.
    pub event: String,
    /// The targets that a resume need not run again, in the order in which they ran.
    pub done: Vec<NodeId>,
}

impl Frame {
    /// The event, where it is an engine's.
    pub fn of_engine(&self) -> Option<EngineEvent> {
        match EventName::from(self.event.as_str()) {
            EventName::Engine(event) if self.node == self.engine => Some(event),
            _ => None,
        }
    }
}

/// All that changes in a run but its models and optimizers, at one point of it.
#[derive(Debug, Default)]
pub struct Moment {
    /// The time.
    pub clock: Clock,
    /// The events whose targets are running, outermost first.
    pub frames: Vec<Frame>,
    /// Bytes of `records.jsonl`.
    pub records: u64,
    /// How much there was of what is drawn of them.
    pub history: Option<Lengths>,
    /// The latest values, see [`crate::RunContext::values_with_steps`].
    pub values: BTreeMap<String, (Value, u64)>,
    /// Engines asked to stop.
    pub terminations: BTreeMap<NodeId, Termination>,
    /// What events have run `once`, as the table of events writes it.
    pub fired: Value,
    /// libtorch's random generators by device.
    pub random: IndexMap<String, Tensor>,
    /// States by node.
    pub nodes: Vec<(NodeId, State)>,
}

/// An event whose targets are running. It fires often and is looked at rarely: what it has run are numbers.
struct Running {
    /// The event, with what a former life of the run had done.
    frame: Frame,
    /// The targets, list by list.
    targets: Vec<Rc<[NodeId]>>,
    /// Which of them have run, counted through all lists.
    ran: Vec<usize>,
}

impl Running {
    fn frame(&self) -> Frame {
        let node = |position: &usize| self.targets.iter().flat_map(|list| list.iter()).nth(*position).cloned();
        let mut frame = self.frame.clone();
        frame.done.extend(self.ran.iter().filter_map(node));
        frame
    }
}

/// Where a run stands, as a stack of events, each inside a target of the one before.
#[derive(Default)]
pub struct Place {
    running: RefCell<Vec<Running>>,
    /// What a resume has yet to enter.
    resumed: RefCell<VecDeque<Frame>>,
    /// While it is set, the stack stays as it is: of a run that is interrupted, and of one whose error is being handled.
    frozen: Cell<bool>,
    /// The point before an engine whose half-done work is in no checkpoint: what is saved meanwhile goes on from there.
    mark: RefCell<Option<(NodeId, Moment)>>,
}

impl Place {
    /// An event begins to run its targets, list by list.
    pub fn enter(&self, frame: Frame, targets: Vec<Rc<[NodeId]>>) {
        if !self.frozen.get() {
            let ran = Vec::with_capacity(targets.iter().map(|list| list.len()).sum());
            self.running.borrow_mut().push(Running { frame, targets, ran });
        }
    }

    /// A target of the innermost event has run, as far as a resume is concerned: that of this position in its lists.
    pub fn done(&self, position: usize) {
        if !self.frozen.get()
            && let Some(event) = self.running.borrow_mut().last_mut()
        {
            event.ran.push(position);
        }
    }

    /// The innermost event has run its targets.
    pub fn leave(&self) {
        if !self.frozen.get() {
            self.running.borrow_mut().pop();
        }
    }

    /// Keeps the stack as it is from now on, or no longer; returns what was before.
    pub fn freeze(&self, frozen: bool) -> bool {
        self.frozen.replace(frozen)
    }

    /// The events whose targets are running, outermost first.
    pub fn frames(&self) -> Vec<Frame> {
        self.running.borrow().iter().map(Running::frame).collect()
    }

    /// Lets a run go on from here: engines and events take their frames as they come to them.
    pub fn resume(&self, frames: Vec<Frame>) {
        *self.resumed.borrow_mut() = frames.into();
    }

    /// The event in which this engine is to go on, if it is next; not a handler's own.
    pub fn resumed(&self, engine: &NodeId) -> Option<Frame> {
        self.resumed.borrow().front().filter(|frame| frame.engine == *engine && frame.node == *engine).cloned()
    }

    /// As [`Place::resumed`], which is then no longer to be entered.
    pub fn take_resumed(&self, engine: &NodeId) -> Option<Frame> {
        let frame = self.resumed(engine)?;
        self.resumed.borrow_mut().pop_front();
        Some(frame)
    }

    /// The event of a handler's own, inside one of this engine's, in which the run is to go on.
    pub fn take_resumed_own(&self, engine: &NodeId) -> Option<Frame> {
        let mut resumed = self.resumed.borrow_mut();
        let own = resumed.front().is_some_and(|frame| frame.engine == *engine && frame.node != *engine);
        if own { resumed.pop_front() } else { None }
    }

    /// Forgets what a resume has not entered: the pipeline no longer leads there.
    pub fn forget_resumed(&self) {
        self.resumed.borrow_mut().clear();
    }

    /// Whether the point before an engine is kept already.
    pub fn is_marked(&self) -> bool {
        self.mark.borrow().is_some()
    }

    /// Keeps the point before `engine` until [`Place::unmark`].
    pub fn mark(&self, engine: &NodeId, moment: Moment) {
        *self.mark.borrow_mut() = Some((engine.clone(), moment));
    }

    /// Drops the point before `engine`, if it is that engine's.
    pub fn unmark(&self, engine: &NodeId) {
        let own = self.mark.borrow().as_ref().is_some_and(|(marked, _)| marked == engine);
        if own {
            *self.mark.borrow_mut() = None;
        }
    }

    /// Calls `f` with the point that is kept, if there is one.
    pub fn with_mark<T>(&self, f: impl FnOnce(&Moment) -> T) -> Option<T> {
        self.mark.borrow().as_ref().map(|(_, moment)| f(moment))
    }
}
