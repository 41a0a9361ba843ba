//! An edit of a model's `weights`: they are read and compared before anything changes, and put into the model at work, which is not built
//! anew. With `optimizer_state` its optimizers and averages take theirs from the same checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pipe_core::checkpoints::found::{COMPLETE, verified, weights_file};
use pipe_core::{Instance, Kind, NodeId, Nodes, State};
use pipe_plan::Plan;
use pipe_vision::nn::StateDict;
use pipe_vision::weights::{self, torchvision};
use pipe_vocab::PathValue;
use serde::Serialize;
use serde_json::Value as Json;

use super::affected::Affected;
use super::difference::{Change, OPTIMIZER_STATE, WEIGHTS, What};
use crate::build::{Site, build_node};
use crate::graph::Graph;
use crate::{checkpoint, labels};

/// What an edit has loaded, for the trail.
#[derive(Debug, Clone, Serialize)]
pub struct Loaded {
    /// The model.
    pub model: String,
    /// What its `weights` say.
    pub from: String,
    /// The file that this meant.
    pub file: PathBuf,
    /// The step at which the file was written, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// How many tensors the model has.
    pub tensors: usize,
    /// The optimizers and averages that took their state from the same checkpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<String>,
    /// Averages of the model that begin anew, with these weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub anew: Vec<String>,
}

impl Loaded {
    /// In words.
    pub fn describe(&self) -> String {
        let Loaded { model, file, step, tensors, with, anew, .. } = self;
        let step = step.as_ref().map(|step| format!(" (step {step})")).unwrap_or_default();
        let mut text = format!("{model}: all {tensors} tensors loaded from {}{step}", file.display());
        for (names, what) in [(with, "their state from there, too"), (anew, "begin anew with these weights")] {
            if !names.is_empty() {
                text.push_str(&format!("; {}: {what}", names.join(", ")));
            }
        }
        text
    }
}

/// What is to be put into nodes that are in place.
pub struct Load {
    states: Vec<(NodeId, State)>,
    /// What there is to say of it.
    pub loaded: Loaded,
}

impl Load {
    /// Puts it in place. All was compared before.
    pub fn commit(self, graph: &Graph) {
        for (id, state) in self.states {
            if let Err(error) = graph.node(&id).and_then(|node| node.load_state(&state)) {
                tracing::error!("{id} did not take its state from {}: {error:#}", self.loaded.file.display());
            }
        }
    }
}

/// Where an edit is looked at.
pub struct Place<'a> {
    /// The run.
    pub graph: &'a Graph,
    /// The new plan.
    pub plan: &'a Plan,
    /// What differs.
    pub changes: &'a [Change],
    /// What is rebuilt.
    pub affected: &'a Affected,
    /// The nodes of the new plan.
    pub nodes: &'a Nodes,
}

impl Place<'_> {
    /// Reads what the edit is to load, and compares it.
    ///
    /// # Errors
    /// When it cannot be had, or does not fit in each name and shape.
    pub fn read(&self, site: &Site<'_>) -> Result<Vec<Load>> {
        let mut loads = Vec::new();
        for change in self.changes.iter().filter(|change| change.is_load() && change.is_of(WEIGHTS)) {
            let (Some(id), What::Option { to, .. }) = (&change.node, &change.what) else { continue };
            self.check_alike(id, site)?;
            if let Some(value) = to.as_ref().and_then(Json::as_str) {
                let load = self.load(id, value);
                loads.push(load.with_context(|| format!("`{id}.{WEIGHTS}` cannot be loaded into the model at work"))?);
            }
        }
        Ok(loads)
    }

    fn instance(&self, id: &NodeId) -> Result<&Instance> {
        self.nodes.get(id).with_context(|| format!("there is no {id}"))
    }

    /// Whether the model would be the same one if it were built with the new options: a resume builds it so.
    fn check_alike(&self, id: &NodeId, site: &Site<'_>) -> Result<()> {
        if self.affected.build.contains_key(id) {
            bail!(
                "an edit of `{id}.{WEIGHTS}` loads them into the model as it is, and this one also rebuilds {id}: make two edits of it"
            );
        }
        let node = self.plan.nodes.get(id).with_context(|| format!("there is no {id}"))?;
        let site = Site { initial_weights: false, ..*site };
        let built = build_node(self.plan, node, &site).with_context(|| node.cannot_build())?.instance;
        // What is at work, where another waits for the end of the epoch.
        let own = self.graph.node(id)?;
        let alike =
            same_shapes(&own.state()?.tensors, &built.state()?.tensors).is_ok() && trained(&own) == trained(&built);
        ensure!(
            alike,
            "with this edit of `{id}.{WEIGHTS}` options that are left out have other defaults (which layers are trained or frozen, \
             the kind of norm, an auxiliary classifier), so that the model would be another after a resume: set them first, as they are"
        );
        Ok(())
    }

    fn load(&self, id: &NodeId, value: &str) -> Result<Load> {
        let path = PathValue::new(value);
        let path = path.path().filter(|path| torchvision::of_file(path).is_none());
        let path =
            path.context("weights that torchvision publishes are to begin with: name a file, a run or a checkpoint")?;
        let file = weights_file(path, id)?;
        let folder = file.parent().filter(|folder| folder.join(COMPLETE).is_file());
        if let Some(folder) = folder {
            verified(folder)?;
        }
        let read = weights::read(&file)?;
        let classes = self.graph.classes.borrow();
        if let (Some(learnt), Some(now)) = (labels::of_weights(&read.metadata), classes.get(id)) {
            labels::check_trained(id, &learnt, now, &self.plan.pipeline.accept)?;
        }
        let own = self.graph.node(id)?.state()?;
        same_shapes(&own.tensors, &read.tensors)
            .map_err(|error| error.context(format!("{} does not fit", file.display())))?;
        let mut loaded = Loaded {
            model: id.to_string(),
            from: value.to_owned(),
            file: file.clone(),
            step: read.metadata.get("step").cloned(),
            tensors: read.tensors.len(),
            with: Vec::new(),
            anew: Vec::new(),
        };
        let mut states = Vec::new();
        let whole = self.option(id, OPTIMIZER_STATE).as_bool() == Some(true);
        let of_run = || {
            folder
                .with_context(|| format!("`{OPTIMIZER_STATE}` needs a checkpoint, and {} lies in none", file.display()))
        };
        for holder in self.holders(id, Kind::Optimizer).filter(|_| whole) {
            let state = checkpoint::state_of(of_run()?, holder)?;
            fits_optimizer(holder, &self.instance(holder)?.state()?, &state, &read.tensors)?;
            loaded.with.push(holder.to_string());
            states.push((holder.clone(), state));
        }
        let averages = |id: &NodeId| self.plan.nodes.get(id).is_some_and(|node| node.facts().averages);
        for holder in self.holders(id, Kind::Model).filter(|holder| averages(holder)) {
            let (tensors, names) = match whole {
                true => (weights_in(of_run()?, holder)?, &mut loaded.with),
                false => (copies(&read.tensors), &mut loaded.anew),
            };
            same_shapes(&self.instance(holder)?.state()?.tensors, &tensors).with_context(|| format!("of {holder}"))?;
            names.push(holder.to_string());
            states.push((holder.clone(), State { tensors, ..State::default() }));
        }
        states.insert(0, (id.clone(), State { values: own.values, tensors: read.tensors }));
        Ok(Load { states, loaded })
    }

    fn option(&self, id: &NodeId, name: &str) -> Json {
        let component = self.plan.nodes.get(id).and_then(|node| node.component.as_ref());
        component.map(|component| component.to_json()[name].clone()).unwrap_or_default()
    }

    fn holders<'s>(&'s self, id: &'s NodeId, kind: Kind) -> impl Iterator<Item = &'s NodeId> {
        self.plan.data_edges.iter().filter(move |edge| edge.from == *id && edge.to.kind == kind).map(|edge| &edge.to)
    }
}

