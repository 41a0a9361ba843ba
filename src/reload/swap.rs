//! Building the pieces of a new plan aside, and putting them in place.
//!
//! [`prepare`] may fail, and then nothing has changed. [`Prepared::commit`] and [`Waiting::finish`] cannot.

use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;

use super::affected::{Affected, Cause, same_component};
use super::carry::{Weights, carry, goes_on};
use super::difference::{Change, What};
use crate::components::loader::Loader;
use crate::components::sink::Sink;
use crate::engine::Engine;
use crate::plan::{EventEdge, Plan};
use crate::registry::{Kind, NodeId, Reload};
use crate::run::build::{build_node, join_nodes};
use crate::run::running::{add_console, wants_console};
use crate::run::{Instance, RunContext, Shared, random};

/// The pieces of a new plan, built and tried, not yet in place.
pub struct Prepared {
    /// What the change concerns.
    pub affected: Affected,
    /// What became of models' tensors.
    pub weights: Vec<Weights>,
    /// Every node of the new plan, in the order of building.
    nodes: IndexMap<NodeId, Instance>,
    /// Engines at hand, each with the new one whose parts it takes.
    engines: Vec<(NodeId, Rc<Engine>, Rc<Engine>)>,
    /// Nodes built anew that go on from the state of their predecessors.
    going_on: BTreeSet<NodeId>,
}

/// What waits for the end of the epoch.
#[derive(Default)]
pub struct Waiting {
    nodes: IndexMap<NodeId, Instance>,
    going_on: BTreeSet<NodeId>,
    processes: IndexMap<NodeId, (Rc<Engine>, Rc<Engine>)>,
    loaders: IndexMap<NodeId, (Rc<Engine>, Shared<dyn Loader>)>,
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
    run: &Rc<RunContext>,
    old: &Plan,
    new: &Plan,
    changes: &[Change],
    waiting: &Waiting,
    at_work: Option<&NodeId>,
) -> Result<Prepared> {
    if let Some(engine) = at_work.filter(|engine| !same_component(old, new, engine)) {
        bail!("{engine} is at work: it can be changed, but neither removed nor made another type");
    }
    let affected = Affected::of(changes, old, new, &waiting.ids());
    let effective = {
        let mut nodes = run.nodes.borrow().clone();
        nodes.extend(waiting.nodes.iter().map(|(id, instance)| (id.clone(), instance.clone())));
        nodes
    };
    let generators = random::states()?;
    // Components find each other through the run: while they are built it shows them the new nodes.
    let live = run.nodes.replace(IndexMap::new());
    let mut builder = Builder { run, old, new, changes, effective, affected: &affected, made: Made::default() };
    let result = builder.build().and_then(|()| builder.try_batches());
    let made = builder.made;
    let nodes = run.nodes.replace(live);
    random::restore(&generators)?;
    result?;
    Ok(Prepared { affected, weights: made.weights, nodes, engines: made.engines, going_on: made.going_on })
}

#[derive(Default)]
struct Made {
    weights: Vec<Weights>,
    engines: Vec<(NodeId, Rc<Engine>, Rc<Engine>)>,
    /// New engines, those that lend their parts included.
    fresh: Vec<(NodeId, Rc<Engine>)>,
    going_on: BTreeSet<NodeId>,
}

struct Builder<'a> {
    run: &'a Rc<RunContext>,
    old: &'a Plan,
    new: &'a Plan,
    changes: &'a [Change],
    effective: IndexMap<NodeId, Instance>,
    affected: &'a Affected,
    made: Made,
}

impl Builder<'_> {
    fn build(&mut self) -> Result<()> {
        for id in &self.new.order {
            let former = self.effective.get(id).cloned();
            let instance = match former {
                Some(former) if !self.affected.build.contains_key(id) => former,
                former => self.build_one(id, former).with_context(|| format!("cannot build {id}"))?,
            };
            self.run.nodes.borrow_mut().insert(id.clone(), instance);
        }
        Ok(())
    }

    fn build_one(&mut self, id: &NodeId, former: Option<Instance>) -> Result<Instance> {
        let node = self.new.nodes.get(id).context("it is in the plan's order only")?;
        let built = build_node(self.new, node, self.run)?;
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
        if !goes_on(id.kind, gentle) {
            return Ok(built);
        }
        match carry(id, &former, &built) {
            Ok(weights) => {
                self.made.weights.extend(weights);
                self.made.going_on.insert(id.clone());
            }
            // Another build of a component may well keep another state.
            Err(error) if replaced => tracing::warn!("{id} begins anew: {error:#}"),
            Err(error) => return Err(error),
        }
        Ok(built)
    }

    /// Where data, model or what is done with them are new, the first iteration must not be the first try.
    fn try_batches(&self) -> Result<()> {
        for (id, fresh) in &self.made.fresh {
            let held = |kind: Kind| {
                self.new.data_edges.iter().find(|edge| edge.to == *id && edge.from.kind == kind).map(|edge| &edge.from)
            };
            let is_built = |id: Option<&NodeId>| id.is_some_and(|id| self.affected.build.contains_key(id));
            let own = self.affected.build.get(id) == Some(&Cause::Own);
            if !own && !is_built(held(Kind::Model)) && !is_built(held(Kind::Loader)) {
                continue;
            }
            let loader = match held(Kind::Loader) {
                // One that is at work must not be asked for batches: another one of the same options is.
                Some(loader) if !is_built(Some(loader)) => {
                    let node = self.new.nodes.get(loader).with_context(|| format!("there is no {loader}"))?;
                    let built =
                        build_node(self.new, node, self.run).with_context(|| format!("cannot build {loader}"))?;
                    let Instance::Loader(built) = built else { bail!("{loader} is not a loader") };
                    built
                }
                _ => fresh.loader(),
            };
            fresh.rehearse(&loader, self.run)?;
        }
        Ok(())
    }
}

