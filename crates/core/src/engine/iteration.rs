//! The iterations of an epoch.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipe_data::Batch;
use pipe_native::fault::guarded;
use pipe_native::moments::{Moment, pass};
use pipe_vocab::event::EngineEvent;

use super::too_much::told_of_memory;
use super::{Engine, Halt, Work};
use crate::Shared;
use crate::context::RunContext;
use crate::kinds::event::Boundary;
use crate::kinds::loader::Loader;
use crate::kinds::step::Step;
use crate::place::Frame;

/// How long a run waits for a batch before it looks whether it is to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// After so long a wait it is said.
const LONG: Duration = Duration::from_secs(30);

impl Engine {
    /// The iterations of an epoch that are left.
    pub(super) fn iterations(&self, work: Work<'_>, mut frame: Option<&Frame>) -> Result<(), Halt> {
        let loader = self.loader();
        let inside = frame.is_some_and(|frame| frame.of_engine() >= Some(EngineEvent::GetBatchCompleted));
        self.take_part(&loader, work.run)?;
        let mut again = match inside || self.state.borrow().begun {
            true => Some(loader.borrow_mut().last_batch().with_context(|| format!("{}: getting a batch", self.id))?),
            false => None,
        };
        self.open(&loader)?;
        loop {
            let inside = frame.is_some() || self.state.borrow().begun;
            if !inside {
                if work.run.interrupted() {
                    return Err(Halt::Interrupted);
                }
                if self.state.borrow().epoch_full(self.limits.get()) {
                    return Ok(());
                }
                work.run.save_if_asked();
            }
            if !self.timed_iteration(work, &loader, frame.take(), again.take())? {
                return Ok(());
            }
            self.pause(work, Boundary::Iteration)?;
        }
    }

    /// Brings the loader to where the state says.
    fn open(&self, loader: &Shared<dyn Loader>) -> Result<()> {
        let state = self.state.borrow();
        if !self.opened.replace(true) {
            loader.borrow_mut().start_epoch(state.pass as usize, state.pass_used as usize)?;
        }
        Ok(())
    }

    /// Lets the loader give this rank's part of each batch, or all of it where the process wants that on every rank.
    fn take_part(&self, loader: &Shared<dyn Loader>, run: &RunContext) -> Result<()> {
        let ranks = &run.ranks;
        let (rank, size) = if self.process_mut()?.takes_part() { (ranks.rank(), ranks.size()) } else { (0, 1) };
        loader.borrow_mut().take_part(rank, size).with_context(|| self.id.to_string())
    }

    /// As [`Engine::iterate`], counted where the engine is the outermost one; `false` when the epoch's data has ended.
    fn timed_iteration(
        &self,
        work: Work<'_>,
        loader: &Shared<dyn Loader>,
        frame: Option<&Frame>,
        last: Option<Batch>,
    ) -> Result<bool, Halt> {
        let outermost = work.run.depth.get() == 1;
        let began = Instant::now();
        if outermost {
            work.run.throughput.begin();
        }
        let images = self.iterate(work, loader, frame, last)?;
        if let Some(images) = images.filter(|_| outermost) {
            work.run.throughput.end(images, began.elapsed());
        }
        Ok(images.is_some())
    }

    /// One iteration, from its beginning or from where a resume continues: how many images it had, or nothing when the epoch's data has
    /// ended. `last` is the batch that it had then.
    fn iterate(
        &self,
        work: Work<'_>,
        loader: &Shared<dyn Loader>,
        frame: Option<&Frame>,
        last: Option<Batch>,
    ) -> Result<Option<u64>, Halt> {
        use EngineEvent::{GetBatchCompleted, GetBatchStarted, IterationStarted};
        if work.run.depth.get() == 1 {
            work.run.timings.iteration(self.state.borrow().iteration + 1);
        }
        // Cut off in the middle of its work, it begins that work again.
        let again = frame.is_none() && last.is_some();
        let at = frame.and_then(Frame::of_engine).or(again.then_some(IterationStarted));
        let due = |event: EngineEvent| at.is_none_or(|at| at <= event);
        // Cut off in its waiting for the batch, it waits again.
        let asked = std::mem::take(&mut self.state.borrow_mut().asked);
        if due(GetBatchStarted) && !asked {
            self.fire(work, GetBatchStarted, None, frame)?;
        }
        let batch = if last.is_some() { last } else { self.next_batch(work, loader, frame)? };
        let Some(batch) = batch else { return Ok(None) };
        let images = batch.size as u64;
        if due(GetBatchCompleted) {
            self.fire(work, GetBatchCompleted, None, frame)?;
            self.state.borrow_mut().begin_iteration();
            self.tell_clock(work.run);
        }
        if due(IterationStarted) && !again {
            self.fire(work, IterationStarted, None, frame)?;
        }
        self.process_batch(work, loader, batch, frame)?;
        Ok(Some(images))
    }

