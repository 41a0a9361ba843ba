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
//! | `copies.rs` | its tensors, while training goes on |
//! | `files.rs` | the folder: written, read, removed |
//! | `restore.rs` | the way back |

mod copies;
mod files;
mod restore;
mod snapshot;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_core::{Afterwards, Checkpoints, Moment, NodeId, State};
use pipe_vision::nn::StateDict;

use crate::graph::Graph;

pub use files::{abandon_others, remove};
pub use pipe_core::checkpoints::found::{model_file, newest, newest_of, step_of};
pub use restore::{Restored, load, state_of};

impl Checkpoints for Graph {
    fn save(&self, name: &str, extra: &[(NodeId, State)], afterwards: Afterwards) -> Result<PathBuf> {
        let target = self.run.folder.checkpoints().join(name);
        // The first rank's is that of all.
        if !self.run.ranks.is_first() {
            return Ok(target);
        }
        // One at a time: its copies are gone before there are new ones.
        self.settle();
        let mut snapshot = snapshot::Snapshot::take(self, extra)?;
        let copied = copies::take(&mut snapshot.dicts())?;
        let (records, folder) = (self.run.folder.records_path(), target.clone());
        self.behind.begin(&target, move || {
            copied.bring(&mut snapshot.dicts())?;
            // What the records said is on the disk before the checkpoint that goes on behind it.
            let synced = File::open(&records).and_then(|file| file.sync_data());
            synced.with_context(|| format!("cannot write {}", records.display()))?;
            files::write(&snapshot, &folder)?;
            files::conclude(&afterwards)
        })?;
        Ok(target)
    }

    fn save_weights(&self, folder: &Path, afterwards: Afterwards) -> Result<()> {
        if !self.run.ranks.is_first() {
            return Ok(());
        }
        self.settle();
        let (mut models, step) = (snapshot::models(self)?, self.run.clock.get().step);
        let classes = self.classes.borrow().clone();
        let copied = copies::take(&mut dicts(&mut models))?;
        let target = folder.to_owned();
        self.behind.begin(folder, move || {
            copied.bring(&mut dicts(&mut models))?;
            files::write_weights(&models, &classes, step, &target)?;
            files::conclude(&afterwards)
        })
    }

    fn written(&self, path: &Path) -> Result<()> {
        self.settle();
        self.behind.outcome(path)
    }

    fn moment(&self) -> Result<Moment> {
        snapshot::moment(self, &[])
    }

    fn remove(&self, checkpoint: &Path) -> Result<()> {
        if !self.run.ranks.is_first() {
            return Ok(());
        }
        remove(checkpoint)
    }

    fn step_of(&self, checkpoint: &Path) -> Option<u64> {
        step_of(checkpoint)
    }
}

impl Graph {
    /// Waits until no checkpoint is being written.
    pub fn settle(&self) {
        let of_run = |path: &PathBuf| path.parent() == Some(&self.run.folder.checkpoints());
        if let Some(path) = self.behind.wait().filter(of_run) {
            self.run.set_last_checkpoint(Some(path));
        }
    }
}

fn dicts(models: &mut [(NodeId, StateDict)]) -> Vec<&mut StateDict> {
    models.iter_mut().map(|(_, tensors)| tensors).collect()
}

/// Writes a checkpoint of everything in the run, and waits until it is complete; one of the same name is replaced then.
///
/// # Errors
/// When a state cannot be read or the disk is full; what was written is then removed and older checkpoints are untouched.
pub fn save(graph: &Graph, name: &str) -> Result<PathBuf> {
    let path = Checkpoints::save(graph, name, &[], Afterwards::default())?;
    graph.written(&path).map(|()| path)
}

#[cfg(test)]
mod tests;
