//! Building the pieces of a new plan aside, and putting them in place.
//!
//! [`prepare`] may fail, and then nothing has changed. [`Prepared::commit`] and [`Waiting::finish`] cannot.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;

use super::affected::{Affected, same_component};
use super::carry::{Weights, carry, keeps_state};
use super::difference::{Change, What};
use super::loads::{Load, Loaded, Place};
use pipe_core::component::build::OnCommit;
use pipe_core::{Engine, Instance, Kind, Loader, NodeId, Nodes, Reload, Shared, Sink};
use pipe_document::PathSegment;
use pipe_plan::{EventEdge, Plan, PlanNode};
use pipe_vocab::refusal::WEIGHTS_LOST;
use pipe_vocab::reload::is_tried;
use pipe_vocab::{Catalog, Refusal};

use crate::build::{Site, build_node, join_nodes};
use crate::graph::{Graph, Offers};
use crate::labels;
use crate::random;
use crate::running::{add_console, wants_console};

/// The pieces of a new plan, built and tried, not yet in place.
pub struct Prepared {
    /// What the change concerns.
    pub affected: Affected,
    made: Made,
    /// What is put into nodes that stay.
    loads: Vec<Load>,
    /// The components that the new plan may name.
    catalog: Rc<Catalog>,
}

/// What waits for the end of the epoch.
#[derive(Default)]
pub struct Waiting {
    nodes: Nodes,
    going_on: BTreeSet<NodeId>,
    processes: IndexMap<NodeId, (Rc<Engine>, Rc<Engine>)>,
    loaders: IndexMap<NodeId, (Rc<Engine>, Shared<dyn Loader>)>,
    on_commit: Vec<(NodeId, OnCommit)>,
    /// The event edges that hold until then, where the new ones name a node that waits.
    events: Option<Vec<EventEdge>>,
}

impl Waiting {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.processes.is_empty() && self.loaders.is_empty()
    }

    /// Whether event edges wait.
    pub fn has_events(&self) -> bool {
        self.events.is_some()
    }

    /// Everything that waits, for people: engines that wait for their loader alone included.
    pub fn names(&self) -> Vec<String> {
        let all: BTreeSet<&NodeId> =
            self.nodes.keys().chain(self.processes.keys()).chain(self.loaders.keys()).collect();
        all.into_iter().map(ToString::to_string).collect()
    }

    /// The nodes that wait, engines that wait for their loader alone not included.
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().chain(self.processes.keys()).cloned().collect()
    }
}

/// Builds what differs between `old` and `new`, with all that holds it, and tries a batch where data or model are new.
///
/// `at_work` is the engine between whose iterations this happens.
///
/// # Errors
/// What cannot be built or does not work; nothing has changed then, not even the state of the random generators.
pub fn prepare(
    graph: &Graph,
    catalog: &Rc<Catalog>,
    old: &Plan,
    new: &Plan,
    changes: &[Change],
    waiting: &Waiting,
    at_work: Option<&NodeId>,
) -> Result<Prepared> {
    if let Some(engine) = at_work.filter(|engine| !same_component(old, new, engine)) {
        bail!("{engine} is running: its options can change, but it cannot be removed or change its type");
    }
    refuse_lost_weights(changes, &new.pipeline.accept)?;
    let of_nodes = rebuilding(changes, at_work.is_some());
    let affected = Affected::of(&of_nodes, old, new, &waiting.ids());
    let effective = {
        let mut nodes = graph.nodes.borrow().clone();
        nodes.extend(waiting.nodes.iter().map(|(id, instance)| (id.clone(), instance.clone())));
        nodes
    };
    let offers = graph.offers.borrow().clone();
    let generators = random::states()?;
    let made = Made { offers, ..Made::default() };
    let mut builder = Builder { graph, catalog, old, new, changes, effective, affected: &affected, made };
    let result = builder.build().and_then(|()| builder.check_labels()).and_then(|()| builder.try_batches());
    let loads = result.and_then(|()| if at_work.is_some() { builder.loads() } else { Ok(Vec::new()) });
    let made = builder.made;
    random::restore(&generators)?;
    Ok(Prepared { affected, made, loads: loads?, catalog: catalog.clone() })
}