    /// The next batch. Where an epoch is not a pass over the data, the passes follow each other.
    fn next_batch(
        &self,
        work: Work<'_>,
        loader: &Shared<dyn Loader>,
        frame: Option<&Frame>,
    ) -> Result<Option<Batch>, Halt> {
        use EngineEvent::DataloaderStopIteration;
        let mut restarted = false;
        let mut stopped = frame.and_then(Frame::of_engine) == Some(DataloaderStopIteration);
        loop {
            if !stopped {
                let began = Instant::now();
                let batch = work.run.timings.measure(&self.id, "data wait", || {
                    self.wait(work, loader)?;
                    Ok::<_, Halt>(loader.borrow_mut().next_batch())
                })?;
                if work.run.depth.get() == 1 {
                    work.run.throughput.waited(began.elapsed());
                }
                let batch = batch.with_context(|| format!("{}: getting a batch", self.id))?;
                if batch.is_some() {
                    self.state.borrow_mut().pass_used += 1;
                    return Ok(batch);
                }
                let own_length = self.limits.get().epoch_length.is_some();
                let taken = self.state.borrow().epoch_iteration;
                if restarted || !own_length && taken > 0 {
                    let mut state = self.state.borrow_mut();
                    // Of data of unknown length it is known from now on.
                    state.epoch_length = state.epoch_length.or(Some(taken));
                    return Ok(None);
                }
            }
            stopped = false;
            self.fire(work, DataloaderStopIteration, None, frame)?;
            let mut state = self.state.borrow_mut();
            state.begin_pass();
            loader.borrow_mut().start_epoch(state.pass as usize, 0)?;
            restarted = true;
        }
    }

    /// Waits for the next batch; a run that is interrupted does not wait for one that may never come.
    fn wait(&self, work: Work<'_>, loader: &Shared<dyn Loader>) -> Result<(), Halt> {
        let (began, mut told) = (Instant::now(), false);
        while !loader.borrow_mut().wait(PATIENCE) {
            if !told && began.elapsed() >= LONG {
                told = true;
                let id = &self.id;
                tracing::warn!("{id}: no batch has come for {} s: the data is slow, or a worker hangs", LONG.as_secs());
            }
            if work.run.interrupted() {
                self.state.borrow_mut().asked = true;
                return Err(Halt::Interrupted);
            }
        }
        Ok(())
    }

    fn process_batch(
        &self,
        work: Work<'_>,
        loader: &Shared<dyn Loader>,
        batch: Batch,
        frame: Option<&Frame>,
    ) -> Result<(), Halt> {
        use EngineEvent::{BackwardCompleted, IterationCompleted, OptimizerStepCompleted};
        let Work { run, .. } = work;
        let state = self.current();
        let outer = run.ranks.set_part(loader.borrow().share());
        let samples = run.ranks.whole(batch.size) as u64;
        let at = frame.and_then(Frame::of_engine).filter(|event| *event >= BackwardCompleted);
        let due = |event: EngineEvent| at.is_none_or(|at| at <= event);
        let place = || format!("{}: iteration {} of epoch {}", self.id, state.iteration, state.epoch);
        if at.is_none() {
            run.uploads.plan(loader.borrow_mut().peek());
        }
        let mut step = match at {
            None => guarded(|| self.process_mut()?.step(batch, &state, run))
                .map_err(|error| told_of_memory(error, || last_batch(loader), run.device))
                .with_context(place)?,
            Some(_) => self.restored_step(run.uploads.take(&batch, run.device)?, run.device)?,
        };
        run.uploads.begin_next(run.device);
        self.state.borrow_mut().begun = false;
        pass(if run.depth.get() > 1 { Moment::Nested } else { Moment::Step });
        if step.backward {
            let shared = Rc::new(step);
            if due(BackwardCompleted) {
                self.fire(work, BackwardCompleted, Some(&shared), frame)?;
            }
            let updated = match due(BackwardCompleted) {
                true => guarded(|| self.process_mut()?.update(run)).with_context(place)?,
                false => at == Some(OptimizerStepCompleted),
            };
            if updated {
                self.fire(work, OptimizerStepCompleted, Some(&shared), frame)?;
            }
            step = Rc::into_inner(shared).context("the iteration's output is kept elsewhere")?;
        }
        if at != Some(IterationCompleted) {
            self.process_mut()?.report(&mut step, &state, run)?;
            run.progress(&self.progress(&state, samples, &step, run));
        }
        self.fire(work, IterationCompleted, Some(&Rc::new(step)), frame)?;
        run.ranks.set_part(outer);
        Ok(())
    }

    /// What the iteration came to before the checkpoint.
    fn restored_step(&self, batch: Batch, device: tch::Device) -> Result<Step> {
        let restored = self.restored.borrow_mut().take();
        let step = restored.context("the checkpoint lacks the output of the iteration it was taken in")?;
        Step::restore(&step, batch, device)
    }
}

/// The batch itself went with the step; the loader knows of what it was made.
fn last_batch(loader: &Shared<dyn Loader>) -> Option<Batch> {
    loader.try_borrow_mut().ok().and_then(|mut loader| loader.last_batch().ok())
}
