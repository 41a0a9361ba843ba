//! What nothing uses, and what two change.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::Findings;
use super::view::View;
use crate::edges::DataEdge;
use crate::nodes::PlanNode;
use crate::usage::targets;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location};
use pipe_document::{Layer, Node};
use pipe_vocab::{Kind, NodeId};

/// Nothing to run.
pub(super) fn no_engine(view: &View<'_>, found: &mut Findings) {
    if !view.nodes.keys().any(|id| id.kind == Kind::Engine) {
        let message = "the pipeline has no engine, so there is nothing to run";
        found.add_anywhere(message, "add `[engine.trainer]`");
    }
}

/// Nodes that nothing uses.
pub(super) fn unused(view: &View<'_>, found: &mut Findings) {
    for Unused { node, message, help } in without_use(view) {
        found.add(node.location.clone(), message, help);
    }
}

/// What the command line sets in a node that nothing uses does nothing, so that it is refused.
pub(crate) fn set_in_vain(view: &View<'_>, found: &mut Diagnostics) {
    for Unused { node, message, help } in without_use(view) {
        let table = view.document.get_at(&[node.id.kind.as_str().into(), (&*node.id.name).into()]);
        if let Some(at) = table.and_then(of_command_line) {
            let message = format!("this `--set` does nothing: {message}");
            found.push(Diagnostic::error("unused-node", message).at(at.clone()).help(help));
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

/// A node that nothing uses.
struct Unused<'a> {
    node: &'a PlanNode,
    message: String,
    help: String,
}

fn without_use<'a>(view: &View<'a>) -> Vec<Unused<'a>> {
    let mut all = Vec::new();
    let run: BTreeSet<&NodeId> = targets(view.events).map(|(id, _)| id).collect();
    let named: BTreeSet<&NodeId> = view
        .ports
        .iter()
        .filter(|edge| !matches!(edge.to.kind, Kind::Sink))
        .map(|edge| &edge.from)
        .chain(view.properties.iter().map(|edge| &edge.from))
        .collect();
    for (id, node) in view.nodes {
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
            all.push(Unused { node, message, help });
        }
    }
    all
}

/// Two optimizers of one model.
pub(super) fn two_optimizers(view: &View<'_>, found: &mut Findings) {
    let mut optimized: BTreeMap<&NodeId, &DataEdge> = BTreeMap::new();
    for edge in view.ports.iter().filter(|edge| edge.from.kind == Kind::Model && edge.to.kind == Kind::Optimizer) {
        if let Some(first) = optimized.insert(&edge.from, edge) {
            let message = format!("`{}` and `{}` both change `{}`", first.to, edge.to, edge.from);
            let diagnostic = found.add(edge.location.clone(), message, "use one optimizer with parameter groups");
            diagnostic.labels.push((first.location.clone(), "first here".into()));
        }
    }
}