/// The changes by which nodes are built anew. Of a run at work weights are loaded into the model that is there.
pub fn rebuilding(changes: &[Change], at_work: bool) -> Vec<Change> {
    changes.iter().filter(|change| !(at_work && change.is_load())).cloned().collect()
}

/// A model that is removed while another one is added was most likely renamed: its weights would be gone without a word.
fn refuse_lost_weights(changes: &[Change], accepted: &[String]) -> Result<(), Refusal> {
    let models = |wanted: fn(&What) -> bool| {
        let of_kind =
            changes.iter().filter(move |change| wanted(&change.what)).filter_map(|change| change.node.as_ref());
        of_kind.filter(|id| id.kind == Kind::Model).map(ToString::to_string).collect::<Vec<_>>()
    };
    let removed = models(|what| matches!(what, What::Removed { .. }));
    let added = models(|what| matches!(what, What::Added { .. }));
    if removed.is_empty() || added.is_empty() {
        return Ok(());
    }
    let (removed, added) = (removed.join(", "), added.join(", "));
    WEIGHTS_LOST.refuse(accepted, format!("the weights of {removed} would be lost: {added} starts with its own"))
}

/// What was built aside.
#[derive(Default)]
struct Made {
    /// Every node of the new plan, in the order of building.
    nodes: Nodes,
    /// What they offer.
    offers: Offers,
    /// What to do to the run once a node has its place.
    on_commit: Vec<(NodeId, OnCommit)>,
    /// What happened to models' tensors.
    weights: Vec<Weights>,
    /// Engines at hand, each with the new one whose parts it takes.
    engines: Vec<(NodeId, Rc<Engine>, Rc<Engine>)>,
    /// New engines, those that lend their parts included.
    fresh: Vec<(NodeId, Rc<Engine>)>,
    /// Nodes rebuilt that continue from the state of their predecessors.
    going_on: BTreeSet<NodeId>,
    /// Optimizers that had a state and do not continue from it.
    reset: Vec<NodeId>,
}

struct Builder<'a> {
    graph: &'a Graph,
    catalog: &'a Rc<Catalog>,
    old: &'a Plan,
    new: &'a Plan,
    changes: &'a [Change],
    effective: Nodes,
    affected: &'a Affected,
    made: Made,
}

