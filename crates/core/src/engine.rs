//! The engine: a loop over data that fires events. It knows state, limits and a process; no model, dataset or sink.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use pipe_data::Batch;
use pipe_native::fault::guarded;
use pipe_plugin::State;
use pipe_vocab::NodeId;
use pipe_vocab::event::EngineEvent;

use crate::Shared;
use crate::clock::Termination;
use crate::context::RunContext;
use crate::kinds::engine_state::{EngineState, Limits};
use crate::kinds::event::{Boundary, Dispatch, Interrupted};
use crate::kinds::loader::Loader;
use crate::kinds::process::Process;
use crate::kinds::settings::Settings;
use crate::kinds::step::Step;
use crate::place::Frame;

mod fire;
mod iteration;
mod too_much;

/// A loop over a loader's batches.
pub struct Engine {
    /// Its name in the pipeline.
    pub id: NodeId,
    limits: Cell<Limits>,
    loader: RefCell<Shared<dyn Loader>>,
    /// Whether the loader is in the pass and at the batch that the state names.
    opened: Cell<bool>,
    process: RefCell<Box<dyn Process>>,
    state: RefCell<EngineState>,
    /// Whether it runs now.
    active: Cell<bool>,
    /// The iteration whose handlers are running, for a checkpoint that one of them takes.
    at_work: RefCell<Option<Rc<Step>>>,
    /// That of the checkpoint from which the run goes on.
    restored: RefCell<Option<State>>,
    /// The gradients then.
    gradients: RefCell<Option<State>>,
}

/// Why the loop is left before its end.
enum Halt {
    /// The run was interrupted.
    Interrupted,
    /// A handler ended the engine's run.
    Run,
    /// A handler ended the epoch.
    Epoch,
    /// Something failed.
    Error(anyhow::Error),
}

impl From<anyhow::Error> for Halt {
    fn from(error: anyhow::Error) -> Halt {
        Halt::Error(error)
    }
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
            opened: Cell::default(),
            process: RefCell::new(process),
            state: RefCell::default(),
            active: Cell::default(),
            at_work: RefCell::default(),
            restored: RefCell::default(),
            gradients: RefCell::default(),
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

    /// Runs to the end of its limits: from where a resume left it, otherwise from the beginning, so that an evaluator runs
    /// once an epoch of the trainer. `Break` where the run was interrupted.
    ///
    /// # Errors
    /// The first error of the process or of a handler, after the `exception_raised` event and after the event's other
    /// handlers ran.
    pub fn run(&self, run: &RunContext, dispatch: &dyn Dispatch) -> Result<ControlFlow<Interrupted>> {
        ensure!(!self.active.replace(true), "{} was started from inside its own run", self.id);
        let work = Work { run, dispatch };
        let began = Instant::now();
        run.depth.set(run.depth.get() + 1);
        let result = guarded(|| self.run_whole(work));
        run.depth.set(run.depth.get() - 1);
        if run.depth.get() == 1 {
            run.throughput.aside(began.elapsed());
        }
        self.active.set(false);
        let result = result.map_err(|error| match self.tell_frozen(work, EngineEvent::ExceptionRaised) {
            Ok(()) => error,
            Err(second) => error.context(format!("and while handling it: {second:#}")),
        });
        if !matches!(result, Ok(ControlFlow::Break(_))) {
            run.place.unmark(&self.id);
        }
        result
    }

    fn run_whole(&self, work: Work<'_>) -> Result<ControlFlow<Interrupted>> {
        let frame = work.run.place.take_resumed(&self.id);
        let halted = self.begin(work, frame.is_some()).map_err(Halt::Error).and_then(|goes_on| {
            let terminated = || work.run.termination(&self.id) == Some(Termination::Run);
            let at_end = matches!(
                frame.as_ref().and_then(Frame::of_engine),
                Some(EngineEvent::Completed | EngineEvent::Terminate)
            );
            // Limits that were raised since give it new work.
            if at_end && (terminated() || self.at_limit()) {
                return self.end(work, frame.as_ref(), terminated());
            }
            let terminated = self.run_epochs(work, frame.as_ref().filter(|_| !at_end), goes_on)?;
            self.end(work, None, terminated)
        });
        match halted {
            Ok(()) => Ok(ControlFlow::Continue(())),
            Err(Halt::Error(error)) => Err(error),
            Err(Halt::Interrupted | Halt::Run | Halt::Epoch) => {
                self.tell_frozen(work, EngineEvent::Interrupt)?;
                work.run.place.freeze(true);
                Ok(ControlFlow::Break(Interrupted))
            }
        }
    }

