//! The engine: a loop over data that fires events. It knows state, events, filters and targets; no model, dataset or sink.
//!
//! - [`state`]: where an engine stands
//! - [`event`]: events, filters, and which targets run on them
//! - [`between`]: what may act between iterations
//! - this file: the loop

pub mod between;
pub mod event;
pub mod state;

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow};

pub use between::{Between, Boundary};
pub use event::{EventContext, EventTable, Filter, Target, TargetAction, Wire};
pub use state::{EngineState, Limits};

use crate::components::loader::Loader;
use crate::components::model::ModelOutput;
use crate::data::Batch;
use crate::fault::guarded;
use crate::registry::NodeId;
use crate::run::context::Termination;
use crate::run::{Clock, Progress, RunContext, Shared, State, Stateful};
use event::names;

/// What one iteration does.
pub trait Process: Stateful {
    /// Before the first batch of a run of the engine.
    ///
    /// # Errors
    /// When the engine cannot start.
    fn started(&mut self, _run: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Before each iteration's batch is used; the batch lies on the CPU.
    ///
    /// # Errors
    /// When the batch cannot be processed.
    fn step(&mut self, batch: Batch, state: &EngineState, run: &RunContext) -> Result<Step>;

    /// After the last batch of a run of the engine, before `completed` fires.
    ///
    /// # Errors
    /// When results cannot be computed.
    fn completed(&mut self, _state: &EngineState, _run: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Whether the process can be exchanged now: not while several iterations make one piece of work.
    fn at_rest(&self) -> bool {
        true
    }

    /// Tries a batch without changing anything, for a process that is about to take another one's place.
    ///
    /// # Errors
    /// What the first iteration would stumble over.
    fn rehearse(&mut self, _batch: Batch, _run: &RunContext) -> Result<()> {
        Ok(())
    }
}

/// What came of one iteration.
#[derive(Debug, Default)]
pub struct Step {
    /// The batch, on the device.
    pub batch: Batch,
    /// What the model made of it.
    pub output: ModelOutput,
    /// Values worth showing beside a progress bar.
    pub values: Vec<(String, f64)>,
}

/// A loop over a loader's batches.
pub struct Engine {
    /// Its name in the pipeline.
    pub id: NodeId,
    limits: Cell<Limits>,
    loader: RefCell<Shared<dyn Loader>>,
    process: RefCell<Box<dyn Process>>,
    state: RefCell<EngineState>,
}

/// How a run of an engine ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All its epochs, or terminated by a handler.
    Completed,
    /// By Ctrl-C.
    Interrupted,
}

impl Engine {
    /// An engine at its beginning.
    pub fn new(id: NodeId, limits: Limits, loader: Shared<dyn Loader>, process: Box<dyn Process>) -> Engine {
        Engine {
            id,
            limits: Cell::new(limits),
            loader: RefCell::new(loader),
            process: RefCell::new(process),
            state: RefCell::new(EngineState::default()),
        }
    }

    /// Where the engine stands.
    pub fn current(&self) -> EngineState {
        self.state.borrow().clone()
    }

    /// How far it may run.
    pub fn limits(&self) -> Limits {
        self.limits.get()
    }

    /// Changes how far it may run, from the next iteration on.
    pub fn set_limits(&self, limits: Limits) {
        self.limits.set(limits);
    }

    /// Runs to the end of its limits, from where its state stands. An engine that had reached its end starts again:
    /// an evaluator runs once an epoch of the trainer.
    ///
    /// # Errors
    /// The first error of the process or of a handler, after the `exception_raised` event and after the event's other
    /// handlers ran.
    pub fn run(&self, run: &RunContext) -> Result<Outcome> {
        run.clear_termination(&self.id);
        run.depth.set(run.depth.get() + 1);
        let result = guarded(|| self.run_epochs(run));
        run.depth.set(run.depth.get() - 1);
        match result {
            Ok(outcome) => Ok(outcome),
            Err(error) => {
                let raised = self.fire(run, names::EXCEPTION_RAISED, None);
                Err(match raised {
                    Ok(()) => error,
                    Err(second) => error.context(format!("and while handling it: {second:#}")),
                })
            }
        }
    }

