//! Checkpoints: everything needed to go on exactly, in one folder a checkpoint.
//!
//! `checkpoints/<name>/` holds `model.<node>.safetensors` (the state dict under torchvision's names, readable by any tool),
//! `state.safetensors` (all other tensors, as `node/name`), `state.json` (all other values) and `pipeline.toml`. It is written
//! under another name and renamed, so a checkpoint is whole or absent.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tch::Tensor;

use super::{Clock, Instance, RunContext, State, random};
use crate::registry::{Kind, NodeId};

/// The layout of checkpoints; a reader refuses newer ones.
const FORMAT: u32 = 1;

/// The plain part of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
struct StateFile {
    format: u32,
    clock: Clock,
    seed: u64,
    /// Values by node.
    nodes: BTreeMap<String, Map<String, Value>>,
}

/// Writes a checkpoint of everything in the run.
///
/// `extra` holds states of nodes that are at work just now and so cannot be asked (the checkpoint handler itself).
///
/// # Errors
/// When a state cannot be read or the disk is full; what was written is then removed and older checkpoints are untouched.
pub fn save(run: &RunContext, name: &str, extra: &[(NodeId, State)]) -> Result<PathBuf> {
    let folder = run.folder.checkpoints();
    let target = folder.join(name);
    let temporary = folder.join(format!(".{name}.tmp{}", std::process::id()));
    let written = write_all(run, &temporary, extra).and_then(|()| {
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        fs::rename(&temporary, &target)?;
        Ok(())
    });
    if let Err(error) = written {
        let _ = fs::remove_dir_all(&temporary);
        return Err(error
            .context(format!("checkpoint {} was not written; earlier checkpoints are untouched", target.display())));
    }
    run.set_last_checkpoint(Some(target.clone()));
    Ok(target)
}

fn write_all(run: &RunContext, folder: &Path, extra: &[(NodeId, State)]) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut nodes = BTreeMap::new();
    let mut tensors: IndexMap<String, Tensor> = IndexMap::new();
    for (id, instance) in run.nodes.borrow().iter() {
        let state = match extra.iter().find(|(node, _)| node == id) {
            Some((_, state)) => state.shallow_clone(),
            None => state_of(instance).with_context(|| format!("reading the state of {id}"))?,
        };
        if id.kind == Kind::Model {
            write_tensors(&folder.join(model_file(id)), &state.tensors)?;
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
    write_tensors(&folder.join("state.safetensors"), &tensors)?;
    let state = StateFile { format: FORMAT, clock: run.clock.get(), seed: run.seed, nodes };
    super::folder::write_atomically(&folder.join("state.json"), &serde_json::to_vec_pretty(&state)?)?;
    let pipeline = run.folder.path().join("pipeline.toml");
    if pipeline.exists() {
        fs::copy(&pipeline, folder.join("pipeline.toml"))?;
    }
    Ok(())
}

/// The name of a model's weights inside a checkpoint: `model.safetensors` when it is called like that, else
/// `model.<name>.safetensors`.
pub fn model_file(id: &NodeId) -> String {
    format!("model.{}.safetensors", id.name)
}

/// Goes back to a checkpoint: every node that is in both takes its state; what is in one only is said.
///
/// # Errors
/// When a file is missing or damaged, or a state does not fit its node.
pub fn load(run: &RunContext, folder: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(folder.join("state.json"))
        .with_context(|| format!("{} is not a checkpoint of pipe: it has no readable state.json", folder.display()))?;
    let file: StateFile =
        serde_json::from_str(&text).with_context(|| format!("{}/state.json is damaged", folder.display()))?;
    if file.format > FORMAT {
        bail!(
            "{} was written by a newer pipe (format {}); this one reads up to {FORMAT}",
            folder.display(),
            file.format
        );
    }
    let mut by_node: BTreeMap<String, State> = BTreeMap::new();
    for (node, values) in file.nodes {
        by_node.entry(node).or_default().values = values;
    }
    let mut random = IndexMap::new();
    for (name, tensor) in read_tensors(&folder.join("state.safetensors"))? {
        let (node, name) =
            name.split_once('/').ok_or_else(|| anyhow!("state.safetensors holds a tensor of no node: {name}"))?;
        if node == "random" {
            random.insert(name.to_owned(), tensor);
        } else {
            by_node.entry(node.to_owned()).or_default().tensors.insert(name.to_owned(), tensor);
        }
    }
    let mut said = Vec::new();
    for (id, instance) in run.nodes.borrow().iter() {
        let mut state = by_node.remove(&id.to_string()).unwrap_or_default();
        if id.kind == Kind::Model {
            let path = folder.join(model_file(id));
            if !path.exists() {
                said.push(format!("{id} is not in the checkpoint and starts from its own weights"));
                continue;
            }
            state.tensors = read_tensors(&path)?;
        }
        if !state.is_empty() {
            restore(instance, &state).with_context(|| format!("restoring {id} from {}", folder.display()))?;
        }
    }
    said.extend(
        by_node
            .keys()
            .map(|node| format!("{node} is in the checkpoint but not in the pipeline; its state is left out")),
    );
    random::restore(&random)?;
    run.clock.set(file.clock);
    run.set_last_checkpoint(Some(folder.to_owned()));
    Ok(said)
}

/// The newest whole checkpoint of a run's folder.
pub fn latest(run_folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(run_folder.join("checkpoints")).ok()?;
    let whole = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        !hidden && path.join("state.json").exists()
    });
    whole.filter_map(|path| step_of(&path).map(|step| (step, path))).max().map(|(_, path)| path)
}

