//! What the command line says of a run.

use std::path::PathBuf;

/// What the command line says of a run, beyond the pipeline.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The run's folder.
    pub folder: PathBuf,
    /// `--device`, before the pipeline's own.
    pub device: Option<String>,
    /// A checkpoint to continue from.
    pub resume: Option<PathBuf>,
    /// No console output but errors.
    pub quiet: bool,
    /// The console speaks JSON.
    pub json_log: bool,
    /// The resolved pipeline, kept in the run's folder.
    pub pipeline_text: String,
    /// The folder that its relative paths start from.
    pub pipeline_folder: PathBuf,
    /// The command line, kept in `run.json`.
    pub command: Vec<String>,
}
