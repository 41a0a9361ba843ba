//! Processes: what an engine does with a batch.

use std::time::Duration;

use anyhow::Result;
use pipe_data::Batch;
use pipe_plugin::{State, Stateful, largest};
use pipe_vocab::NodeId;

use super::engine_state::EngineState;
use super::settings::Settings;
use super::step::Step;
use crate::context::RunContext;

/// What one iteration does. Its own state is in checkpoints wherever one is taken.
pub trait Process: Stateful {
    /// Before the first batch of a run of the engine; not where a run goes on that was cut off.
    ///
    /// # Errors
    /// When the engine cannot start.
    fn started(&mut self, _run: &RunContext) -> Result<()> {
        Ok(())
    }

    /// A run of the engine goes on inside an epoch.
    ///
    /// # Errors
    /// When the state it was given does not fit.
    fn goes_on(&mut self) -> Result<()> {
        Ok(())
    }

    /// Whether, where several ranks work together, it works on this one's part of each batch; otherwise each rank works on all of it.
    fn takes_part(&self) -> bool {
        false
    }

    /// Its numbers that schedulers may drive.
    fn settings(&self) -> Option<Settings> {
        None
    }

    /// Processes a batch, which lies on the CPU: the forward pass and, in training, the backward pass.
    ///
    /// # Errors
    /// When the batch cannot be processed.
    fn step(&mut self, batch: Batch, state: &EngineState, run: &RunContext) -> Result<Step>;

    /// After a step with gradients: the optimizer's step, where one is due. Returns whether it was made.
    ///
    /// # Errors
    /// When it cannot be made.
    fn update(&mut self, _run: &RunContext) -> Result<bool> {
        Ok(false)
    }

    /// After the iteration's work, before `iteration_completed` fires: what there is to record.
    ///
    /// # Errors
    /// When a record cannot be written.
    fn report(&mut self, _step: &mut Step, _state: &EngineState, _run: &RunContext) -> Result<()> {
        Ok(())
    }

    /// After the last batch of a run of the engine, before `completed` fires.
    ///
    /// # Errors
    /// When results cannot be computed.
    fn completed(&mut self, _state: &EngineState, _run: &RunContext) -> Result<()> {
        Ok(())
    }

    /// After the last batch of an epoch, before `epoch_completed` fires: nothing that waits may cross an epoch's end. Returns
    /// whether the optimizer made a step.
    ///
    /// # Errors
    /// When what waits cannot be done.
    fn epoch_ended(&mut self, _run: &RunContext) -> Result<bool> {
        Ok(false)
    }

    /// Whether the process can be exchanged now: not while several iterations make one piece of work.
    fn at_rest(&self) -> bool {
        true
    }

    /// Whether a run of the engine that was cut off among its batches goes on where it was; otherwise it begins anew. Not
    /// where what the batches so far came to is in no checkpoint.
    fn resumes(&self) -> bool {
        true
    }

    /// Metrics that begin anew with each run of the engine: a checkpoint taken outside of one leaves their state out.
    fn owned(&self) -> Vec<NodeId> {
        Vec::new()
    }

    /// The gradients that lie on the model's parameters, for handlers that look at them after a resume.
    fn gradients(&self) -> State {
        State::default()
    }

    /// Puts saved gradients back.
    ///
    /// # Errors
    /// When they are of another model.
    fn put_gradients(&mut self, _gradients: &State) -> Result<()> {
        Ok(())
    }

    /// The height and width in pixels to which a batch of images is padded at most, given theirs.
    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        largest(images)
    }

    /// Does an iteration's whole work on a batch twice, as far as it takes memory, and puts everything back as it was but for the
    /// random generators of libtorch. Returns how long the second took.
    ///
    /// # Errors
    /// As [`Process::step`].
    fn preflight(&mut self, _batch: &Batch, _run: &RunContext) -> Result<Duration> {
        Ok(Duration::ZERO)
    }

    /// Tries a batch without changing anything, for a process that is about to take another one's place.
    ///
    /// # Errors
    /// What the first iteration would fail on.
    fn rehearse(&mut self, _batch: Batch, _run: &RunContext) -> Result<()> {
        Ok(())
    }
}