    /// Makes the state that of a beginning, unless the run goes on that was cut off: then `true`.
    fn begin(&self, work: Work<'_>, in_event: bool) -> Result<bool> {
        let resumes = self.process_mut()?.resumes();
        let state = self.current();
        // The outermost engine that had come to its end goes on where its limits were raised since.
        let raised = work.run.depth.get() == 1 && state.ended.is_some() && !state.at_limit(self.limits.get());
        let goes_on = in_event || resumes && (state.running || raised);
        self.opened.set(false);
        if goes_on {
            self.state.borrow_mut().running = true;
            if self.state.borrow().in_epoch {
                self.process_mut()?.goes_on()?;
            }
            if let Some(gradients) = self.gradients.borrow_mut().take() {
                self.process_mut()?.put_gradients(&gradients)?;
            }
        } else {
            work.run.clear_termination(&self.id);
            work.dispatch.begin(&self.id);
            *self.state.borrow_mut() = EngineState { running: true, ..EngineState::default() };
            (*self.restored.borrow_mut(), *self.gradients.borrow_mut()) = (None, None);
            if !resumes {
                work.run.mark(&self.id)?;
            }
            self.process_mut()?.started(work.run)?;
        }
        self.tell_clock(work.run);
        Ok(goes_on)
    }

    /// The epochs that are left; `true` where a handler ended the run.
    fn run_epochs(&self, work: Work<'_>, frame: Option<&Frame>, goes_on: bool) -> Result<bool, Halt> {
        use EngineEvent::Started;
        let at_start = frame.and_then(Frame::of_engine) == Some(Started);
        let mut flow = if !goes_on || at_start { self.fire(work, Started, None, frame) } else { Ok(()) };
        let mut frame = frame.filter(|_| !at_start);
        while flow.is_ok() && (frame.is_some() || self.state.borrow().goes_on(self.limits.get())) {
            flow = self.run_epoch(work, frame.take());
        }
        match flow {
            Ok(()) => Ok(false),
            Err(Halt::Run) => Ok(true),
            Err(halt) => Err(halt),
        }
    }

    fn end(&self, work: Work<'_>, frame: Option<&Frame>, terminated: bool) -> Result<(), Halt> {
        use EngineEvent::{Completed, Terminate};
        let at_completed = frame.and_then(Frame::of_engine) == Some(Completed);
        if terminated && !at_completed {
            self.tell(work, Terminate, None, frame)?;
        }
        if !at_completed {
            let state = self.current();
            self.process_mut()?.completed(&state, work.run)?;
        }
        self.tell(work, Completed, None, frame)?;
        let mut state = self.state.borrow_mut();
        (state.running, state.ended) = (false, Some(self.limits.get()));
        Ok(())
    }

    /// An epoch, from its beginning or from the event in which a resume continues.
    fn run_epoch(&self, work: Work<'_>, frame: Option<&Frame>) -> Result<(), Halt> {
        use EngineEvent::{EpochCompleted, EpochStarted, OptimizerStepCompleted, TerminateSingleEpoch};
        let at = frame.and_then(Frame::of_engine);
        let length = self.loader.borrow().borrow().epoch_length();
        let length = length.map(|length| length as u64).or(self.state.borrow().epoch_length);
        let inside = self.state.borrow_mut().begin_epoch(length);
        self.tell_clock(work.run);
        let mut flow = Ok(());
        if !inside || at == Some(EpochStarted) {
            flow = self.fire(work, EpochStarted, None, frame);
        }
        // Outside of an iteration, the optimizer's step is that of the last, incomplete group of batches.
        let stepped = at == Some(OptimizerStepCompleted) && self.restored.borrow().is_none();
        if flow.is_ok() && !stepped && !matches!(at, Some(EpochCompleted | TerminateSingleEpoch)) {
            flow = self.iterations(work, frame.filter(|_| at != Some(EpochStarted)));
        }
        if matches!(flow, Err(Halt::Run | Halt::Epoch)) {
            // The batch of an iteration that had begun is left out.
            self.state.borrow_mut().begun = false;
        }
        match flow {
            Ok(()) | Err(Halt::Epoch) => {}
            // As in Ignite, an epoch that is left with the whole run is not completed.
            Err(Halt::Run) => {
                if self.process_mut()?.epoch_ended(work.run)? {
                    self.tell(work, OptimizerStepCompleted, None, None)?;
                }
                return Err(Halt::Run);
            }
            Err(halt) => return Err(halt),
        }
        if matches!(flow, Err(Halt::Epoch)) || at == Some(TerminateSingleEpoch) {
            work.run.clear_termination(&self.id);
            self.tell(work, TerminateSingleEpoch, None, frame)?;
            self.state.borrow_mut().begin_pass();
            self.opened.set(false);
        }
        work.run.place.unmark(&self.id);
        if at != Some(EpochCompleted) && (stepped || self.process_mut()?.epoch_ended(work.run)?) {
            self.tell(work, OptimizerStepCompleted, None, frame.filter(|_| stepped))?;
        }
        self.tell(work, EpochCompleted, None, frame)?;
        // Not before: an epoch whose events were cut off continues with them when the run is resumed.
        self.state.borrow_mut().in_epoch = false;
        self.pause(work, Boundary::Epoch)?;
        if work.run.termination(&self.id) == Some(Termination::Run) {
            return Err(Halt::Run);
        }
        // After the last epoch there is nothing to interrupt: a resume would take the engine for finished, and its last events
        // would never come.
        if !self.at_limit() && work.run.interrupted() { Err(Halt::Interrupted) } else { Ok(()) }
    }