impl Prepared {
    /// Puts in place what need not wait for the end of the epoch; the rest joins what was `waiting`.
    pub fn commit(mut self, run: &Rc<RunContext>, old: &Plan, new: &Plan, waiting: &mut Waiting, quiet: bool) {
        let later = self.affected.later.clone();
        // Engines at hand stay where they are and take the parts of the new ones.
        let in_place: BTreeSet<&NodeId> = self.engines.iter().map(|(id, ..)| id).collect();
        waiting.nodes.retain(|id, _| new.nodes.contains_key(id) && !self.affected.build.contains_key(id));
        waiting.going_on.retain(|id| waiting.nodes.contains_key(id));
        waiting.processes.retain(|id, _| new.nodes.contains_key(id) && !self.affected.build.contains_key(id));
        waiting.loaders.retain(|id, _| new.nodes.contains_key(id) && !self.affected.build.contains_key(id));
        let live = run.nodes.borrow().clone();
        let mut now = IndexMap::new();
        for id in &new.order {
            let Some(built) = self.nodes.shift_remove(id) else { continue };
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
        waiting.going_on.extend(self.going_on.iter().filter(|id| later.contains(*id)).cloned());
        for (id, engine, fresh) in self.engines {
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
        *run.nodes.borrow_mut() = now;
        // What an event runs may count on what runs before it: new edges hold once everything that they name is there.
        let former = waiting.events.take().unwrap_or_else(|| old.event_edges.clone());
        waiting.events = (!all_there).then_some(former);
        let edges = waiting.events.as_deref().unwrap_or(&new.event_edges);
        part_with(&live, run);
        join(run, &live, new, edges, quiet);
    }
}

impl Waiting {
    /// Puts everything in place that waited for the end of the epoch.
    pub fn finish(self, run: &Rc<RunContext>, plan: &Plan, quiet: bool) {
        let live = run.nodes.borrow().clone();
        let mut nodes = IndexMap::new();
        for id in &plan.order {
            let former = live.get(id);
            let Some(built) = self.nodes.get(id) else {
                nodes.extend(former.map(|former| (id.clone(), former.clone())));
                continue;
            };
            // Training went on since they were built.
            if let Some(former) = former.filter(|_| self.going_on.contains(id))
                && let Err(error) = carry(id, former, built)
            {
                tracing::warn!("{id} goes on from where it was when the edit was read: {error:#}");
            }
            nodes.insert(id.clone(), built.clone());
        }
        for (id, (engine, fresh)) in &self.processes {
            if let Err(error) = fresh.take_process_state(engine) {
                tracing::warn!("{id} goes on from where it was when the edit was read: {error:#}");
            }
            engine.adopt_process(fresh);
        }
        for (engine, loader) in self.loaders.into_values() {
            engine.adopt_loader(loader);
        }
        *run.nodes.borrow_mut() = nodes;
        part_with(&live, run);
        join(run, &live, plan, &plan.event_edges, quiet);
    }
}

/// What leaves the run says its last word: sinks write what they hold, handlers are told that their run has ended.
fn part_with(former: &IndexMap<NodeId, Instance>, run: &RunContext) {
    for (id, instance) in former {
        let now = run.node(id).ok();
        let parted = match (instance, &now) {
            (Instance::Sink(old), Some(Instance::Sink(new))) if Rc::ptr_eq(old, new) => Ok(()),
            (Instance::Sink(old), _) => old.borrow_mut().flush(),
            (Instance::Handler(old), None) => old.borrow_mut().finish(run),
            _ => Ok(()),
        };
        if let Err(error) = parted {
            tracing::warn!("{id}, which has left the run: {error:#}");
        }
    }
}

/// Joins events and sinks to the nodes that are in place. `live` are the nodes that were there before.
fn join(run: &Rc<RunContext>, live: &IndexMap<NodeId, Instance>, plan: &Plan, edges: &[EventEdge], quiet: bool) {
    let former = run.events.borrow().clone();
    let sinks = run.unsubscribe_all();
    if let Err(error) = join_nodes(plan, edges, run) {
        tracing::error!("events: {error:#}");
    }
    run.events.borrow().wires.iter().for_each(|wire| wire.remember(&former));
    if quiet || !wants_console(plan) {
        return;
    }
    // The console that a run has of itself is no node.
    let is_node = |sink: &Shared<dyn Sink>| {
        live.values().any(|instance| matches!(instance, Instance::Sink(node) if Rc::ptr_eq(node, sink)))
    };
    match sinks.into_iter().find(|subscription| !is_node(&subscription.sink)) {
        Some(own) => run.subscribe(own),
        None => {
            if let Err(error) = add_console(run) {
                tracing::warn!("the console: {error:#}");
            }
        }
    }
}
