//! From a plan to built nodes, in topological order.

use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use pipe_core::{BuildContext, Built, Instance, Kind, NodeId, Nodes, RunContext, Subscription, terminal};
use pipe_document::path_text;
use pipe_native::fault::guarded;
use pipe_plan::component::with_values;
use pipe_plan::{Action, EventEdge, EventTarget, Plan, PlanNode};
use pipe_vocab::{Catalog, Checked};
use serde_json::Value;

use crate::events::{EventTable, Target, TargetAction, Wire};
use crate::graph::{Graph, Offers};

/// Where a node is built: among which nodes of which run.
pub struct Site<'a> {
    /// The run.
    pub run: &'a Rc<RunContext>,
    /// The nodes that are built already.
    pub nodes: &'a Nodes,
    /// What they offer.
    pub offers: &'a Offers,
    /// The components that there are.
    pub catalog: &'a Catalog,
    /// Whether models fill themselves from the files that their options name.
    pub initial_weights: bool,
}

/// Builds every node of a plan into the graph, and joins them.
///
/// # Errors
/// The first node that cannot be built: which, and why.
pub fn build(plan: &Plan, graph: &Graph) -> Result<()> {
    for id in &plan.order {
        let node =
            plan.nodes.get(id).with_context(|| format!("{id} is in the plan's order, but not among its nodes"))?;
        build_into(plan, node, graph, true)?;
    }
    join_nodes(plan, &plan.event_edges, graph)
}

/// Builds a node and puts it in place.
///
/// # Errors
/// Those of the component.
pub fn build_into(plan: &Plan, node: &PlanNode, graph: &Graph, initial_weights: bool) -> Result<()> {
    let built = {
        let (nodes, offers, catalog) = (graph.nodes.borrow(), graph.offers.borrow(), graph.catalog.borrow().clone());
        let _takes_long = terminal::working(format!("building {}", node.id));
        let site = Site { run: &graph.run, nodes: &nodes, offers: &offers, catalog: &catalog, initial_weights };
        build_node(plan, node, &site).with_context(|| node.cannot_build())?
    };
    let offers = built.offers.into_iter().map(|(name, value)| ((node.id.clone(), name), value));
    graph.offers.borrow_mut().extend(offers);
    if let Some(classes) = built.trained_on {
        graph.trained_on.borrow_mut().insert(node.id.clone(), classes);
    }
    graph.nodes.borrow_mut().insert(node.id.clone(), built.instance);
    built.on_commit.into_iter().for_each(|action| action(&graph.run));
    Ok(())
}

/// Builds one node, the properties it names read from the nodes that have them. Nothing of the run is changed.
///
/// # Errors
/// Those of the component, and a property whose value the option does not take.
pub fn build_node(plan: &Plan, node: &PlanNode, site: &Site<'_>) -> Result<Built> {
    let filled = fill_properties(plan, node, site)?;
    let checked = filled.as_deref().or(node.component.as_deref()).context("its options were not checked")?;
    let mut ctx = BuildContext::new(&node.id, site.run, site.nodes, site.catalog);
    ctx.initial_weights = site.initial_weights;
    guarded(|| pipe_core::build(checked, ctx))
}

/// The component with the values of the properties that it names, under the same ranges and checks as values in the file;
/// nothing where it names none.
fn fill_properties(plan: &Plan, node: &PlanNode, site: &Site<'_>) -> Result<Option<Box<dyn Checked>>> {
    let edges = plan.property_edges.iter().filter(|edge| edge.to == node.id);
    let values = edges.map(|edge| Ok((&*edge.option, property(site, &edge.from, &edge.property)?)));
    let values = values.collect::<Result<Vec<_>>>()?;
    if values.is_empty() {
        return Ok(None);
    }
    let named: Vec<String> = plan
        .property_edges
        .iter()
        .filter(|edge| edge.to == node.id)
        .map(|edge| format!("`{}` is `{}:{}`", path_text(&edge.option), edge.from, edge.property))
        .collect();
    let filled = with_values(node.descriptor, &node.config, &values);
    filled.map(|(_, checked)| Some(checked)).map_err(|problem| anyhow!("{problem} ({})", named.join(", ")))
}

fn property(site: &Site<'_>, node: &NodeId, name: &str) -> Result<Value> {
    if let Some(offered) = site.offers.get(&(node.clone(), name.to_owned())) {
        return Ok(offered.clone());
    }
    match site.nodes.get(node) {
        Some(Instance::Dataset(dataset)) => dataset.property(name),
        _ => bail!("{node} does not know its `{name}` before it runs"),
    }
}

/// Joins the built nodes of a plan: sinks to what they listen to, events to the targets that `edges` give them, engines to the
/// run.
///
/// # Errors
/// When a target is not what the plan says.
pub fn join_nodes(plan: &Plan, edges: &[EventEdge], graph: &Graph) -> Result<()> {
    let events = event_table(edges, graph)?;
    for id in plan.order.iter().filter(|id| id.kind == Kind::Sink) {
        if let Ok(Instance::Sink(sink)) = graph.node(id) {
            let inputs = plan.data_edges.iter().filter(|edge| edge.to == *id).map(|edge| edge.from.clone()).collect();
            graph.run.subscribe(Subscription { node: id.clone(), inputs, sink });
        }
    }
    *graph.events.borrow_mut() = Rc::new(events);
    *graph.roots.borrow_mut() = plan.roots.clone();
    Ok(())
}

/// Event edges, joined to built nodes; a target that is not in the run (yet) is skipped.
///
/// # Errors
/// When a target is not what the plan says.
pub fn event_table(edges: &[EventEdge], graph: &Graph) -> Result<EventTable> {
    let mut wires = Vec::with_capacity(edges.len());
    for edge in edges {
        let events = edge.events.iter().map(|(node, event, _)| (node.clone(), event.clone())).collect();
        let built = edge.targets.iter().filter(|target| graph.nodes.borrow().contains_key(&target.node));
        let targets = built.map(|target| join(target, graph)).collect::<Result<Vec<_>>>()?;
        wires.push(Wire::new(events, edge.filter.clone(), targets));
    }
    Ok(EventTable { wires })
}

fn join(target: &EventTarget, graph: &Graph) -> Result<Target> {
    let action = match (target.action, graph.node(&target.node)?) {
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

/// Builds a component of the program by its name, outside the pipeline's own nodes.
///
/// # Errors
/// When there is no such component, the options do not fit, or it cannot be built.
pub fn build_extra(graph: &Graph, node: &NodeId, name: &str, options: Value) -> Result<Instance> {
    let catalog = graph.catalog.borrow().clone();
    let descriptor = catalog.get(node.kind, name);
    let descriptor = descriptor.with_context(|| format!("there is no {} of type `{name}`", node.kind))?;
    let checked = descriptor.parse(options).map_err(|error| anyhow!("{name}: {}", error.message))?;
    let built = pipe_core::build(&*checked, BuildContext::new(node, &graph.run, &graph.nodes.borrow(), &catalog))?;
    ensure!(built.on_commit.is_empty(), "{name} changed the run although it is not part of it");
    Ok(built.instance)
}