fn trained(instance: &Instance) -> Option<Vec<String>> {
    let Instance::Model(model) = instance else { return None };
    Some(model.try_borrow().ok()?.parameters().into_iter().map(|(name, _)| name).collect())
}

fn copies(tensors: &StateDict) -> StateDict {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

fn weights_in(checkpoint: &Path, model: &NodeId) -> Result<StateDict> {
    let file = checkpoint.join(checkpoint::model_file(model));
    ensure!(file.is_file(), "{} has no {model}", checkpoint.display());
    Ok(weights::read(&file)?.tensors)
}

/// Whether both have the same names and shapes; of a refusal, some that differ.
fn same_shapes(own: &StateDict, read: &StateDict) -> Result<()> {
    const SHOWN: usize = 4;
    let missing = own.keys().filter(|name| !read.contains_key(*name)).map(|name| format!("`{name}` is missing"));
    let more = read.keys().filter(|name| !own.contains_key(*name)).map(|name| format!("the model has no `{name}`"));
    let other = own.iter().filter_map(|(name, tensor)| {
        let found = read.get(name).filter(|found| found.size() != tensor.size())?;
        Some(format!("`{name}` is {:?} there, {:?} in the model", found.size(), tensor.size()))
    });
    let all: Vec<String> = missing.chain(more).chain(other).collect();
    let rest = if all.len() > SHOWN { format!(" and {} more", all.len() - SHOWN) } else { String::new() };
    ensure!(all.is_empty(), "{}{rest}", all[..all.len().min(SHOWN)].join(", "));
    Ok(())
}

/// Whether an optimizer can go on from another's state, of a model with these weights. Its tensors are called `what/parameter`.
fn fits_optimizer(id: &NodeId, own: &State, read: &State, weights: &StateDict) -> Result<()> {
    let (before, now) = (own.values.get("type"), read.values.get("type"));
    ensure!(before == now, "{id} is {}, the checkpoint's is {}", shown(before), shown(now));
    let what = |state: &State| -> std::collections::BTreeSet<String> {
        state.tensors.keys().filter_map(|name| Some(name.split_once('/')?.0.to_owned())).collect()
    };
    let (mine, theirs) = (what(own), what(read));
    // One that has made no step has nothing yet.
    let begun = !own.tensors.is_empty() && !read.tensors.is_empty();
    ensure!(!begun || mine == theirs, "{id} keeps {mine:?} of each parameter, the checkpoint's {theirs:?}");
    for (name, tensor) in &read.tensors {
        let Some((_, parameter)) = name.split_once('/') else { continue };
        let size = weights.get(parameter).map(|weight| weight.size());
        let fits = tensor.size().is_empty() || size.as_ref() == Some(&tensor.size());
        ensure!(fits, "{id}: `{name}` is {:?} in the checkpoint and fits no parameter", tensor.size());
    }
    Ok(())
}

fn shown(value: Option<&Json>) -> String {
    value.map_or("of no type".to_owned(), ToString::to_string)
}
