//! What saves checkpoints, as handlers and engines see it; [`found`]: those that lie in a folder.

pub mod found;

use std::path::{Path, PathBuf};

use anyhow::Result;
use pipe_plugin::State;
use pipe_vocab::NodeId;

use crate::place::Moment;

/// How the name of a checkpoint ends from which the run went back: nothing goes on from it but by its name.
pub const ABANDONED: &str = ".abandoned";

/// What is to be done once a checkpoint is complete.
#[derive(Debug, Default)]
pub struct Afterwards {
    /// A file to be written, and its content.
    pub note: Option<(PathBuf, Vec<u8>)>,
    /// Checkpoints that are not needed any more. One that cannot be removed is named and stays.
    pub remove: Vec<PathBuf>,
}

/// Saves and removes checkpoints of everything in the run.
///
/// A checkpoint holds the run as it is when it is asked for. It is written behind the training, one at a time: the next one waits
/// for it.
pub trait Checkpoints {
    /// Begins to write a checkpoint; one of the same name is replaced once the new one is complete. `extra` holds states of nodes
    /// that are at work just now and so cannot be asked. How it ended is asked with [`Checkpoints::written`].
    ///
    /// # Errors
    /// When a state cannot be read; earlier checkpoints are then untouched.
    fn save(&self, name: &str, extra: &[(NodeId, State)], afterwards: Afterwards) -> Result<PathBuf>;

    /// As [`Checkpoints::save`], of the models' weights only, into a folder of their own: nothing that a run could go on from.
    ///
    /// # Errors
    /// As [`Checkpoints::save`].
    fn save_weights(&self, folder: &Path, afterwards: Afterwards) -> Result<()>;

    /// Waits until nothing is being written.
    ///
    /// # Errors
    /// When the checkpoint at `path` could not be written, which is said once; earlier ones are then untouched.
    fn written(&self, path: &Path) -> Result<()>;

    /// All that changes in the run but its models and optimizers, as it is now.
    ///
    /// # Errors
    /// When a state cannot be read.
    fn moment(&self) -> Result<Moment>;

    /// Removes a checkpoint.
    ///
    /// # Errors
    /// When the folder may not be changed.
    fn remove(&self, checkpoint: &Path) -> Result<()>;

    /// The step at which a checkpoint was made; `None` when it is not a whole one.
    fn step_of(&self, checkpoint: &Path) -> Option<u64>;
}
