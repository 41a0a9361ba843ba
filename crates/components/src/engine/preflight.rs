//! What a preflight needs of an engine: see `pipe_run::preflight`.

use std::time::{Duration, Instant};

use anyhow::Result;
use pipe_core::{Model, Optimizer, RunContext, State};
use pipe_data::Batch;
use pipe_native::stream::synchronize;
use tch::{Device, Tensor};

/// A model and its optimizer as they were, on the CPU: on the device they would take memory that a run has for itself.
pub(super) struct Kept {
    model: State,
    optimizer: State,
}

impl Kept {
    /// Copies what there is.
    ///
    /// # Errors
    /// When a state cannot be read.
    pub(super) fn of(model: &dyn Model, optimizer: &dyn Optimizer) -> Result<Kept> {
        Ok(Kept { model: copied(model.state()?)?, optimizer: copied(optimizer.state()?)? })
    }

    /// Gives both back what they were.
    ///
    /// # Errors
    /// When a state is refused.
    pub(super) fn put_back(&self, model: &mut dyn Model, optimizer: &mut dyn Optimizer) -> Result<()> {
        model.load_state(&self.model)?;
        optimizer.load_state(&self.optimizer)
    }
}

fn copied(State { values, tensors }: State) -> Result<State> {
    let copy = |(name, tensor): (String, Tensor)| {
        let tensor = tensor.detach();
        let there = tensor.f_to_device(Device::Cpu)?;
        Ok((name, if tensor.device() == Device::Cpu { there.f_detach_copy()? } else { there }))
    };
    Ok(State { values, tensors: tensors.into_iter().map(copy).collect::<Result<_>>()? })
}

/// The batch on the device, and once more in place of the one that is copied ahead.
pub(super) fn ahead(batch: &Batch, run: &RunContext) -> Result<Batch> {
    run.uploads.forget();
    run.uploads.begin(batch, run.device)?;
    let there = run.uploads.take(batch, run.device)?;
    run.uploads.begin(batch, run.device)?;
    Ok(there)
}

/// How long something takes, work on the device included.
pub(super) fn timed(device: Device, f: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let start = Instant::now();
    f()?;
    synchronize(device)?;
    Ok(start.elapsed())
}
