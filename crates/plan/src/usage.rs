//! Which engines run by themselves, and what two use at once.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::edges::DataEdge;
use super::events::{Action, EventEdge};
use super::nodes::PlanNode;
use pipe_document::diagnostic::{Diagnostic, Diagnostics};
use pipe_vocab::{Kind, NodeId};

type Nodes = IndexMap<NodeId, PlanNode>;

/// The engines that no event runs.
pub(crate) fn roots(nodes: &Nodes, events: &[EventEdge]) -> Vec<NodeId> {
    let run: BTreeSet<&NodeId> =
        targets(events).filter(|(_, action)| *action == Action::Run).map(|(id, _)| id).collect();
    nodes.keys().filter(|id| id.kind == Kind::Engine && !run.contains(id)).cloned().collect()
}

pub(crate) fn targets(events: &[EventEdge]) -> impl Iterator<Item = (&NodeId, Action)> {
    events.iter().flat_map(|event| event.targets.iter().map(|target| (&target.node, target.action)))
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
