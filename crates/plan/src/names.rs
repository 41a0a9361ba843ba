//! Names of nodes that must be there.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_vocab::NodeId;

use super::message;
use super::nodes::PlanNode;

type Nodes = IndexMap<NodeId, PlanNode>;

/// Whether a node is there; a dangling name is reported with the nearest one.
pub(super) fn exists(
    node: &NodeId,
    nodes: &Nodes,
    unreadable: &BTreeSet<NodeId>,
    at: &Location,
    found: &mut Diagnostics,
) -> bool {
    if nodes.contains_key(node) {
        return true;
    }
    if unreadable.contains(node) {
        return false;
    }
    let missing = Diagnostic::error("unknown-node", format!("there is no node `{node}`")).at(at.clone());
    if found.is_full() {
        found.push(missing);
        return false;
    }
    let same_kind: Vec<&str> =
        nodes.keys().chain(unreadable).filter(|id| id.kind == node.kind).map(|id| &*id.name).collect();
    let help = match (suggest(&node.name, same_kind.iter().copied()), same_kind.as_slice()) {
        (Some(near), _) => format!("did you mean `{}.{near}`?", node.kind),
        (None, []) => format!("the pipeline has no {} yet: add `[{node}]`", node.kind),
        (None, names) => {
            let full: Vec<String> = names.iter().map(|name| format!("{}.{name}", node.kind)).collect();
            match full.as_slice() {
                [only] => format!("the only {} is `{only}`", node.kind),
                several => format!("the {} nodes are {}", node.kind, message::list(several)),
            }
        }
    };
    found.push(missing.help(help));
    false
}
