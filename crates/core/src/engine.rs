//! The engine: a loop over data that fires events. It knows state, limits and a process; no model, dataset or sink.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;

use anyhow::{Context, Result, anyhow};
use pipe_native::fault::guarded;
use pipe_plugin::State;
use pipe_vocab::event::{EngineEvent, EventName};
use pipe_vocab::{NodeId, Progress};

use crate::Shared;
use crate::context::{Clock, RunContext, Termination};
use crate::kinds::engine_state::{EngineState, Firing, Limits};
use crate::kinds::event::{Boundary, Cut, Dispatch, EventContext, Interrupted};
use crate::kinds::loader::Loader;
use crate::kinds::process::{Process, Step};

/// A loop over a loader's batches.
pub struct Engine {
    /// Its name in the pipeline.
    pub id: NodeId,
    limits: Cell<Limits>,
    loader: RefCell<Shared<dyn Loader>>,
    process: RefCell<Box<dyn Process>>,
    state: RefCell<EngineState>,
    /// The event whose targets are running, where a checkpoint taken by one of them is a place to continue from.
    firing: Cell<Option<EngineEvent>>,
    /// How far that event has come.
    cut: Cut,
}

/// How an epoch ended.
enum EpochEnd {
    /// As it should.
    Complete,
    /// A handler ended the engine.
    Terminated,
    /// The run was interrupted.
    Interrupted,
}

/// What an engine works with while it runs.
#[derive(Clone, Copy)]
struct Work<'a> {
    run: &'a RunContext,
    dispatch: &'a dyn Dispatch,
}

impl Engine {
    /// An engine at its beginning.
    pub fn new(id: NodeId, limits: Limits, loader: Shared<dyn Loader>, process: Box<dyn Process>) -> Engine {
        Engine {
            id,
            limits: Cell::new(limits),
            loader: RefCell::new(loader),
            process: RefCell::new(process),
            state: RefCell::default(),
            firing: Cell::default(),
            cut: Cut::default(),
        }
    }

    /// The engine's state.
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

    /// Runs to the end of its limits, from its current state. An engine that had reached its end starts again:
    /// an evaluator runs once an epoch of the trainer. `Break` where the run was interrupted.
    ///
    /// # Errors
    /// The first error of the process or of a handler, after the `exception_raised` event and after the event's other
    /// handlers ran.
    pub fn run(&self, run: &RunContext, dispatch: &dyn Dispatch) -> Result<ControlFlow<Interrupted>> {
        let work = Work { run, dispatch };
        run.clear_termination(&self.id);
        run.depth.set(run.depth.get() + 1);
        let result = guarded(|| self.run_epochs(work));
        run.depth.set(run.depth.get() - 1);
        result.map_err(|error| match self.notify(work, EngineEvent::ExceptionRaised) {
            Ok(()) => error,
            Err(second) => error.context(format!("and while handling it: {second:#}")),
        })
    }

    fn run_epochs(&self, work: Work<'_>) -> Result<ControlFlow<Interrupted>> {
        // An inner engine belongs to one event of the outer one: its half-done run from before a resume starts over.
        let afresh = work.run.depth.get() > 1 || !self.process_mut()?.resumes();
        self.state.borrow_mut().prepare(self.limits.get(), afresh);
        // `started` fires again in each life of a run.
        let firing = self.state.borrow_mut().firing.take();
        let mut resumed = firing.filter(|firing| firing.event != EngineEvent::Started);
        self.tell_clock(work.run);
        self.process_mut()?.started(work.run)?;
        if self.fire(work, EngineEvent::Started, None, None)?.is_break() {
            return self.interrupt(work);
        }
        let ended = resumed.as_ref().is_some_and(|firing| firing.event == EngineEvent::Completed);
        while !ended && (resumed.is_some() || self.state.borrow().goes_on(self.limits.get())) {
            match self.run_epoch(work, resumed.take())? {
                EpochEnd::Complete => {}
                EpochEnd::Terminated => {
                    self.notify(work, EngineEvent::Terminate)?;
                    break;
                }
                EpochEnd::Interrupted => return self.interrupt(work),
            }
        }
        if !ended {
            let state = self.current();
            self.process_mut()?.completed(&state, work.run)?;
        }
        match self.fire(work, EngineEvent::Completed, None, resumed)? {
            ControlFlow::Break(Interrupted) => self.interrupt(work),
            ControlFlow::Continue(()) => Ok(ControlFlow::Continue(())),
        }
    }

