//! The folder of a checkpoint: written, read, removed.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use pipe_core::checkpoints::ABANDONED;
use pipe_core::checkpoints::found::{
    COMPLETE, Complete, FORMAT, Sum, aside, clear_leftovers, model_file, step_of, verified,
};
use pipe_core::{Afterwards, NodeId};
use pipe_native::moments::{Moment, pass};
use pipe_vision::nn::StateDict;
use pipe_vision::weights::{CLASSES, safetensors};
use pipe_vocab::atomic;

use super::snapshot::{Classes, Snapshot, StateFile};
use crate::labels::Names;

pub(super) const STATE: &str = "state.json";
pub(super) const STATE_TENSORS: &str = "state.safetensors";

/// Writes a checkpoint; one that is there is replaced once the new one is complete.
pub(super) fn write(snapshot: &Snapshot, target: &Path) -> Result<()> {
    write_folder(target, |folder| write_all(snapshot, folder))
}

/// Writes models only, in the same way.
pub(super) fn write_weights(models: &[(NodeId, StateDict)], classes: &Classes, step: u64, target: &Path) -> Result<()> {
    let each = |folder: &Path| {
        let write = |(id, tensors): &(NodeId, StateDict)| {
            write_tensors(&folder.join(model_file(id)), tensors, step, classes.get(id))
        };
        models.iter().try_for_each(write)
    };
    write_folder(target, |folder| {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        each(folder)
    })
}

/// What is left to do once a checkpoint is complete.
pub(super) fn conclude(afterwards: &Afterwards) -> Result<()> {
    if let Some((path, bytes)) = &afterwards.note {
        atomic::write(path, bytes)?;
    }
    for path in afterwards.remove.iter().filter(|path| path.exists()) {
        if let Err(error) = remove(path) {
            tracing::warn!("{error:#}");
        }
    }
    Ok(())
}

fn write_folder(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let folder = target.parent().context("a checkpoint lies in a folder")?;
    let temporary = aside(target, "tmp");
    let written = clear_leftovers(folder).and_then(|()| fill(&temporary)).and_then(|()| replace(&temporary, target));
    written.map_err(|error| {
        // The error that matters is the first; there may be nothing to remove.
        let _ = fs::remove_dir_all(&temporary);
        error.context(format!("checkpoint {} was not written; earlier checkpoints are unchanged", target.display()))
    })
}

fn write_all(snapshot: &Snapshot, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    pass(Moment::Write);
    let step = snapshot.state.clock.step;
    let mut names = vec![STATE.to_owned(), STATE_TENSORS.to_owned()];
    for (id, tensors) in &snapshot.models {
        write_tensors(&folder.join(model_file(id)), tensors, step, snapshot.classes.get(id))?;
        names.push(model_file(id));
    }
    pass(Moment::Write);
    write_tensors(&folder.join(STATE_TENSORS), &snapshot.tensors, step, None)?;
    pass(Moment::Write);
    if let Some(text) = &snapshot.pipeline {
        atomic::write(&folder.join("pipeline.toml"), text)?;
        names.push("pipeline.toml".into());
    }
    atomic::write(&folder.join(STATE), &serde_json::to_vec_pretty(&snapshot.state)?)?;
    pass(Moment::Write);
    let files = names.into_iter().map(|name| Ok((name.clone(), Sum::of(&folder.join(name))?)));
    let complete = Complete { format: FORMAT, step, files: files.collect::<Result<_>>()? };
    atomic::write(&folder.join(COMPLETE), &serde_json::to_vec_pretty(&complete)?)
}

fn write_tensors(path: &Path, tensors: &StateDict, step: u64, classes: Option<&Names>) -> Result<()> {
    let classes =
        classes.map(|names| Ok::<_, serde_json::Error>((CLASSES, serde_json::to_string(names)?))).transpose()?;
    let metadata = [
        // What readers of other programs look for.
        ("format", "pt".to_owned()),
        ("writer", format!("pipe {}", env!("CARGO_PKG_VERSION"))),
        ("step", step.to_string()),
    ];
    let metadata = metadata.into_iter().chain(classes).map(|(name, value)| (name.to_owned(), value)).collect();
    safetensors::write(path, tensors, &metadata)
}

/// Gives the complete checkpoint at `new` the name `target`; one that was there goes only afterwards.
fn replace(new: &Path, target: &Path) -> Result<()> {
    atomic::sync_folder(new)?;
    pass(Moment::Write);
    let old = aside(target, "old");
    let replaces = target.exists();
    if replaces {
        fs::rename(target, &old)?;
        pass(Moment::Write);
    }
    if let Err(error) = fs::rename(new, target) {
        if replaces {
            fs::rename(&old, target)?;
        }
        return Err(error.into());
    }
    if let Some(parent) = target.parent() {
        atomic::sync_folder(parent)?;
    }
    pass(Moment::Write);
    if replaces && let Err(error) = fs::remove_dir_all(&old) {
        tracing::warn!("cannot remove the leftover folder {}: {error}", old.display());
    }
    Ok(())
}

/// Removes a checkpoint. It loses its name first, so that one removed in part is never taken for a whole one.
///
/// # Errors
/// When the folder may not be changed.
pub fn remove(checkpoint: &Path) -> Result<()> {
    let old = aside(checkpoint, "old");
    let removed = fs::rename(checkpoint, &old).and_then(|()| {
        pass(Moment::Write);
        fs::remove_dir_all(&old)
    });
    removed.with_context(|| format!("cannot remove checkpoint {}", checkpoint.display()))
}

/// Reads the plain part of a checkpoint, after all its files were found to be what was written.
pub(super) fn read_state(folder: &Path) -> Result<StateFile> {
    let complete = verified(folder)?;
    ensure!(
        [STATE, STATE_TENSORS].iter().all(|name| complete.files.contains_key(*name)),
        "{}/{COMPLETE} is damaged: it does not name all files",
        folder.display()
    );
    let text = fs::read(folder.join(STATE)).with_context(|| format!("cannot read {}/{STATE}", folder.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}/{STATE} is damaged", folder.display()))
}

/// Takes the checkpoints that are not older than `chosen` out of those that a run goes on from: it goes back there. The run
/// removes them when it has saved a newer one.
///
/// # Errors
/// When one cannot be renamed.
pub fn abandon_others(run_folder: &Path, chosen: &Path) -> Result<()> {
    let step = step_of(chosen);
    for path in fs::read_dir(run_folder.join("checkpoints")).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_chosen = path.file_name() == chosen.file_name();
        if is_chosen || name.starts_with('.') || name.ends_with(ABANDONED) || step_of(&path) < step || !path.is_dir() {
            continue;
        }
        let aside = path.with_file_name(format!("{name}{ABANDONED}"));
        if aside.exists() {
            remove(&aside)?;
        }
        fs::rename(&path, &aside).with_context(|| format!("cannot rename {}", path.display()))?;
    }
    Ok(())
}