impl Builder<'_> {
    fn build(&mut self) -> Result<()> {
        let gone = self.changes.iter().filter(|change| matches!(change.what, What::Removed { .. }));
        let gone = gone.filter_map(|change| change.node.clone()).filter(|id| id.kind == Kind::Optimizer);
        for id in gone {
            if let Some(former) = self.effective.get(&id)
                && !former.state()?.tensors.is_empty()
            {
                self.made.reset.push(id);
            }
        }
        for id in &self.new.order {
            let former = self.effective.get(id).cloned();
            let instance = match former {
                Some(former) if !self.affected.build.contains_key(id) => former,
                former => {
                    let new = self.new;
                    let node = new.nodes.get(id).with_context(|| format!("there is no {id}"))?;
                    self.build_one(node, former).with_context(|| node.cannot_build())?
                }
            };
            self.made.nodes.insert(id.clone(), instance);
        }
        Ok(())
    }

    fn site(&self) -> Site<'_> {
        let Made { nodes, offers, .. } = &self.made;
        Site { run: &self.graph.run, nodes, offers, catalog: self.catalog, initial_weights: true }
    }

    /// The new nodes, engines at hand replaced by those whose parts they take.
    fn with_parts(&self) -> Nodes {
        let mut nodes = self.made.nodes.clone();
        let parts = self.made.engines.iter();
        nodes.extend(parts.map(|(id, _, fresh)| (id.clone(), Instance::Engine(fresh.clone()))));
        nodes
    }

    fn build_one(&mut self, node: &PlanNode, former: Option<Instance>) -> Result<Instance> {
        let id = &node.id;
        // A scheduler drives a part that an engine at hand takes over later.
        let with_parts = (id.kind == Kind::Scheduler).then(|| self.with_parts());
        let site = Site { nodes: with_parts.as_ref().unwrap_or(&self.made.nodes), ..self.site() };
        let built = build_node(self.new, node, &site)?;
        self.made.offers.extend(built.offers.into_iter().map(|(name, value)| ((id.clone(), name), value)));
        self.made.on_commit.extend(built.on_commit.into_iter().map(|action| (id.clone(), action)));
        let built = built.instance;
        if let Instance::Engine(fresh) = &built {
            self.made.fresh.push((id.clone(), fresh.clone()));
            if let Some(Instance::Engine(engine)) = former.filter(|_| same_component(self.old, self.new, id)) {
                fresh.take_process_state(&engine)?;
                self.made.engines.push((id.clone(), engine.clone(), fresh.clone()));
                return Ok(Instance::Engine(engine));
            }
            return Ok(built);
        }
        let Some(former) = former else { return Ok(built) };
        let own = || self.changes.iter().filter(|change| change.node.as_ref() == Some(id));
        let replaced = own().any(|change| matches!(change.what, What::Replaced { .. }));
        let gentle = own().all(|change| change.class() == Reload::Hot || matches!(change.what, What::Replaced { .. }));
        if !keeps_state(id.kind, gentle) {
            if id.kind == Kind::Optimizer && !former.state()?.tensors.is_empty() {
                self.made.reset.push(id.clone());
            }
            return Ok(built);
        }
        match carry(id, &former, &built) {
            Ok(weights) => {
                self.made.weights.extend(weights);
                self.made.going_on.insert(id.clone());
            }
            // Another build of a component may well keep another state.
            Err(error) if replaced => tracing::warn!("{id} starts with a new state: {error:#}"),
            Err(error) => return Err(error),
        }
        Ok(built)
    }

    /// What is to be loaded into models that stay.
    fn loads(&self) -> Result<Vec<Load>> {
        let (graph, plan, changes, affected) = (self.graph, self.new, self.changes, self.affected);
        Place { graph, plan, changes, affected, nodes: &self.made.nodes }.read(&self.site())
    }

    /// Whether labels mean what they meant to the models that keep their weights.
    fn check_labels(&self) -> Result<()> {
        let mut learnt = self.graph.classes.borrow().clone();
        learnt.retain(|model, _| self.made.going_on.contains(model) || !self.affected.build.contains_key(model));
        Ok(labels::check_edit(self.new, &self.made.nodes, &learnt)?)
    }

    /// Whether a batch may stumble over a change: not over an interval.
    fn is_tried(&self, change: &Change) -> bool {
        let node = change.node.as_ref().and_then(|id| self.new.nodes.get(id));
        match (&change.what, node) {
            (What::Option { path, .. }, Some(node)) => match path.first() {
                Some(PathSegment::Key(option)) => is_tried(node.descriptor.schema(), option),
                _ => true,
            },
            _ => true,
        }
    }

    /// Where data, model or what is done with them are new, the first iteration must not be the first try.
    fn try_batches(&self) -> Result<()> {
        for (id, fresh) in &self.made.fresh {
            let held = |kind: Kind| {
                self.new.data_edges.iter().find(|edge| edge.to == *id && edge.from.kind == kind).map(|edge| &edge.from)
            };
            let is_built = |id: Option<&NodeId>| id.is_some_and(|id| self.affected.build.contains_key(id));
            let own = self.changes.iter().any(|change| change.node.as_ref() == Some(id) && self.is_tried(change));
            if !own && !is_built(held(Kind::Model)) && !is_built(held(Kind::Loader)) {
                continue;
            }
            let loader = match held(Kind::Loader) {
                // One that is in use must not be asked for batches: another one of the same options is.
                Some(loader) if !is_built(Some(loader)) => {
                    let node = self.new.nodes.get(loader).with_context(|| format!("there is no {loader}"))?;
                    let built = build_node(self.new, node, &self.site());
                    let built = built.with_context(|| node.cannot_build())?;
                    let Instance::Loader(built) = built.instance else { bail!("{loader} is not a loader") };
                    built
                }
                _ => fresh.loader(),
            };
            fresh.rehearse(&loader, &self.graph.run)?;
        }
        Ok(())
    }
}