    fn interrupt(&self, work: Work<'_>) -> Result<ControlFlow<Interrupted>> {
        self.notify(work, EngineEvent::Interrupt)?;
        Ok(ControlFlow::Break(Interrupted))
    }

    /// An epoch, from its beginning or from the event in which a resume continues.
    fn run_epoch(&self, work: Work<'_>, resumed: Option<Firing>) -> Result<EpochEnd> {
        let loader = self.loader.borrow().clone();
        let inside = self.state.borrow_mut().begin_epoch(loader.borrow().epoch_length());
        self.tell_clock(work.run);
        let is = |event: EngineEvent| resumed.as_ref().is_some_and(|firing| firing.event == event);
        let (starting, stepped, ending) =
            (is(EngineEvent::EpochStarted), is(EngineEvent::IterationCompleted), is(EngineEvent::EpochCompleted));
        if !inside || starting {
            let resumed = resumed.clone().filter(|_| starting);
            if self.fire(work, EngineEvent::EpochStarted, None, resumed)?.is_break() {
                return Ok(EpochEnd::Interrupted);
            }
        }
        if stepped && self.fire(work, EngineEvent::IterationCompleted, None, resumed.clone())?.is_break() {
            return Ok(EpochEnd::Interrupted);
        }
        if !ending {
            let (epoch, first) = {
                let state = self.state.borrow();
                (state.epoch - 1, state.epoch_iteration)
            };
            loader.borrow_mut().start_epoch(epoch as usize, first as usize)?;
            if self.iterations(work, &loader)?.is_break() {
                return Ok(EpochEnd::Interrupted);
            }
            self.process_mut()?.epoch_ended(work.run)?;
        }
        if self.fire(work, EngineEvent::EpochCompleted, None, resumed.filter(|_| ending))?.is_break() {
            return Ok(EpochEnd::Interrupted);
        }
        // Not before: an epoch whose events were cut off continues with them when the run is resumed.
        self.state.borrow_mut().end_epoch();
        self.pause(work, Boundary::Epoch)?;
        // After the last epoch there is nothing to interrupt: a resume would take the engine for finished, and its last events
        // would never come.
        let more = !self.state.borrow().at_limit(self.limits.get());
        Ok(match work.run.termination(&self.id) {
            Some(Termination::Run) => EpochEnd::Terminated,
            _ if more && work.run.interrupted() => EpochEnd::Interrupted,
            _ => EpochEnd::Complete,
        })
    }

