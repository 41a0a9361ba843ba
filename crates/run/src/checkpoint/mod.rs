//! Checkpoints: everything needed to continue exactly, in one folder per checkpoint.
//!
//! `checkpoints/<name>/` holds `model.<node>.safetensors` (the state dict under torchvision's names, readable by any tool),
//! `state.safetensors` (all other tensors, as `node/name`), `state.json` (all other values), `pipeline.toml`, and
//! `complete.json`, written last: the size and the CRC-32 of each of them. A checkpoint is written and synced under a hidden
//! name and then renamed, so it is either complete or absent.
//!
//! | file | what is there |
//! |---|---|
//! | `snapshot.rs` | what a checkpoint holds, taken from the run |
//! | `files.rs` | the folder: written, verified, removed; the newest whole one |
//! | `restore.rs` | the way back |

mod files;
mod restore;
mod snapshot;

use std::path::{Path, PathBuf};

use anyhow::Result;
use pipe_core::{Checkpoints, Moment, NodeId, State};

use crate::graph::Graph;

pub use files::{model_file, newest, remove, step_of};
pub use restore::{Restored, load};

impl Checkpoints for Graph {
    fn save(&self, name: &str, extra: &[(NodeId, State)]) -> Result<PathBuf> {
        save(self, name, extra)
    }

    fn save_weights(&self, folder: &Path) -> Result<()> {
        files::write_weights(&snapshot::models(self)?, self.run.clock.get().step, folder)
    }

    fn moment(&self) -> Result<Moment> {
        snapshot::moment(self, &[])
    }

    fn remove(&self, checkpoint: &Path) -> Result<()> {
        remove(checkpoint)
    }

    fn step_of(&self, checkpoint: &Path) -> Option<u64> {
        step_of(checkpoint)
    }
}

/// Writes a checkpoint of everything in the run; one of the same name is replaced once the new one is complete.
///
/// `extra` holds states of nodes that are currently in use and so cannot be asked (the checkpoint handler itself).
///
/// # Errors
/// When a state cannot be read or the disk is full; what was written is then removed and older checkpoints are untouched.
pub fn save(graph: &Graph, name: &str, extra: &[(NodeId, State)]) -> Result<PathBuf> {
    let target = graph.run.folder.checkpoints().join(name);
    let snapshot = snapshot::Snapshot::take(graph, extra)?;
    files::write(&snapshot, &target)?;
    graph.run.set_last_checkpoint(Some(target.clone()));
    Ok(target)
}

#[cfg(test)]
mod tests;
