//! Which nodes a change concerns, and when they may be exchanged. Pure.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::difference::{Change, What};
use pipe_core::{Kind, NodeId};
use pipe_plan::Plan;

/// Why a node is rebuilt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its own table differs.
    Own,
    /// It holds a node that is rebuilt.
    Holds(NodeId),
    /// A scheduler of it differs: the factors of all are reset.
    Scheduled(NodeId),
}

/// The nodes that a change concerns.
#[derive(Debug, Default)]
pub struct Affected {
    /// Nodes to build, in the order of building, and why.
    pub build: IndexMap<NodeId, Cause>,
    /// Those of them that wait for the end of the epoch. Of an engine in here, more than the loader waits.
    pub later: BTreeSet<NodeId>,
}

impl Affected {
    /// What `changes` mean for the nodes of `new`. `waiting` are nodes of an earlier change that wait for the end of the epoch.
    pub fn of(changes: &[Change], old: &Plan, new: &Plan, waiting: &BTreeSet<NodeId>) -> Affected {
        let mut causes = seeds(changes, old, new);
        let in_place = |id: &NodeId| id.kind == Kind::Engine && same_component(old, new, id);
        let holds = edges(new);
        let position: BTreeMap<&NodeId, usize> = new.order.iter().enumerate().map(|(at, id)| (id, at)).collect();
        loop {
            let before = causes.len();
            for id in &new.order {
                let held = holds.get(id).into_iter().flatten();
                // An engine changes in place: what holds it need not be rebuilt, but for a scheduler, which drives a part of it. A
                // sink holds only names.
                let stays = |held: &NodeId| in_place(held) && id.kind != Kind::Scheduler;
                let built = held.filter(|held| causes.contains_key(*held) && !stays(held) && id.kind != Kind::Sink);
                if let Some(first) = built.min_by_key(|held| position.get(*held)) {
                    let cause = Cause::Holds(first.clone());
                    causes.entry(id.clone()).or_insert(cause);
                }
            }
            schedule(&mut causes, new);
            if causes.len() == before {
                break;
            }
        }
        let build = new.order.iter().filter_map(|id| Some((id.clone(), causes.remove(id)?))).collect();
        let mut affected = Affected { build, later: BTreeSet::new() };
        affected.later = affected.waiting_for_epoch(&holds, waiting);
        affected
    }

    /// Data change at the end of an epoch, and so does everything that is joined to changed data: half of a new pair must
    /// never meet half of an old one. An engine and its loader are the one exception, as a loader is asked for its batches
    /// epoch by epoch.
    fn waiting_for_epoch(&self, holds: &Edges, waiting: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let is_data = |id: &NodeId| matches!(id.kind, Kind::Dataset | Kind::Transform | Kind::Loader);
        let mut later: BTreeSet<NodeId> =
            self.build.keys().filter(|id| is_data(id) || waiting.contains(*id)).cloned().collect();
        let joined = |id: &NodeId, held: &NodeId| {
            let own_loader = id.kind == Kind::Engine && held.kind == Kind::Loader;
            !own_loader && (held.kind != Kind::Engine || id.kind == Kind::Scheduler)
        };
        loop {
            let before = later.len();
            for id in self.build.keys() {
                for held in holds.get(id).into_iter().flatten().filter(|held| joined(id, held)) {
                    if later.contains(held) || waiting.contains(held) {
                        later.insert(id.clone());
                    } else if later.contains(id) && self.build.contains_key(held) {
                        later.insert(held.clone());
                    }
                }
            }
            if later.len() == before {
                return later;
            }
        }
    }
}

/// Whether a node is of the same component in both plans.
pub fn same_component(old: &Plan, new: &Plan, id: &NodeId) -> bool {
    match (old.nodes.get(id), new.nodes.get(id)) {
        (Some(before), Some(after)) => std::ptr::eq(before.descriptor, after.descriptor),
        _ => false,
    }
}

type Edges = BTreeMap<NodeId, BTreeSet<NodeId>>;

/// What each node holds: the nodes in its ports and those whose properties it reads.
fn edges(plan: &Plan) -> Edges {
    let mut holds = Edges::new();
    let data = plan.data_edges.iter().map(|edge| (&edge.to, &edge.from));
    for (to, from) in data.chain(plan.property_edges.iter().map(|edge| (&edge.to, &edge.from))) {
        holds.entry(to.clone()).or_default().insert(from.clone());
    }
    holds
}

fn seeds(changes: &[Change], old: &Plan, new: &Plan) -> BTreeMap<NodeId, Cause> {
    let mut causes = BTreeMap::new();
    for change in changes {
        let Some(node) = &change.node else { continue };
        if !matches!(change.what, What::Removed { .. }) {
            causes.insert(node.clone(), Cause::Own);
        }
    }
    // A scheduler that is gone, or drives another optimizer now, has left its factor in the one it drove.
    let changed = changes.iter().filter_map(|change| change.node.as_ref());
    for scheduler in changed.filter(|id| id.kind == Kind::Scheduler) {
        let edges = old.data_edges.iter().filter(|edge| edge.to == *scheduler);
        for optimizer in edges.map(|edge| &edge.from).filter(|id| new.nodes.contains_key(*id)) {
            causes.entry(optimizer.clone()).or_insert(Cause::Scheduled(scheduler.clone()));
        }
    }
    causes
}

/// A scheduler writes into what it drives when it is built. So that nothing at work is written to before the whole edit is
/// known to be good, that is rebuilt with it.
fn schedule(causes: &mut BTreeMap<NodeId, Cause>, new: &Plan) {
    for edge in new.data_edges.iter().filter(|edge| edge.to.kind == Kind::Scheduler) {
        if causes.contains_key(&edge.to) {
            causes.entry(edge.from.clone()).or_insert_with(|| Cause::Scheduled(edge.to.clone()));
        }
    }
}
