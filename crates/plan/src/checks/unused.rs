//! What nothing uses, and what two change.

use std::collections::{BTreeMap, BTreeSet};

use super::rule::Findings;
use super::view::View;
use crate::edges::DataEdge;
use crate::usage::targets;
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
            found.add(node.location.clone(), message, help);
        }
    }
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