impl Prepared {
    /// What happened to models' tensors.
    pub fn weights(&self) -> Vec<Weights> {
        self.made.weights.clone()
    }

    /// What is loaded into models that stay.
    pub fn loaded(&self) -> Vec<Loaded> {
        self.loads.iter().map(|load| load.loaded.clone()).collect()
    }

    /// Optimizers whose state is gone.
    pub fn reset(&self) -> Vec<String> {
        self.made.reset.iter().map(ToString::to_string).collect()
    }

    /// Puts in place what need not wait for the end of the epoch; the rest joins what was `waiting`.
    pub fn commit(self, graph: &Graph, old: &Plan, new: &Plan, waiting: &mut Waiting, quiet: bool) {
        let Prepared { affected, made, loads, catalog } = self;
        let Made { mut nodes, offers, on_commit, engines, going_on, .. } = made;
        let later = affected.later.clone();
        // Engines at hand stay where they are and take the parts of the new ones.
        let in_place: BTreeSet<NodeId> = engines.iter().map(|(id, ..)| id.clone()).collect();
        waiting.nodes.retain(|id, _| new.nodes.contains_key(id) && !affected.build.contains_key(id));
        waiting.going_on.retain(|id| waiting.nodes.contains_key(id));
        waiting.on_commit.retain(|(id, _)| waiting.nodes.contains_key(id));
        waiting.processes.retain(|id, _| new.nodes.contains_key(id) && !affected.build.contains_key(id));
        waiting.loaders.retain(|id, _| new.nodes.contains_key(id) && !affected.build.contains_key(id));
        let live = graph.nodes.borrow().clone();
        let mut now = IndexMap::new();
        for id in &new.order {
            let Some(built) = nodes.shift_remove(id) else { continue };
            let stays = in_place.contains(id) && live.contains_key(id);
            let waits = waiting.nodes.contains_key(id) || later.contains(id) && !stays;
            if !waits {
                now.insert(id.clone(), built);
                continue;
            }
            now.extend(live.get(id).map(|former| (id.clone(), former.clone())));
            if later.contains(id) {
                waiting.nodes.insert(id.clone(), built);
            }
        }
        waiting.going_on.extend(going_on.iter().filter(|id| later.contains(*id)).cloned());
        for (id, engine, fresh) in engines {
            if !Rc::ptr_eq(&engine.loader(), &fresh.loader()) {
                waiting.loaders.insert(id.clone(), (engine.clone(), fresh.loader()));
            }
            if later.contains(&id) {
                waiting.processes.insert(id, (engine, fresh));
            } else {
                engine.adopt_process(&fresh);
            }
        }
        let order = |id: &NodeId| new.order.iter().position(|other| other == id);
        waiting.nodes.sort_by(|a, _, b, _| order(a).cmp(&order(b)));
        let all_there =
            new.event_edges.iter().flat_map(|edge| &edge.targets).all(|target| now.contains_key(&target.node));
        *graph.nodes.borrow_mut() = now;
        *graph.offers.borrow_mut() = offers.into_iter().filter(|((id, _), _)| new.nodes.contains_key(id)).collect();
        *graph.catalog.borrow_mut() = catalog;
        for (id, action) in on_commit {
            match waiting.nodes.contains_key(&id) {
                true => waiting.on_commit.push((id, action)),
                false => action(&graph.run),
            }
        }
        // What an event runs may count on what runs before it: new edges hold once everything that they name is there.
        let former = waiting.events.take().unwrap_or_else(|| old.event_edges.clone());
        waiting.events = (!all_there).then_some(former);
        let edges = waiting.events.as_deref().unwrap_or(&new.event_edges);
        detach(&live, graph);
        join(graph, &live, new, edges, quiet);
        labels::remember(new, graph);
        loads.into_iter().for_each(|load| load.commit(graph));
    }
}