    fn at_limit(&self) -> bool {
        self.state.borrow().at_limit(self.limits.get())
    }

    /// Lets edits act.
    fn pause(&self, work: Work<'_>, boundary: Boundary) -> Result<()> {
        let outermost = work.run.depth.get() == 1 && self.process_mut()?.at_rest();
        work.dispatch.pause(&self.id, if outermost { boundary } else { Boundary::Inner });
        Ok(())
    }

    /// The numbers of its process that schedulers may drive.
    pub fn settings(&self) -> Option<Settings> {
        self.process.try_borrow().ok().and_then(|process| process.settings())
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
        // What is left of a pass over the old one's data is no part of one over the new one's.
        self.opened.set(false);
        let mut state = self.state.borrow_mut();
        if state.pass_used > 0 && !state.in_epoch {
            state.begin_pass();
        }
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

    /// Tries a batch of the runs to come for the memory and the time that it takes, see [`Process::preflight`].
    ///
    /// # Errors
    /// What an iteration with it would fail on.
    pub fn preflight(&self, batch: &Batch, run: &RunContext) -> Result<Duration> {
        guarded(|| self.process_mut()?.preflight(batch, run))
            .map_err(|error| too_much::told_of_memory(error, || Some(batch.shallow_clone()), run.device))
    }

    /// The height and width in pixels to which a batch of images is padded at most, given theirs.
    ///
    /// # Errors
    /// When the process is at work.
    pub fn padded(&self, images: &[[usize; 2]]) -> Result<[usize; 2]> {
        Ok(self.process_mut()?.padded(images))
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

    fn process_mut(&self) -> Result<std::cell::RefMut<'_, Box<dyn Process>>> {
        self.process.try_borrow_mut().map_err(|_| anyhow!("{} was asked in the middle of its own work", self.id))
    }

    /// Metrics whose state is of no use outside of a run of this engine.
    ///
    /// # Errors
    /// When the process is at work.
    pub fn owned(&self) -> Result<Vec<NodeId>> {
        Ok(self.process_mut()?.owned())
    }

    /// The engine's state and its process's, for a checkpoint: with the output of an iteration whose handlers are running, and
    /// with the `gradients`, where a handler will look at them.
    ///
    /// # Errors
    /// When the process's state cannot be read.
    pub fn state(&self, gradients: bool) -> Result<State> {
        let mut state = State::of(&self.current())?;
        let process = self.process_mut()?;
        let mut add = |name: &str, part: State| {
            state.values.insert(name.into(), part.values.into());
            state.tensors.extend(part.tensors.into_iter().map(|(tensor, value)| (format!("{name}/{tensor}"), value)));
        };
        add(PROCESS, process.state()?);
        if let Some(step) = &*self.at_work.borrow() {
            add(STEP, step.state()?);
        }
        if gradients {
            add(GRADIENTS, process.gradients());
        }
        Ok(state)
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When it is not an engine's.
    pub fn load_state(&self, state: &State) -> Result<()> {
        let mut values = state.values.clone();
        let mut take = |name: &str| -> Option<State> {
            let values = values.remove(name)?.as_object().cloned()?;
            let prefix = format!("{name}/");
            let own = |(name, tensor): (&String, &tch::Tensor)| {
                Some((name.strip_prefix(&prefix)?.to_owned(), tensor.shallow_clone()))
            };
            Some(State { values, tensors: state.tensors.iter().filter_map(own).collect() })
        };
        let (process, step, gradients) = (take(PROCESS), take(STEP), take(GRADIENTS));
        *self.state.borrow_mut() = serde_json::from_value(values.into())?;
        (*self.restored.borrow_mut(), *self.gradients.borrow_mut()) = (step, gradients);
        self.process_mut()?.load_state(&process.unwrap_or_default())
    }
}

const PROCESS: &str = "process";
const STEP: &str = "step";
const GRADIENTS: &str = "gradients";
