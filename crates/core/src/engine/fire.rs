//! How an engine fires its events.

use std::ops::ControlFlow;
use std::rc::Rc;

use anyhow::Result;
use pipe_vocab::Progress;
use pipe_vocab::event::{EngineEvent, EventName};

use super::{Engine, Halt, Work};
use crate::clock::{Clock, Termination};
use crate::context::RunContext;
use crate::kinds::engine_state::EngineState;
use crate::kinds::event::EventContext;
use crate::kinds::step::Step;
use crate::place::Frame;

impl Engine {
    /// Fires an event, and leaves the loop where one of its targets, or one before it, asked for that.
    pub(super) fn fire(
        &self,
        work: Work<'_>,
        event: EngineEvent,
        step: Option<&Rc<Step>>,
        frame: Option<&Frame>,
    ) -> Result<(), Halt> {
        self.tell(work, event, step, frame)?;
        match work.run.termination(&self.id) {
            None => Ok(()),
            Some(Termination::Epoch) => Err(Halt::Epoch),
            Some(Termination::Run) => Err(Halt::Run),
        }
    }

    /// Fires an event; where the run goes on in the middle of it, its other targets. Only an interruption leaves the loop.
    pub(super) fn tell(
        &self,
        work: Work<'_>,
        event: EngineEvent,
        step: Option<&Rc<Step>>,
        frame: Option<&Frame>,
    ) -> Result<(), Halt> {
        let resumed = frame.filter(|frame| frame.of_engine() == Some(event));
        *self.at_work.borrow_mut() = step.cloned();
        let flow = self.dispatch(work, event, step, resumed)?;
        if resumed.is_some() {
            work.run.place.forget_resumed();
        }
        if flow.is_break() {
            // What the iteration came to is part of the place at which the run stops.
            return Err(Halt::Interrupted);
        }
        *self.at_work.borrow_mut() = None;
        Ok(())
    }

    /// Fires an event that is no place to go on from: where the run stands stays what it was.
    pub(super) fn tell_frozen(&self, work: Work<'_>, event: EngineEvent) -> Result<()> {
        let before = work.run.place.freeze(true);
        let told = self.dispatch(work, event, None, None).map(drop);
        work.run.place.freeze(before);
        told
    }

    fn dispatch(
        &self,
        Work { run, dispatch }: Work<'_>,
        event: EngineEvent,
        step: Option<&Rc<Step>>,
        resumed: Option<&Frame>,
    ) -> Result<ControlFlow<crate::Interrupted>> {
        let state = self.current();
        let count = if event.counts_iterations() { state.iteration } else { state.epoch };
        let (engine, node, event, step) = (&self.id, &self.id, EventName::Engine(event), step.map(|step| &**step));
        let own = Default::default();
        dispatch.fire(&EventContext {
            run,
            dispatch,
            engine,
            node,
            event,
            count,
            state: &state,
            step,
            resumed,
            own: &own,
        })
    }

    /// The outermost engine's iterations and epochs are the run's time, after those of the engines that ran before it.
    pub(super) fn tell_clock(&self, run: &RunContext) {
        if run.depth.get() == 1 {
            let state = self.state.borrow();
            let base = run.clock_base.get();
            let clock = Clock { step: base.step + state.iteration, epoch: base.epoch + state.epoch };
            run.clock.set(clock);
            run.throughput.at(clock);
        }
    }

    pub(super) fn progress(&self, state: &EngineState, samples: u64, step: &Step, run: &RunContext) -> Progress {
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
}