    /// The iterations of an epoch that are left.
    fn iterations(&self, work: Work<'_>, loader: &Shared<dyn Loader>) -> Result<ControlFlow<Interrupted>> {
        while !self.state.borrow().epoch_full(self.limits.get()) {
            match self.iterate(work, loader)? {
                ControlFlow::Break(interrupted) => return Ok(ControlFlow::Break(interrupted)),
                ControlFlow::Continue(false) => break,
                ControlFlow::Continue(true) => {}
            }
            // Not while several iterations make one piece of work: a checkpoint could not hold the first half of it.
            if work.run.interrupted() && self.process_mut()?.at_rest() {
                return Ok(ControlFlow::Break(Interrupted));
            }
            match work.run.termination(&self.id) {
                None => self.pause(work, Boundary::Iteration)?,
                Some(Termination::Epoch) => {
                    work.run.clear_termination(&self.id);
                    self.notify(work, EngineEvent::TerminateSingleEpoch)?;
                    break;
                }
                Some(Termination::Run) => break,
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Lets edits act.
    fn pause(&self, work: Work<'_>, boundary: Boundary) -> Result<()> {
        let outermost = work.run.depth.get() == 1 && self.process_mut()?.at_rest();
        work.dispatch.pause(&self.id, if outermost { boundary } else { Boundary::Inner });
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
    /// What the first iteration would fail on.
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
    fn iterate(&self, work: Work<'_>, loader: &Shared<dyn Loader>) -> Result<ControlFlow<Interrupted, bool>> {
        let run = work.run;
        self.notify(work, EngineEvent::GetBatchStarted)?;
        let batch = run.timings.measure(&self.id, "data wait", || loader.borrow_mut().next_batch());
        let batch = batch.with_context(|| format!("{}: getting a batch", self.id))?;
        let Some(batch) = batch else {
            self.notify(work, EngineEvent::DataloaderStopIteration)?;
            return Ok(ControlFlow::Continue(false));
        };
        self.notify(work, EngineEvent::GetBatchCompleted)?;
        self.state.borrow_mut().begin_iteration();
        self.tell_clock(run);
        self.notify(work, EngineEvent::IterationStarted)?;
        let state = self.current();
        let samples = batch.size as u64;
        let step = guarded(|| self.process_mut()?.step(batch, &state, run))
            .with_context(|| format!("{}: iteration {} of epoch {}", self.id, state.iteration, state.epoch))?;
        run.progress(&self.progress(&state, samples, &step, run));
        Ok(match self.fire(work, EngineEvent::IterationCompleted, Some(&step), None)? {
            ControlFlow::Break(interrupted) => ControlFlow::Break(interrupted),
            ControlFlow::Continue(()) => ControlFlow::Continue(true),
        })
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

    /// Fires an event after which the run can be cut: what is left of its targets runs after a resume. `resumed` is such an
    /// event of the run's former life.
    fn fire(
        &self,
        work: Work<'_>,
        event: EngineEvent,
        step: Option<&Step>,
        resumed: Option<Firing>,
    ) -> Result<ControlFlow<Interrupted>> {
        *self.cut.done.borrow_mut() = resumed.map(|firing| firing.done).unwrap_or_default();
        self.firing.set(Some(event));
        let flow = self.dispatch(work, event, step, &self.cut);
        if let Ok(ControlFlow::Break(_)) = flow {
            self.state.borrow_mut().firing = self.firing_now();
        }
        self.firing.set(None);
        flow
    }

    /// Fires an event that is no place to continue from: a nested engine that was interrupted leaves the flag set, and the
    /// next cut sees it.
    fn notify(&self, work: Work<'_>, event: EngineEvent) -> Result<()> {
        self.dispatch(work, event, None, &Cut::default()).map(drop)
    }

    fn dispatch(
        &self,
        Work { run, dispatch }: Work<'_>,
        event: EngineEvent,
        step: Option<&Step>,
        cut: &Cut,
    ) -> Result<ControlFlow<Interrupted>> {
        let state = self.current();
        let count = if event.counts_iterations() { state.iteration } else { state.epoch };
        let event = EventName::Engine(event);
        let (engine, node) = (&self.id, &self.id);
        dispatch.fire(&EventContext { run, dispatch, engine, node, event, count, state: &state, step, cut })
    }

    /// The event whose targets are running, and those of them that have run.
    fn firing_now(&self) -> Option<Firing> {
        let event = self.firing.get()?;
        Some(Firing { event, done: self.cut.done.borrow().clone() })
    }

    fn process_mut(&self) -> Result<std::cell::RefMut<'_, Box<dyn Process>>> {
        self.process.try_borrow_mut().map_err(|_| anyhow!("{} was started from inside its own iteration", self.id))
    }

    /// The engine's state and its process's, for a checkpoint.
    ///
    /// # Errors
    /// When the process's state cannot be read.
    pub fn state(&self) -> Result<State> {
        let mut saved = self.current();
        saved.firing = self.firing_now().or(saved.firing);
        let mut state = State::of(&saved)?;
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