    fn run_epochs(&self, run: &RunContext) -> Result<Outcome> {
        // An inner engine belongs to one event of the outer one: its half-done run from before a resume is begun anew.
        let nested = run.depth.get() > 1;
        self.state.borrow_mut().prepare(self.limits.get(), nested);
        self.tell_clock(run);
        self.process_mut()?.started(run)?;
        self.fire(run, names::STARTED, None)?;
        while !self.state.borrow().finished(self.limits.get()) {
            match self.run_epoch(run)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Outcome::Completed) => {
                    self.fire(run, names::TERMINATE, None)?;
                    break;
                }
                ControlFlow::Break(Outcome::Interrupted) => {
                    self.fire(run, names::INTERRUPT, None)?;
                    return Ok(Outcome::Interrupted);
                }
            }
        }
        let state = self.current();
        self.process_mut()?.completed(&state, run)?;
        self.fire(run, names::COMPLETED, None)?;
        Ok(Outcome::Completed)
    }

    fn run_epoch(&self, run: &RunContext) -> Result<ControlFlow<Outcome>> {
        let loader = self.loader.borrow().clone();
        let resumed = self.state.borrow_mut().begin_epoch(loader.borrow().epoch_length());
        self.tell_clock(run);
        if !resumed {
            self.fire(run, names::EPOCH_STARTED, None)?;
        }
        let (epoch, first) = {
            let state = self.state.borrow();
            (state.epoch - 1, state.epoch_iteration)
        };
        loader.borrow_mut().start_epoch(epoch as usize, first as usize)?;
        while !self.state.borrow().epoch_full(self.limits.get()) {
            if !self.iterate(&loader, run)? {
                break;
            }
            if run.interrupted() {
                return Ok(ControlFlow::Break(Outcome::Interrupted));
            }
            match run.termination(&self.id) {
                None => self.pause(run, Boundary::Iteration)?,
                Some(Termination::Epoch) => {
                    run.clear_termination(&self.id);
                    self.fire(run, names::TERMINATE_SINGLE_EPOCH, None)?;
                    break;
                }
                Some(Termination::Run) => break,
            }
        }
        self.state.borrow_mut().end_epoch();
        self.fire(run, names::EPOCH_COMPLETED, None)?;
        self.pause(run, Boundary::Epoch)?;
        Ok(match run.termination(&self.id) {
            Some(Termination::Run) => ControlFlow::Break(Outcome::Completed),
            _ if run.interrupted() => ControlFlow::Break(Outcome::Interrupted),
            _ => ControlFlow::Continue(()),
        })
    }

    /// Lets edits act.
    fn pause(&self, run: &RunContext, boundary: Boundary) -> Result<()> {
        let parted = run.depth.get() == 1 && self.process_mut()?.at_rest();
        run.pause(&self.id, if parted { boundary } else { Boundary::Inner });
        Ok(())
    }

    /// Takes the process and the limits of another engine, whose own state is of no interest; the state of this one stays.
    /// For use between iterations.
    pub fn adopt_process(&self, other: &Engine) {
        self.process.swap(&other.process);
        self.limits.set(other.limits.get());
    }

    /// Takes another loader, from the next epoch on.
    pub fn adopt_loader(&self, loader: Shared<dyn Loader>) {
        *self.loader.borrow_mut() = loader;
    }

    /// Tries the process on the first batch of a loader, see [`Process::rehearse`].
    ///
    /// # Errors
    /// What the first iteration would stumble over.
    pub fn rehearse(&self, loader: &Shared<dyn Loader>, run: &RunContext) -> Result<()> {
        loader.borrow_mut().start_epoch(0, 0)?;
        let batch = loader.borrow_mut().next_batch().with_context(|| format!("{}: getting a batch", self.id))?;
        let Some(batch) = batch else { return Ok(()) };
        self.process_mut()?.rehearse(batch, run).with_context(|| format!("{}: trying a batch", self.id))
    }

    /// The loader, as it is at the next epoch.
    pub fn loader(&self) -> Shared<dyn Loader> {
        self.loader.borrow().clone()
    }

    /// Gives the process what that of `other` knows: counts, the gradient scaler.
    ///
    /// # Errors
    /// When the state is of another process.
    pub fn take_process_state(&self, other: &Engine) -> Result<()> {
        let state = other.process_mut()?.state()?;
        self.process_mut()?.load_state(&state)
    }

    /// One iteration; `false` when the data has ended.
    fn iterate(&self, loader: &Shared<dyn Loader>, run: &RunContext) -> Result<bool> {
        self.fire(run, names::GET_BATCH_STARTED, None)?;
        let batch = run.timings.measure(&self.id, "data wait", || loader.borrow_mut().next_batch());
        let batch = batch.with_context(|| format!("{}: getting a batch", self.id))?;
        let Some(batch) = batch else {
            self.fire(run, names::DATALOADER_STOP_ITERATION, None)?;
            return Ok(false);
        };
        self.fire(run, names::GET_BATCH_COMPLETED, None)?;
        self.state.borrow_mut().begin_iteration();
        self.tell_clock(run);
        self.fire(run, names::ITERATION_STARTED, None)?;
        let state = self.current();
        let samples = batch.size as u64;
        let step = guarded(|| self.process_mut()?.step(batch, &state, run))
            .with_context(|| format!("{}: iteration {} of epoch {}", self.id, state.iteration, state.epoch))?;
        run.progress(&self.progress(&state, samples, &step, run));
        self.fire(run, names::ITERATION_COMPLETED, Some(&step))?;
        Ok(true)
    }

    fn progress(&self, state: &EngineState, samples: u64, step: &Step, run: &RunContext) -> Progress {
        let limits = self.limits.get();
        Progress {
            engine: self.id.clone(),
            outermost: run.depth.get() == 1,
            epoch: state.epoch,
            max_epochs: limits.max_epochs,
            epoch_iteration: state.epoch_iteration,
            epoch_length: limits.epoch_length.or(state.epoch_length),
            iteration: state.iteration,
            max_iterations: limits.max_iterations,
            samples,
            values: step.values.clone(),
        }
    }

    /// The outermost engine's iterations and epochs are the run's time, after those of the engines that ran before it.
    fn tell_clock(&self, run: &RunContext) {
        if run.depth.get() == 1 {
            let state = self.state.borrow();
            let base = run.clock_base.get();
            run.clock.set(Clock { step: base.step + state.iteration, epoch: base.epoch + state.epoch });
        }
    }

    fn fire(&self, run: &RunContext, event: &str, step: Option<&Step>) -> Result<()> {
        let state = self.current();
        let count = match event {
            names::ITERATION_STARTED
            | names::ITERATION_COMPLETED
            | names::GET_BATCH_STARTED
            | names::GET_BATCH_COMPLETED => state.iteration,
            _ => state.epoch,
        };
        let table = run.events.borrow().clone();
        let ctx = EventContext { run, engine: &self.id, node: &self.id, event, count, state: &state, step };
        table.fire(&ctx)
    }

    fn process_mut(&self) -> Result<std::cell::RefMut<'_, Box<dyn Process>>> {
        self.process.try_borrow_mut().map_err(|_| anyhow!("{} was started from inside its own iteration", self.id))
    }

    /// The engine's state and its process's, for a checkpoint.
    ///
    /// # Errors
    /// When the process's state cannot be read.
    pub fn state(&self) -> Result<State> {
        let mut state = State::of(&*self.state.borrow())?;
        if let Ok(process) = self.process.try_borrow() {
            let inner = process.state()?;
            state.values.insert("process".into(), inner.values.into());
            state.tensors = inner.tensors;
        }
        Ok(state)
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When it is not an engine's.
    pub fn load_state(&self, state: &State) -> Result<()> {
        let mut values = state.values.clone();
        let inner = values.remove("process").unwrap_or_default();
        *self.state.borrow_mut() = serde_json::from_value(values.into())?;
        let values = inner.as_object().cloned().unwrap_or_default();
        let tensors = state.tensors.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        self.process_mut()?.load_state(&State { values, tensors })
    }
}

#[cfg(test)]
mod tests;
