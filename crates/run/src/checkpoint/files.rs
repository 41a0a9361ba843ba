//! The folder of a checkpoint: written, verified, removed; the newest whole one of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pipe_core::checkpoints::ABANDONED;
use pipe_core::{Afterwards, NodeId};
use pipe_native::moments::{Moment, pass};
use pipe_vision::nn::StateDict;
use pipe_vision::weights::safetensors;
use pipe_vocab::atomic;
use serde::{Deserialize, Serialize};

use super::snapshot::{Classes, FORMAT, Snapshot, StateFile};
use crate::labels::{CLASSES, Names};

pub(super) const STATE: &str = "state.json";
pub(super) const STATE_TENSORS: &str = "state.safetensors";
const COMPLETE: &str = "complete.json";

/// `complete.json`: of which files a checkpoint is made.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Complete {
    format: u32,
    step: u64,
    files: BTreeMap<String, Sum>,
}

/// By what a file is known again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sum {
    bytes: u64,
    crc32: String,
}

/// The name of a model's weights inside a checkpoint: `model.<name>.safetensors`.
pub fn model_file(id: &NodeId) -> String {
    format!("model.{}.safetensors", id.name)
}

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
    let files = names.into_iter().map(|name| Ok((name.clone(), sum(&folder.join(name))?)));
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

fn sum(path: &Path) -> Result<Sum> {
    let read = || -> std::io::Result<Sum> {
        let mut file = fs::File::open(path)?;
        let mut hasher = crc32fast::Hasher::new();
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 20]);
        loop {
            let read = std::io::Read::read(&mut file, &mut buffer)?;
            if read == 0 {
                return Ok(Sum { bytes, crc32: format!("{:08x}", hasher.finalize()) });
            }
            hasher.update(&buffer[..read]);
            bytes += read as u64;
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
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

/// A hidden name beside `path` that belongs to this process.
fn aside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{what}{}", std::process::id()))
}

/// Removes what killed processes left half written or half removed; what one had put aside for a new one of the same name,
/// which it then did not finish, gets its name back.
fn clear_leftovers(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some((name, what, process)) = leftover(&path) else { continue };
        let gone = Path::new("/proc/self").exists() && !Path::new("/proc").join(process.to_string()).exists();
        if process != std::process::id() && !gone {
            continue;
        }
        let target = folder.join(name);
        let cleared = match what {
            "old" if !target.exists() && read_complete(&path).is_ok() => fs::rename(&path, &target),
            _ => fs::remove_dir_all(&path),
        };
        cleared.with_context(|| format!("cannot clear away the leftover folder {}", path.display()))?;
    }
    Ok(())
}

/// The name, the kind and the process of a hidden folder that [`aside`] named.
fn leftover(path: &Path) -> Option<(String, &'static str, u32)> {
    let hidden = path.file_name()?.to_str()?.strip_prefix('.')?;
    let (name, rest) = hidden.rsplit_once('.')?;
    let what = ["tmp", "old"].into_iter().find(|what| rest.starts_with(what))?;
    Some((name.to_owned(), what, rest[what.len()..].parse().ok()?))
}

fn read_complete(folder: &Path) -> Result<Complete> {
    let text = fs::read(folder.join(COMPLETE)).with_context(|| {
        let old = if folder.join(STATE).exists() { " (one of an earlier pipe, or incomplete)" } else { "" };
        format!("{} is not a checkpoint that can be resumed{old}: it has no readable {COMPLETE}", folder.display())
    })?;
    let damaged = || format!("{}/{COMPLETE} is damaged", folder.display());
    let value: serde_json::Value = serde_json::from_slice(&text).with_context(damaged)?;
    let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or_default();
    if format > u64::from(FORMAT) {
        bail!("{} was written by a newer pipe (format {format}); this one reads {FORMAT}", folder.display());
    }
    serde_json::from_value(value).with_context(damaged)
}

/// Reads the plain part of a checkpoint, after all its files were found to be what was written.
pub(super) fn read_state(folder: &Path) -> Result<StateFile> {
    let complete = read_complete(folder)?;
    ensure!(
        [STATE, STATE_TENSORS].iter().all(|name| complete.files.contains_key(*name)),
        "{}/{COMPLETE} is damaged: it does not name all files",
        folder.display()
    );
    for (name, written) in &complete.files {
        let path = folder.join(name);
        ensure!(!name.contains(['/', '\\']) && name != "..", "{}/{COMPLETE} names {name:?}", folder.display());
        ensure!(path.exists(), "{} is incomplete: {name} is missing", folder.display());
        let found = sum(&path)?;
        ensure!(
            found.bytes == written.bytes,
            "{} is damaged: it has {} bytes, {} were written",
            path.display(),
            found.bytes,
            written.bytes
        );
        ensure!(found == *written, "{} is damaged: its content is not what was written (CRC-32)", path.display());
    }
    let text = fs::read(folder.join(STATE)).with_context(|| format!("cannot read {}/{STATE}", folder.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}/{STATE} is damaged", folder.display()))
}

/// The newest whole checkpoint of a run's folder. Damaged ones are named and passed over.
pub fn newest(run_folder: &Path) -> Option<PathBuf> {
    newest_of(run_folder, |_, _| true)
}

/// As [`newest`], of those that are `wanted`: the folder and the step at which it was made.
pub fn newest_of(run_folder: &Path, wanted: impl Fn(&Path, u64) -> bool) -> Option<PathBuf> {
    let folder = run_folder.join("checkpoints");
    // One that was about to be replaced has its name again; in a folder that may not be changed all stays as it is.
    let _ = clear_leftovers(&folder);
    let entries = fs::read_dir(&folder).ok()?;
    let shown = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        path.is_dir() && !name.starts_with('.') && !name.ends_with(ABANDONED)
    });
    let time = |path: &Path| fs::metadata(path.join(COMPLETE)).and_then(|data| data.modified()).ok();
    let shown = shown.map(|path| (step_of(&path), time(&path), path));
    // One without a step is not whole, which is said below.
    let mut all: Vec<_> = shown.filter(|(step, _, path)| step.is_none_or(|step| wanted(path, step))).collect();
    all.sort();
    all.into_iter().rev().map(|(_, _, path)| path).find(|path| match read_state(path) {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!("{error:#}; it is passed over");
            false
        }
    })
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

/// The step at which a checkpoint was made; `None` when it is not a whole one.
pub fn step_of(checkpoint: &Path) -> Option<u64> {
    read_complete(checkpoint).ok().map(|complete| complete.step)
}
