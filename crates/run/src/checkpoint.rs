//! Checkpoints: everything needed to continue exactly, in one folder per checkpoint.
//!
//! `checkpoints/<name>/` holds `model.<node>.safetensors` (the state dict under torchvision's names, readable by any tool),
//! `state.safetensors` (all other tensors, as `node/name`), `state.json` (all other values, and what the other files are) and
//! `pipeline.toml`. It is written and synced under a hidden name and then renamed, so a checkpoint is either complete or absent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

use pipe_core::{Checkpoints, Clock, Instance, Kind, NodeId, State, now};
use pipe_vision::nn::StateDict;
use pipe_vision::weights::safetensors;
use pipe_vocab::atomic;

use crate::graph::Graph;
use crate::random;

/// The layout of checkpoints; a reader refuses newer ones.
const FORMAT: u32 = 1;

/// The plain part of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct StateFile {
    format: u32,
    #[serde(default)]
    metadata: Metadata,
    clock: Clock,
    seed: u64,
    /// Values by node.
    nodes: BTreeMap<String, Map<String, Value>>,
    /// The latest value of every metric and engine value, and the step at which it was measured.
    #[serde(default)]
    values: BTreeMap<String, (Value, u64)>,
}

/// What wrote a checkpoint, and of which files it is made.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Metadata {
    /// The version of pipe.
    pipe: String,
    /// Seconds since 1970.
    time: f64,
    /// Bytes of each file of tensors, by which a cut off copy is told.
    #[serde(default)]
    files: BTreeMap<String, u64>,
}

impl Checkpoints for Graph {
    fn save(&self, name: &str, extra: &[(NodeId, State)]) -> Result<PathBuf> {
        save(self, name, extra)
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
    let folder = graph.run.folder.checkpoints();
    let target = folder.join(name);
    let temporary = aside(&target, "tmp");
    let written = clear_leftovers(&folder)
        .and_then(|()| write_all(graph, &temporary, extra))
        .and_then(|()| replace(&temporary, &target));
    if let Err(error) = written {
        // The error that matters is the first; there may be nothing to remove.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error
            .context(format!("checkpoint {} was not written; earlier checkpoints are unchanged", target.display())));
    }
    graph.run.set_last_checkpoint(Some(target.clone()));
    Ok(target)
}

/// Removes a checkpoint. It loses its name first, so that one removed in part is never taken for a whole one.
///
/// # Errors
/// When the folder may not be changed.
pub fn remove(checkpoint: &Path) -> Result<()> {
    let old = aside(checkpoint, "old");
    let removed = fs::rename(checkpoint, &old).and_then(|()| fs::remove_dir_all(&old));
    removed.with_context(|| format!("cannot remove checkpoint {}", checkpoint.display()))
}

/// A hidden name beside `path` that belongs to this process.
fn aside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{what}{}", std::process::id()))
}

/// Removes what killed processes left half written or half removed.
fn clear_leftovers(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, process)) = name.rsplit_once('.').filter(|_| name.starts_with('.')) else { continue };
        let process = process.strip_prefix("tmp").or_else(|| process.strip_prefix("old"));
        let Some(process) = process.and_then(|number| number.parse::<u32>().ok()) else { continue };
        let gone = Path::new("/proc/self").exists() && !Path::new("/proc").join(process.to_string()).exists();
        if process == std::process::id() || gone {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove the leftover folder {}", path.display()))?;
        }
    }
    Ok(())
}

