//! The dry run of `pipe check --rehearse`: everything built, one batch of every engine, one checkpoint.

use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use pipe_core::{Kind, Limits, Requests, terminal};
use pipe_document::diagnostic::{Diagnostic, Diagnostics};
use pipe_plan::checks::data::Data;
use pipe_plan::{CannotBuild, Plan};
use pipe_run::checks::data_of;
use pipe_run::{RunOptions, Running, checkpoint};
use pipe_vocab::Catalog;
use tch::Device;
use tempfile::TempDir;

use crate::partial::Partial;
use crate::preflight;

/// A dry run that is built.
pub struct Rehearsal {
    running: Running,
    /// Goes with it.
    _folder: TempDir,
}

impl Rehearsal {
    /// Builds a plan in a temporary folder.
    ///
    /// # Errors
    /// What cannot be built.
    pub fn start(plan: &Plan, catalog: Rc<Catalog>, device: Option<&str>) -> Result<Rehearsal> {
        let folder = tempfile::Builder::new()
            .prefix("pipe-rehearsal-")
            .tempdir()
            .context("cannot create a temporary folder for the dry run")?;
        let device = device.map(str::to_owned);
        let options = RunOptions { folder: folder.path().to_owned(), device, quiet: true, ..RunOptions::default() };
        let running = Running::start(plan, catalog, &options, Requests::default())?;
        Ok(Rehearsal { running, _folder: folder })
    }

    /// What is known of the data.
    pub fn data(&self) -> Data {
        data_of(&self.running.graph)
    }

    /// Runs one batch of every engine, with the events that belong to it.
    ///
    /// # Errors
    /// What would make a run fail.
    pub fn drive(&self) -> Result<()> {
        preflight::tell(&self.running, true)?;
        for engine in self.running.graph.engines() {
            engine.set_limits(Limits { max_epochs: Some(1), max_iterations: Some(1), epoch_length: Some(1) });
        }
        let _takes_long = terminal::working("dry run: one batch of every engine");
        self.running.drive().context("the dry run failed")?;
        checkpoint::save(&self.running.graph, "rehearsal").context("the dry run's checkpoint").map(drop)
    }
}

/// Opens the datasets of a plan, and the loaders on them, and says what is known of them, and which cannot be opened, and why; with all
/// that was opened.
///
/// # Errors
/// When no temporary folder can be created.
pub fn open_data(plan: &Plan, catalog: Rc<Catalog>) -> Result<(Data, Diagnostics, Partial)> {
    pipe_native::init()?;
    let partial = Partial::on(Device::Cpu, plan, catalog, Arc::default())?;
    let mut found = Diagnostics::new();
    for node in plan.nodes.values().filter(|node| [Kind::Dataset, Kind::Loader].contains(&node.id.kind)) {
        let Err(error) = partial.build(plan, &node.id) else { continue };
        // A loader fails with its dataset.
        if error.downcast_ref::<CannotBuild>().is_some_and(|of| of.node == node.id) {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            let problem = Diagnostic::error("unusable-data", causes.join(": "));
            found.push(problem.at(node.location.clone()));
        }
    }
    Ok((data_of(&partial.graph), found, partial))
}
