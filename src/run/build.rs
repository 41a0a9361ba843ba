//! From a plan to built nodes, in topological order.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use super::context::Subscription;
use super::{Instance, RunContext};
use crate::document::PathSegment;
use crate::engine::{EventTable, Target, TargetAction, Wire};
use crate::fault::guarded;
use crate::plan::{Action, EventEdge, EventTarget, Plan, PlanNode};
use crate::registry::{ErasedComponent, Kind, Nested, NestedKind, NodeId, PortKind, Ref, Registry};

/// What a component may use while it is built.
pub struct BuildContext<'a> {
    /// The run that the node will belong to.
    pub run: &'a Rc<RunContext>,
    /// The node's own name.
    pub node: &'a NodeId,
}

impl BuildContext<'_> {
    /// The node that fills a port.
    ///
    /// # Errors
    /// When it has not been built: a fault of the plan's order.
    pub fn get<T: PortKind + ?Sized>(&self, port: &Ref<T>) -> Result<T::Shared> {
        let instance = self.run.node(&port.node)?;
        T::from_instance(&instance).ok_or_else(|| anyhow!("{} is not {}", port.node, T::KIND.with_article()))
    }

    /// Builds a component written in place.
    ///
    /// # Errors
    /// When there is no such component, its options do not fit, or it cannot be built.
    pub fn nested<K: NestedKind>(&mut self, nested: &Nested<K>) -> Result<Instance> {
        parse_nested(K::KIND, nested.table.clone())?.build(self)
    }

    /// Gives the value of a declared property, which other nodes may name.
    pub fn offer(&self, property: &str, value: impl Into<Value>) {
        self.run.offer(self.node, property, value.into());
    }

    /// The folder in which a component may keep files of this run.
    pub fn folder(&self) -> &Path {
        self.run.folder.path()
    }
}

/// Reads the table of a component written in place.
///
/// # Errors
/// When there is no such component or its options do not fit.
pub fn parse_nested(kind: Kind, mut table: serde_json::Map<String, Value>) -> Result<Box<dyn ErasedComponent>> {
    let name = table.shift_remove("type");
    let name = name.as_ref().and_then(Value::as_str).with_context(|| format!("a {kind} in place needs a `type`"))?;
    let descriptor =
        Registry::global().get(kind, name).with_context(|| format!("there is no {kind} of type `{name}`"))?;
    descriptor
        .parse(table.into())
        .map_err(|error| anyhow!("{kind}.{name}: {}: {}", error.path.join("."), error.message))
}

/// Builds every node of a plan into the run, and joins the events.
///
/// # Errors
/// The first node that cannot be built: which, and why.
pub fn build(plan: &Plan, run: &Rc<RunContext>) -> Result<()> {
    for id in &plan.order {
        let node = plan.nodes.get(id).with_context(|| format!("{id} is in the plan's order only"))?;
        let instance = build_node(plan, node, run).with_context(|| format!("cannot build {id}"))?;
        run.nodes.borrow_mut().insert(id.clone(), instance);
    }
    join_nodes(plan, &plan.event_edges, run)
}

/// Joins the built nodes of a plan: sinks to what they listen to, events to the targets that `edges` give them, engines to the
/// run.
///
/// # Errors
/// When a target is not what the plan says.
pub fn join_nodes(plan: &Plan, edges: &[EventEdge], run: &RunContext) -> Result<()> {
    let events = event_table(edges, run)?;
    for id in plan.order.iter().filter(|id| id.kind == Kind::Sink) {
        if let Ok(Instance::Sink(sink)) = run.node(id) {
            let inputs = plan.data_edges.iter().filter(|edge| edge.to == *id).map(|edge| edge.from.clone()).collect();
            run.subscribe(Subscription { node: id.clone(), inputs, sink });
        }
    }
    *run.events.borrow_mut() = Rc::new(events);
    *run.roots.borrow_mut() = plan.roots.clone();
    Ok(())
}

/// Builds one node, the properties it names read from the nodes that have them.
///
/// # Errors
/// Those of the component.
pub fn build_node(plan: &Plan, node: &PlanNode, run: &Rc<RunContext>) -> Result<Instance> {
    let mut config = node.config.clone();
    for edge in plan.property_edges.iter().filter(|edge| edge.to == node.id) {
        let value = property(run, &edge.from, &edge.property)?;
        *slot(&mut config, &edge.option).with_context(|| format!("{}: no such option", node.id))? = value;
    }
    let component = node
        .descriptor
        .parse(config)
        .map_err(|error| anyhow!("option `{}`: {}", error.path.join("."), error.message))?;
    guarded(|| component.build(&mut BuildContext { run, node: &node.id }))
}

fn property(run: &RunContext, node: &NodeId, name: &str) -> Result<Value> {
    if let Some(offered) = run.offered(node, name) {
        return Ok(offered);
    }
    match run.node(node)? {
        Instance::Dataset(dataset) => dataset.property(name),
        _ => bail!("{node} cannot say its `{name}` before it runs"),
    }
}

/// The value at the end of the steps.
pub fn slot<'v>(value: &'v mut Value, path: &[PathSegment]) -> Option<&'v mut Value> {
    path.iter().try_fold(value, |value, segment| match segment {
        PathSegment::Key(key) => value.get_mut(key),
        PathSegment::Index(index) => value.get_mut(index),
    })
}

/// Event edges, joined to built nodes; a target that is not in the run (yet) is left out.
///
/// # Errors
/// When a target is not what the plan says.
pub fn event_table(edges: &[EventEdge], run: &RunContext) -> Result<EventTable> {
    let mut wires = Vec::with_capacity(edges.len());
    for edge in edges {
        let events = edge.events.iter().map(|(node, event, _)| (node.clone(), event.clone())).collect();
        let built = edge.targets.iter().filter(|target| run.nodes.borrow().contains_key(&target.node));
        let targets = built.map(|target| join(target, run)).collect::<Result<Vec<_>>>()?;
        wires.push(Wire::new(events, edge.filter.clone(), targets));
    }
    Ok(EventTable { wires })
}

fn join(target: &EventTarget, run: &RunContext) -> Result<Target> {
    let action = match (target.action, run.node(&target.node)?) {
        (Action::Call, Instance::Handler(handler)) => TargetAction::Call(handler),
        (Action::Step, Instance::Scheduler(scheduler)) => TargetAction::Step(scheduler),
        (Action::Run, Instance::Engine(engine)) => TargetAction::Run(engine),
        (Action::Reset, Instance::Metric(metric)) => TargetAction::Reset(metric),
        (Action::Update, Instance::Metric(metric)) => TargetAction::Update(metric),
        (Action::Compute, Instance::Metric(metric)) => TargetAction::Compute(metric),
        (Action::Flush, Instance::Sink(sink)) => TargetAction::Flush(sink),
        (action, _) => bail!("{} cannot {}", target.node, action.as_str()),
    };
    Ok(Target { node: target.node.clone(), action })
}

/// What each dataset has to say, once, by node.
pub fn dataset_reports(run: &RunContext) -> BTreeMap<NodeId, String> {
    let nodes = run.nodes.borrow();
    let datasets = nodes.iter().filter_map(|(id, instance)| match instance {
        Instance::Dataset(dataset) => Some((id.clone(), dataset.report()?)),
        _ => None,
    });
    datasets.collect()
}