/// Gives the complete checkpoint at `new` the name `target`; one that was there goes only afterwards.
fn replace(new: &Path, target: &Path) -> Result<()> {
    atomic::sync_folder(new)?;
    let old = aside(target, "old");
    let replaces = target.exists();
    if replaces {
        fs::rename(target, &old)?;
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
    if replaces && let Err(error) = fs::remove_dir_all(&old) {
        tracing::warn!("cannot remove the leftover folder {}: {error}", old.display());
    }
    Ok(())
}

fn write_all(graph: &Graph, folder: &Path, extra: &[(NodeId, State)]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut nodes = BTreeMap::new();
    let mut tensors = StateDict::new();
    let mut files = BTreeMap::new();
    let run = &graph.run;
    let step = run.clock.get().step;
    for (id, instance) in graph.nodes.borrow().iter() {
        let state = match extra.iter().find(|(node, _)| node == id) {
            Some((_, state)) => state.shallow_clone(),
            None => instance.state().with_context(|| format!("reading the state of {id}"))?,
        };
        if id.kind == Kind::Model {
            let bytes = write_tensors(&folder.join(model_file(id)), &state.tensors, step)?;
            files.insert(model_file(id), bytes);
        } else {
            tensors.extend(state.tensors.into_iter().map(|(name, tensor)| (format!("{id}/{name}"), tensor)));
        }
        if !state.values.is_empty() {
            nodes.insert(id.to_string(), state.values);
        }
    }
    for (name, tensor) in random::states()? {
        tensors.insert(format!("random/{name}"), tensor);
    }
    files.insert(STATE_TENSORS.into(), write_tensors(&folder.join(STATE_TENSORS), &tensors, step)?);
    let pipeline = run.folder.path().join("pipeline.toml");
    if pipeline.exists() {
        let text = fs::read(&pipeline).with_context(|| format!("cannot read {}", pipeline.display()))?;
        atomic::write(&folder.join("pipeline.toml"), &text)?;
    }
    let metadata = Metadata { pipe: env!("CARGO_PKG_VERSION").into(), time: now(), files };
    let state = StateFile {
        format: FORMAT,
        metadata,
        clock: run.clock.get(),
        seed: run.seed,
        nodes,
        values: run.values_with_steps(),
    };
    atomic::write(&folder.join(STATE), &serde_json::to_vec_pretty(&state)?)
}

const STATE: &str = "state.json";
const STATE_TENSORS: &str = "state.safetensors";

/// The name of a model's weights inside a checkpoint: `model.<name>.safetensors`.
pub fn model_file(id: &NodeId) -> String {
    format!("model.{}.safetensors", id.name)
}

/// Restores a checkpoint: every node that is in both takes its state; nodes in only one of them are returned as warnings.
///
/// Every file is read before the first node changes.
///
/// # Errors
/// When a file is missing or damaged, or a state does not fit its node.
pub fn load(graph: &Graph, folder: &Path) -> Result<Vec<String>> {
    let run = &graph.run;
    let file = read_state(folder)?;
    let mut by_node: BTreeMap<String, State> = BTreeMap::new();
    for (node, values) in file.nodes {
        by_node.entry(node).or_default().values = values;
    }
    let mut random = IndexMap::new();
    for (name, tensor) in read_tensors(&folder.join(STATE_TENSORS))? {
        let (node, name) = name
            .split_once('/')
            .ok_or_else(|| anyhow!("{STATE_TENSORS} has a tensor that belongs to no node: {name}"))?;
        if node == "random" {
            random.insert(name.to_owned(), tensor);
        } else {
            by_node.entry(node.to_owned()).or_default().tensors.insert(name.to_owned(), tensor);
        }
    }
    let mut warnings = Vec::new();
    let mut states: Vec<(NodeId, Instance, State)> = Vec::new();
    for (id, instance) in graph.nodes.borrow().iter() {
        let mut state = by_node.remove(&id.to_string()).unwrap_or_default();
        if id.kind == Kind::Model {
            let path = folder.join(model_file(id));
            if !path.exists() {
                warnings.push(format!("{id} is not in the checkpoint and keeps its initial weights"));
                continue;
            }
            state.tensors = read_tensors(&path)?;
        }
        if !state.is_empty() {
            states.push((id.clone(), instance.clone(), state));
        }
    }
    // Before the nodes, some of which look at the time.
    run.clock.set(file.clock);
    run.restore_values(file.values);
    for (id, instance, state) in &states {
        instance.load_state(state).with_context(|| format!("restoring {id} from {}", folder.display()))?;
    }
    warnings.extend(
        by_node.keys().map(|node| format!("{node} is in the checkpoint but not in the pipeline; its state is ignored")),
    );
    random::restore(&random)?;
    run.set_last_checkpoint(Some(folder.to_owned()));
    Ok(warnings)
}

/// Reads the plain part of a checkpoint, and compares the sizes of the other files with what was written.
fn read_state(folder: &Path) -> Result<StateFile> {
    let text = fs::read(folder.join(STATE))
        .with_context(|| format!("{} is not a checkpoint of pipe: it has no readable {STATE}", folder.display()))?;
    let damaged = || format!("{}/{STATE} is damaged; resume from another checkpoint of the run", folder.display());
    let value: Value = serde_json::from_slice(&text).with_context(damaged)?;
    let format = value.get("format").and_then(Value::as_u64).unwrap_or_default();
    if format > u64::from(FORMAT) {
        bail!("{} was written by a newer pipe (format {format}); this one reads up to {FORMAT}", folder.display());
    }
    let file: StateFile = serde_json::from_value(value).with_context(damaged)?;
    for (name, bytes) in &file.metadata.files {
        let path = folder.join(name);
        let found = fs::metadata(&path).with_context(|| {
            format!("{} is incomplete: {name} is missing; resume from another checkpoint of the run", folder.display())
        })?;
        ensure!(
            found.len() == *bytes,
            "{} is damaged: it has {} bytes, {bytes} were written; resume from another checkpoint of the run",
            path.display(),
            found.len()
        );
    }
    Ok(file)
}

/// The latest complete checkpoint of a run's folder.
pub fn latest(run_folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(run_folder.join("checkpoints")).ok()?;
    let shown = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.join(STATE).exists()
    });
    let whole = shown.filter_map(|path| match step_of(&path) {
        Some(step) => Some((step, path)),
        None => {
            tracing::warn!("{} is not a complete checkpoint and is skipped", path.display());
            None
        }
    });
    whole.max().map(|(_, path)| path)
}

/// The step at which a checkpoint was made; `None` when it is not a whole one.
pub fn step_of(checkpoint: &Path) -> Option<u64> {
    read_state(checkpoint).ok().map(|file| file.clock.step)
}

/// Writes a file of tensors and says how many bytes it has.
fn write_tensors(path: &Path, tensors: &StateDict, step: u64) -> Result<u64> {
    let metadata = [
        // What readers of other programs look for.
        ("format", "pt".to_owned()),
        ("writer", format!("pipe {}", env!("CARGO_PKG_VERSION"))),
        ("step", step.to_string()),
    ];
    let metadata = metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    safetensors::write(path, tensors, &metadata)?;
    Ok(fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len())
}

fn read_tensors(path: &Path) -> Result<IndexMap<String, Tensor>> {
    let read = safetensors::read(path);
    Ok(read.with_context(|| format!("{} is missing or damaged", path.display()))?.tensors)
}

#[cfg(test)]
mod tests;
