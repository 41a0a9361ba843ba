//! Handlers: called on events.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::model::ModelOutput;
use super::scheduler::Values;
use super::state::{Deferred, serve_state};
use crate::boundary::{Input, Remote, Served, no_method};
use crate::data::Batch;
use crate::message::{Message, Reader, Wire};
use crate::record::RecordValue;
use crate::state::{State, Stateful};
use crate::{Kind, NodeId};

const CALL: u32 = 1;
const FINISH: u32 = 2;

/// Called on the events that name it.
pub trait Handler: Stateful {
    /// Does its work.
    ///
    /// # Errors
    /// They never vanish: the other targets of the event run, then the engine stops with the error.
    fn call(&mut self, event: &Event) -> Result<()>;

    /// Told once when the run has ended, however it did.
    ///
    /// # Errors
    /// When what is left to do cannot be done.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What a handler is told, and what it can ask for.
#[derive(Debug)]
pub struct Event {
    /// The engine inside which the event fired.
    pub engine: NodeId,
    /// The node that fired it: the engine, or a handler with events of its own.
    pub node: NodeId,
    /// The event's name, such as `epoch_completed`.
    pub name: String,
    /// The count that filters see: the engine's iteration for iteration events, its epoch for the others.
    pub count: u64,
    /// The engine's epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// Iterations of the engine begun so far, over all epochs.
    pub iteration: u64,
    /// Iterations of the outermost engine so far: the time of the run.
    pub step: u64,
    /// The newest value of everything that was measured.
    pub values: Values,
    /// The iteration's batch and what the model made of it, on `iteration_completed`.
    pub output: Option<(Batch, ModelOutput)>,
    asked: RefCell<Vec<Action>>,
}

/// What a handler asks the program to do.
#[derive(Debug)]
pub enum Action {
    /// Record something under this tag.
    Emit(String, RecordValue),
    /// End the engine after this iteration.
    Terminate,
    /// End the engine's epoch after this iteration.
    TerminateEpoch,
}

impl Event {
    /// An event of an engine that stands at its beginning; for tests, with the fields that matter changed.
    pub fn new(engine: NodeId, name: &str) -> Event {
        Event {
            node: engine.clone(),
            engine,
            name: name.to_owned(),
            count: 1,
            epoch: 1,
            iteration: 1,
            step: 1,
            values: Values::default(),
            output: None,
            asked: RefCell::default(),
        }
    }

    /// Records a number.
    pub fn scalar(&self, tag: impl Into<String>, value: f64) {
        self.emit(tag, RecordValue::Scalar(value));
    }

    /// Records anything.
    pub fn emit(&self, tag: impl Into<String>, value: RecordValue) {
        self.asked.borrow_mut().push(Action::Emit(tag.into(), value));
    }

    /// Ends the engine after this iteration.
    pub fn terminate(&self) {
        self.asked.borrow_mut().push(Action::Terminate);
    }

    /// Ends the engine's epoch after this iteration.
    pub fn terminate_epoch(&self) {
        self.asked.borrow_mut().push(Action::TerminateEpoch);
    }

    /// What was asked for so far, in order; forgotten here.
    pub fn asked(&self) -> Vec<Action> {
        self.asked.take()
    }
}

impl Wire for Event {
    fn pack(&self, to: &mut Message) -> Result<()> {
        to.put(&(&self.engine, &self.node, &self.name, self.count, self.epoch, self.iteration, self.step))?;
        to.put(self.values.pairs())?;
        to.put(&self.output.is_some())?;
        self.output.iter().try_for_each(|(batch, output)| {
            batch.pack(to)?;
            output.pack(to)
        })
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        let (engine, node, name, count, epoch, iteration, step) = from.get()?;
        let values = Values::new(from.get::<BTreeMap<String, f64>>()?);
        let output = if from.get()? { Some((Batch::unpack(from)?, ModelOutput::unpack(from)?)) } else { None };
        Ok(Event { engine, node, name, count, epoch, iteration, step, values, output, asked: RefCell::default() })
    }
}

impl Wire for Action {
    fn pack(&self, to: &mut Message) -> Result<()> {
        match self {
            Action::Emit(tag, value) => {
                to.put(&(0u8, tag))?;
                value.pack(to)
            }
            Action::Terminate => to.put(&(1u8, "")),
            Action::TerminateEpoch => to.put(&(2u8, "")),
        }
    }

    fn unpack(from: &mut Reader<'_>) -> Result<Self> {
        Ok(match from.get::<(u8, String)>()? {
            (0, tag) => Action::Emit(tag, RecordValue::unpack(from)?),
            (1, _) => Action::Terminate,
            (2, _) => Action::TerminateEpoch,
            (other, _) => bail!("there is no action {other} of a handler"),
        })
    }
}

/// In a cell, so that a handler that calls itself through the program is an error and not a fault.
impl Served for RefCell<Box<dyn Handler>> {
    fn serve(&self, method: u32, mut input: Input<'_>) -> Result<Message> {
        let handler = &mut **self.try_borrow_mut()?;
        match method {
            CALL => {
                let event = Event::unpack(&mut input.reader)?;
                handler.call(&event)?;
                Message::of(&event.asked())
            }
            FINISH => {
                handler.finish()?;
                Ok(Message::default())
            }
            other => serve_state(handler, other, input).unwrap_or_else(|| Err(no_method(Kind::Handler, other))),
        }
    }
}

/// A handler of the other side, as the program uses it.
pub struct RemoteHandler(Deferred);

impl RemoteHandler {
    pub(crate) fn new(remote: Remote) -> RemoteHandler {
        RemoteHandler(Deferred::new(remote))
    }
}

impl Stateful for RemoteHandler {
    fn state(&self) -> Result<State> {
        self.0.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.0.load_state(state)
    }
}

impl Handler for RemoteHandler {
    fn call(&mut self, event: &Event) -> Result<()> {
        let asked: Vec<Action> = Vec::unpack(&mut self.0.call(CALL, &Message::of(event)?)?.reader())?;
        event.asked.borrow_mut().extend(asked);
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.0.call(FINISH, &Message::default()).map(drop)
    }
}