/// The step at which a checkpoint was made.
pub fn step_of(checkpoint: &Path) -> Option<u64> {
    let text = fs::read_to_string(checkpoint.join("state.json")).ok()?;
    serde_json::from_str::<StateFile>(&text).ok().map(|file| file.clock.step)
}

fn state_of(instance: &Instance) -> Result<State> {
    let busy = "it is at work";
    match instance {
        Instance::Dataset(_) | Instance::Transform(_) => Ok(State::default()),
        Instance::Loader(node) => node.try_borrow().context(busy)?.state(),
        Instance::Model(node) => node.try_borrow().context(busy)?.state(),
        Instance::Optimizer(node) => node.try_borrow().context(busy)?.state(),
        Instance::Scheduler(node) => node.try_borrow().context(busy)?.state(),
        Instance::Metric(node) => node.try_borrow().context(busy)?.state(),
        Instance::Engine(engine) => engine.state(),
        Instance::Handler(node) => node.try_borrow().context(busy)?.state(),
        Instance::Sink(node) => node.try_borrow().context(busy)?.state(),
    }
}

fn restore(instance: &Instance, state: &State) -> Result<()> {
    let busy = "it is at work";
    match instance {
        Instance::Dataset(_) | Instance::Transform(_) => Ok(()),
        Instance::Loader(node) => node.try_borrow_mut().context(busy)?.load_state(state),
        Instance::Model(node) => node.try_borrow_mut().context(busy)?.load_state(state),
        Instance::Optimizer(node) => node.try_borrow_mut().context(busy)?.load_state(state),
        Instance::Scheduler(node) => node.try_borrow_mut().context(busy)?.load_state(state),
        Instance::Metric(node) => node.try_borrow_mut().context(busy)?.load_state(state),
        Instance::Engine(engine) => engine.load_state(state),
        Instance::Handler(node) => node.try_borrow_mut().context(busy)?.load_state(state),
        Instance::Sink(node) => node.try_borrow_mut().context(busy)?.load_state(state),
    }
}

fn write_tensors(path: &Path, tensors: &IndexMap<String, Tensor>) -> Result<()> {
    let named: Vec<(&str, Tensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t.contiguous())).collect();
    Tensor::write_safetensors(&named, path).with_context(|| format!("cannot write {}", path.display()))
}

fn read_tensors(path: &Path) -> Result<IndexMap<String, Tensor>> {
    let tensors = Tensor::read_safetensors(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(tensors.into_iter().collect())
}