impl Waiting {
    /// Puts everything in place that waited for the end of the epoch.
    pub fn finish(self, graph: &Graph, plan: &Plan, quiet: bool) {
        let live = graph.nodes.borrow().clone();
        let mut nodes = IndexMap::new();
        for id in &plan.order {
            let former = live.get(id);
            let Some(built) = self.nodes.get(id) else {
                nodes.extend(former.map(|former| (id.clone(), former.clone())));
                continue;
            };
            // Training continued since they were built.
            if let Some(former) = former.filter(|_| self.going_on.contains(id))
                && let Err(error) = carry(id, former, built)
            {
                tracing::warn!("{id} continues from its state when the edit was read: {error:#}");
            }
            nodes.insert(id.clone(), built.clone());
        }
        for (id, (engine, fresh)) in &self.processes {
            if let Err(error) = fresh.take_process_state(engine) {
                tracing::warn!("{id} continues from its state when the edit was read: {error:#}");
            }
            engine.adopt_process(fresh);
        }
        for (engine, loader) in self.loaders.into_values() {
            engine.adopt_loader(loader);
        }
        *graph.nodes.borrow_mut() = nodes;
        self.on_commit.into_iter().for_each(|(_, action)| action(&graph.run));
        detach(&live, graph);
        join(graph, &live, plan, &plan.event_edges, quiet);
    }
}

/// What leaves the run says its last word: sinks write what they hold, handlers are told that their run has ended.
fn detach(former: &Nodes, graph: &Graph) {
    for (id, instance) in former {
        let now = graph.node(id).ok();
        if now.is_none() {
            graph.run.forget(id);
        }
        let finished = match (instance, &now) {
            (Instance::Sink(old), Some(Instance::Sink(new))) if Rc::ptr_eq(old, new) => Ok(()),
            (Instance::Sink(old), _) => old.borrow_mut().flush(),
            (Instance::Handler(old), None) => old.borrow_mut().finish(&graph.run),
            _ => Ok(()),
        };
        if let Err(error) = finished {
            tracing::warn!("{id}, which was removed from the run: {error:#}");
        }
    }
}

/// Joins events and sinks to the nodes that are in place. `live` are the nodes that were there before.
fn join(graph: &Graph, live: &Nodes, plan: &Plan, edges: &[EventEdge], quiet: bool) {
    let former = graph.events.borrow().clone();
    let sinks = graph.run.unsubscribe_all();
    if let Err(error) = join_nodes(plan, edges, graph) {
        tracing::error!("events: {error:#}");
    }
    graph.events.borrow().wires.iter().for_each(|wire| wire.remember(&former));
    if quiet || !wants_console(plan) {
        return;
    }
    // The console that a run has of itself is no node.
    let is_node = |sink: &Shared<dyn Sink>| {
        live.values().any(|instance| matches!(instance, Instance::Sink(node) if Rc::ptr_eq(node, sink)))
    };
    match sinks.into_iter().find(|subscription| !is_node(&subscription.sink)) {
        Some(own) => graph.run.subscribe(own),
        None => {
            if let Err(error) = add_console(graph, Vec::new()) {
                tracing::warn!("the console: {error:#}");
            }
        }
    }
}
