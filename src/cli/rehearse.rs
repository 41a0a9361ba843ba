//! The rehearsal of `pipe check --rehearse`: everything built, one batch of every engine, one checkpoint.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::engine::Limits;
use crate::plan::Plan;
use crate::run::{Instance, RunOptions, Running, checkpoint};

/// Builds a plan in a temporary folder and runs one batch of every engine, with the events that belong to it.
///
/// # Errors
/// What a run would stumble over.
pub fn rehearse(plan: &Plan, device: Option<&str>) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("pipe-rehearsal-{}", std::process::id()));
    let options =
        RunOptions { folder: folder.clone(), device: device.map(str::to_owned), quiet: true, ..RunOptions::default() };
    let result = rehearse_in(plan, &options);
    let _ = std::fs::remove_dir_all(&folder);
    result
}

fn rehearse_in(plan: &Plan, options: &RunOptions) -> Result<()> {
    let running = Running::start(plan, options, Arc::default())?;
    let engines: Vec<_> = running.context.nodes.borrow().values().cloned().collect();
    for instance in engines {
        if let Instance::Engine(engine) = instance {
            engine.set_limits(Limits { max_epochs: Some(1), max_iterations: Some(1), epoch_length: Some(1) });
        }
    }
    running.drive().context("the rehearsal failed")?;
    checkpoint::save(&running.context, "rehearsal", &[]).context("the rehearsal's checkpoint")?;
    Ok(())
}
