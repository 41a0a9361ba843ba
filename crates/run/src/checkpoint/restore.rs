//! The way back to a checkpoint.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use indexmap::IndexMap;
use pipe_core::{Instance, Kind, NodeId, State};
use pipe_history::Lengths;
use pipe_vision::weights::{Weights, safetensors};
use pipe_vocab::refusal::SEED_CHANGED;
use tch::Tensor;

use super::files::{STATE_TENSORS, read_state};
use super::model_file;
use crate::graph::Graph;
use crate::labels;
use crate::random;

/// What came of going back to a checkpoint.
#[derive(Debug)]
pub struct Restored {
    /// What is in the checkpoint or in the pipeline only.
    pub warnings: Vec<String>,
    /// Bytes of `records.jsonl` at the checkpoint, and how much there was of what is drawn of them, where it is one of this very run's folder.
    pub records: Option<(u64, Option<Lengths>)>,
}

/// Restores a checkpoint: every node that is in both takes its state; nodes in only one of them are returned as warnings.
///
/// Every file is read before the first node changes.
///
/// # Errors
/// When a file is missing or damaged, or a state does not fit its node; when the seed is another one and that is not
/// `accepted`.
pub fn load(graph: &Graph, folder: &Path, accepted: &[String]) -> Result<Restored> {
    let run = &graph.run;
    let file = read_state(folder).context("resume from another checkpoint of the run")?;
    if file.seed != run.seed {
        let message = format!("the checkpoint was made with seed {}, the pipeline has seed {}", file.seed, run.seed);
        SEED_CHANGED.refuse(accepted, message)?;
    }
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
            let weights = read_weights(&path)?;
            if let (Some(trained), Some(now)) = (labels::of_weights(&weights.metadata), graph.classes.borrow().get(id))
            {
                labels::check_trained(id, &trained, now, accepted)?;
            }
            state.tensors = weights.tensors;
        }
        if !state.is_empty() {
            states.push((id.clone(), instance.clone(), state));
        }
    }
    // Before the nodes, some of which look at the time.
    run.clock.set(file.clock);
    run.restore_values(file.values);
    run.restore_terminations(file.terminations);
    graph.events.borrow().restore_fired(&file.fired)?;
    for (id, instance, state) in &states {
        instance.load_state(state).with_context(|| format!("restoring {id} from {}", folder.display()))?;
    }
    run.place.resume(file.frames);
    warnings.extend(
        by_node.keys().map(|node| format!("{node} is in the checkpoint but not in the pipeline; its state is ignored")),
    );
    random::restore(&random)?;
    run.set_last_checkpoint(Some(folder.to_owned()));
    let parents = folder.parent().zip(Some(run.folder.checkpoints()));
    let same_run = parents.is_some_and(|(theirs, ours)| theirs.canonicalize().ok() == ours.canonicalize().ok());
    Ok(Restored { warnings, records: same_run.then_some((file.records, file.history)) })
}

/// What a checkpoint has of a node that is no model. Its files were compared with what was written.
///
/// # Errors
/// When it has nothing of it, or cannot be read.
pub fn state_of(folder: &Path, node: &NodeId) -> Result<State> {
    let mut values = read_state(folder)?.nodes;
    let start = format!("{node}/");
    let tensors = read_tensors(&folder.join(STATE_TENSORS))?.into_iter();
    let tensors = tensors.filter_map(|(name, tensor)| Some((name.strip_prefix(&start)?.to_owned(), tensor))).collect();
    let state = State { values: values.remove(&node.to_string()).unwrap_or_default(), tensors };
    ensure!(!state.is_empty(), "{} has no state of {node}", folder.display());
    Ok(state)
}

fn read_tensors(path: &Path) -> Result<IndexMap<String, Tensor>> {
    Ok(read_weights(path)?.tensors)
}

fn read_weights(path: &Path) -> Result<Weights> {
    safetensors::read(path).with_context(|| format!("{} is missing or damaged", path.display()))
}
