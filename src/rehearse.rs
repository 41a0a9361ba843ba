//! The dry run of `pipe check --rehearse`: everything built, one batch of every engine, one checkpoint.

use std::rc::Rc;

use anyhow::{Context, Result};
use pipe_core::{Limits, Requests, terminal};
use pipe_plan::Plan;
use pipe_run::{RunOptions, Running, checkpoint};
use pipe_vocab::Catalog;

/// Builds a plan in a temporary folder and runs one batch of every engine, with the events that belong to it.
///
/// # Errors
/// What would make a run fail.
pub fn rehearse(plan: &Plan, catalog: Rc<Catalog>, device: Option<&str>) -> Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("pipe-rehearsal-")
        .tempdir()
        .context("cannot create a temporary folder for the dry run")?;
    let device = device.map(str::to_owned);
    let options = RunOptions { folder: folder.path().to_owned(), device, quiet: true, ..RunOptions::default() };
    let running = Running::start(plan, catalog, &options, Requests::default())?;
    for engine in running.graph.engines() {
        engine.set_limits(Limits { max_epochs: Some(1), max_iterations: Some(1), epoch_length: Some(1) });
    }
    let _takes_long = terminal::working("dry run: one batch of every engine");
    running.drive().context("the dry run failed")?;
    checkpoint::save(&running.graph, "rehearsal").context("the dry run's checkpoint")?;
    Ok(())
}
