//! State from a node to the one that takes its place.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use serde::Serialize;

use pipe_core::{Instance, Kind, NodeId, State};

/// What happened to a model's tensors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Weights {
    /// The model.
    pub model: String,
    /// Names whose values were kept.
    pub kept: Vec<String>,
    /// Names that begin with the new model's own values: unknown before, or of another shape.
    pub new: Vec<String>,
    /// Names that the new model has no use for, or has in another shape.
    pub dropped: Vec<String>,
}

impl Weights {
    /// `all 6 tensors kept`, or what was not.
    pub fn describe(&self) -> String {
        if self.new.is_empty() && self.dropped.is_empty() {
            return format!("all {} tensors kept", self.kept.len());
        }
        let mut parts = vec![format!("{} tensors kept", self.kept.len())];
        if !self.kept.is_empty() && self.kept.len() <= SHOWN {
            parts[0].push_str(&format!(" ({})", some(&self.kept)));
        }
        for (what, names) in [("new", &self.new), ("dropped", &self.dropped)] {
            if !names.is_empty() {
                parts.push(format!("{} {what} ({})", names.len(), some(names)));
            }
        }
        parts.join(", ")
    }
}

/// Names shown of a list.
const SHOWN: usize = 6;

fn some(names: &[String]) -> String {
    let more = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names[..names.len().min(SHOWN)].join(", "))
}

/// Gives `new` the state of `old`, which is left as it is. Of a model, every tensor whose name and shape fit.
///
/// # Errors
/// When the state does not fit.
pub fn carry(id: &NodeId, old: &Instance, new: &Instance) -> Result<Option<Weights>> {
    let state = old.state().with_context(|| format!("reading the state of {id}"))?;
    let taking = || format!("{id} cannot continue from its previous state");
    match new {
        Instance::Model(_) => {
            let (merged, weights) = merge(id, &state, new.state()?);
            new.load_state(&merged).with_context(taking)?;
            Ok(Some(weights))
        }
        _ if state.is_empty() => Ok(None),
        _ => new.load_state(&state).map(|()| None).with_context(taking),
    }
}

/// Whether a node of this kind that is rebuilt continues from where it was: those that stand for progress. `gentle` is true
/// when none of its own options that changed asks for a new beginning.
pub fn keeps_state(kind: Kind, gentle: bool) -> bool {
    match kind {
        Kind::Model => true,
        Kind::Optimizer | Kind::Scheduler | Kind::Handler | Kind::Sink => gentle,
        // An engine changes in place; data and metrics start over.
        Kind::Engine | Kind::Dataset | Kind::Transform | Kind::Loader | Kind::Metric => false,
    }
}

fn merge(id: &NodeId, old: &State, own: State) -> (State, Weights) {
    let mut weights = Weights { model: id.to_string(), ..Weights::default() };
    let mut tensors = IndexMap::new();
    for (name, tensor) in own.tensors {
        match old.tensors.get(&name).filter(|former| former.size() == tensor.size()) {
            Some(former) => {
                weights.kept.push(name.clone());
                tensors.insert(name, former.shallow_clone());
            }
            None => {
                weights.new.push(name.clone());
                tensors.insert(name, tensor);
            }
        }
    }
    let kept: BTreeSet<&String> = weights.kept.iter().collect();
    weights.dropped = old.tensors.keys().filter(|name| !kept.contains(name)).cloned().collect();
    let alike = old.values.keys().eq(own.values.keys());
    (State { values: if alike { old.values.clone() } else { own.values }, tensors }, weights)
}
