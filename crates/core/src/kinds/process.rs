//! Processes: what an engine does with a batch.

use anyhow::Result;
use pipe_data::Batch;
use pipe_plugin::{ModelOutput, Stateful};

use super::engine_state::EngineState;
use crate::context::RunContext;

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

    /// After the last batch of an epoch, before `epoch_completed` fires: nothing that waits may cross an epoch's end.
    ///
    /// # Errors
    /// When what waits cannot be done.
    fn epoch_ended(&mut self, _run: &RunContext) -> Result<()> {
        Ok(())
    }

    /// Whether the process can be exchanged now: not while several iterations make one piece of work.
    fn at_rest(&self) -> bool {
        true
    }

    /// Whether a run of the engine that was cut off goes on where it was; otherwise it begins anew. Not where what the batches
    /// so far came to is in no checkpoint.
    fn resumes(&self) -> bool {
        true
    }

    /// Tries a batch without changing anything, for a process that is about to take another one's place.
    ///
    /// # Errors
    /// What the first iteration would fail on.
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
