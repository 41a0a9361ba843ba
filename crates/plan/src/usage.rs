//! What nothing uses, and what two use at once.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::edges::{DataEdge, Resolved};
use super::events::{Action, EventEdge};
use super::nodes::PlanNode;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location};
use pipe_document::{Document, Layer, Node};
use pipe_vocab::{Kind, NodeId};

type Nodes = IndexMap<NodeId, PlanNode>;

/// The engines that no event runs.
pub(super) fn roots(nodes: &Nodes, events: &[EventEdge]) -> Vec<NodeId> {
    let run: BTreeSet<&NodeId> =
        targets(events).filter(|(_, action)| *action == Action::Run).map(|(id, _)| id).collect();
    nodes.keys().filter(|id| id.kind == Kind::Engine && !run.contains(id)).cloned().collect()
}

fn targets(events: &[EventEdge]) -> impl Iterator<Item = (&NodeId, Action)> {
    events.iter().flat_map(|event| event.targets.iter().map(|target| (&target.node, target.action)))
}

/// Warns of nodes that nothing uses; what the command line sets in one is refused, because it does nothing.
pub(super) fn check(
    document: &Document,
    nodes: &Nodes,
    resolved: &Resolved,
    events: &[EventEdge],
    found: &mut Diagnostics,
) {
    let engines = nodes.keys().any(|id| id.kind == Kind::Engine);
    if !engines {
        let message = "the pipeline has no engine, so there is nothing to run";
        found.push(Diagnostic::warning("no-engine", message).help("add `[engine.trainer]`"));
    }
    let run: BTreeSet<&NodeId> = targets(events).map(|(id, _)| id).collect();
    let named: BTreeSet<&NodeId> = resolved
        .data
        .iter()
        .filter(|edge| !matches!(edge.to.kind, Kind::Sink))
        .map(|edge| &edge.from)
        .chain(resolved.properties.iter().map(|edge| &edge.from))
        .collect();
    for (id, node) in nodes {
        let used = match id.kind {
            // Engines that no event runs are run; sinks listen.
            Kind::Engine | Kind::Sink => true,
            Kind::Handler | Kind::Scheduler => run.contains(id),
            _ => run.contains(id) || named.contains(id),
        };
        if !used {
            let (message, help) = match id.kind {
                Kind::Handler => (format!("no event calls `{id}`"), format!("add it to an `[[on]]`: run = [\"{id}\"]")),
                Kind::Scheduler => {
                    (format!("no event steps `{id}`"), format!("add it to an `[[on]]`: run = [\"{id}\"]"))
                }
                _ => (format!("nothing uses `{id}`"), "remove it, or refer to it from another node".to_owned()),
            };
            let table = document.get_at(&[id.kind.as_str().into(), (&*id.name).into()]);
            if let Some(at) = table.and_then(of_command_line) {
                let message = format!("this `--set` does nothing: {message}");
                found.push(Diagnostic::error("unused-node", message).at(at.clone()).help(help.clone()));
            }
            found.push(Diagnostic::warning("unused-node", message).at(node.location.clone()).help(help));
        }
    }
}

/// Where `--set` has put something into a table.
fn of_command_line(node: &Node) -> Option<&Location> {
    if node.origin.layer == Layer::Set {
        return Some(&node.location);
    }
    node.as_table()?.iter().find_map(|(_, entry)| of_command_line(&entry.node))
}

/// One optimizer may belong to one training engine only, and two engines that run inside each other cannot share a loader.
pub(super) fn check_sharing(nodes: &Nodes, data: &[DataEdge], events: &[EventEdge], found: &mut Diagnostics) {
    let mut writers: BTreeMap<&NodeId, &DataEdge> = BTreeMap::new();
    for edge in data.iter().filter(|edge| edge.from.kind == Kind::Optimizer && edge.to.kind == Kind::Engine) {
        if let Some(first) = writers.insert(&edge.from, edge) {
            let message = format!("`{}` is used by two engines at once: `{}` and `{}`", edge.from, first.to, edge.to);
            let diagnostic = Diagnostic::error("shared-node", message).at(edge.location.clone());
            let help = "give each engine its own optimizer";
            found.push(diagnostic.label(first.location.clone(), "first here").help(help));
        }
    }
    let mut optimized: BTreeMap<&NodeId, &DataEdge> = BTreeMap::new();
    for edge in data.iter().filter(|edge| edge.from.kind == Kind::Model && edge.to.kind == Kind::Optimizer) {
        if let Some(first) = optimized.insert(&edge.from, edge) {
            let message = format!("`{}` and `{}` both change `{}`", first.to, edge.to, edge.from);
            let diagnostic = Diagnostic::warning("shared-node", message).at(edge.location.clone());
            found.push(
                diagnostic.label(first.location.clone(), "first here").help("use one optimizer with parameter groups"),
            );
        }
    }
    let loader_of = |engine: &NodeId| data.iter().find(|e| e.to == *engine && e.from.kind == Kind::Loader);
    for event in events {
        for target in event.targets.iter().filter(|target| target.action == Action::Run) {
            for (source, _, _) in event.events.iter().filter(|(source, _, _)| *source != target.node) {
                let (Some(outer), Some(inner)) = (loader_of(source), loader_of(&target.node)) else { continue };
                if outer.from == inner.from && nodes.contains_key(&outer.from) {
                    let message = format!(
                        "`{source}` runs `{}` in the middle of its epoch, but both read `{}`",
                        target.node, outer.from
                    );
                    let diagnostic = Diagnostic::error("shared-node", message).at(inner.location.clone());
                    let help = "give the inner engine its own loader";
                    found.push(diagnostic.label(outer.location.clone(), "first here").help(help));
                }
            }
        }
    }
}
