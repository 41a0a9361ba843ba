//! What the command line says of a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pipe_core::Ranks;
use pipe_vocab::Secret;
use serde::Serialize;

/// What the command line says of a run, beyond the pipeline.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The run's name, before the pipeline's own.
    pub name: Option<String>,
    /// The run's folder.
    pub folder: PathBuf,
    /// When a new run counts as created, in seconds since 1970; now by default. Never before a run that is there already.
    pub created: Option<f64>,
    /// `--device`, before the pipeline's own.
    pub device: Option<String>,
    /// The processes that work on it.
    pub ranks: Rc<Ranks>,
    /// A checkpoint to continue from.
    pub resume: Option<PathBuf>,
    /// Whether the run goes back behind what it had done.
    pub rewinds: bool,
    /// The folder of the run that a new one is to be as, of which is said what is no longer so.
    pub as_was: Option<PathBuf>,
    /// What a new run is a fork of.
    pub fork: Option<Fork>,
    /// No console output but errors.
    pub quiet: bool,
    /// The console speaks JSON.
    pub json_log: bool,
    /// The resolved pipeline, kept in the run's folder.
    pub pipeline_text: String,
    /// Where its values came from, by key.
    pub origins: BTreeMap<String, String>,
    /// The folder that its relative paths start from.
    pub pipeline_folder: PathBuf,
    /// Its own file, of one that is not a run's.
    pub pipeline_file: Option<PathBuf>,
    /// The command line, kept in `run.json`.
    pub command: Vec<String>,
    /// For a run that keeps where it comes from, on which machine it is and how busy that is: the texts that may not be in it.
    pub captures: Option<Vec<Secret>>,
}

/// Where a run comes from that goes on from a checkpoint of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fork {
    /// The other run's folder.
    pub run: PathBuf,
    /// The checkpoint's name.
    pub checkpoint: String,
    /// The step at which it was made.
    pub step: Option<u64>,
}

/// The folder of the run that a checkpoint belongs to.
pub fn run_of(checkpoint: &Path) -> &Path {
    checkpoint.parent().and_then(Path::parent).unwrap_or(checkpoint)
}
