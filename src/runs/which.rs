//! The runs that a command line means.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pipe_runs::{Run, find};

use crate::source::runs_folder;

/// A run, by folder or name.
#[derive(Debug, Clone, Args)]
pub struct RunArg {
    /// The run: a folder, a name or how one begins, or `latest`.
    run: String,
}

impl RunArg {
    /// The run.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub fn find(&self) -> Result<Run> {
        one(&self.run)
    }
}

/// Where runs are looked for.
pub fn roots() -> Vec<PathBuf> {
    vec![runs_folder()]
}

/// The run that a word means.
///
/// # Errors
/// When there is none, or more than one.
pub fn one(word: &str) -> Result<Run> {
    find::one(word, &roots())
}
