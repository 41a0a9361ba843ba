//! The graph: order and cycles, by petgraph.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use indexmap::IndexMap;
use petgraph::Direction;
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use super::edges::{Resolved, ValueEdge};
use super::events::{Action, EventEdge, EventTarget};
use super::nodes::PlanNode;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location};
use pipe_vocab::{Kind, NodeId};

/// The graph of who needs whom: nodes in the order of the file, edges from provider to user with the user's place.
pub type Graph = DiGraph<NodeId, Location>;

/// The graph of all data edges, properties included.
pub fn build(nodes: &IndexMap<NodeId, PlanNode>, resolved: &Resolved) -> Graph {
    let mut graph = Graph::new();
    let index: BTreeMap<&NodeId, NodeIndex> = nodes.keys().map(|id| (id, graph.add_node(id.clone()))).collect();
    let data = resolved.data.iter().map(|edge| (&edge.from, &edge.to, &edge.location));
    let properties = resolved.properties.iter().map(|edge| (&edge.from, &edge.to, &edge.location));
    for (from, to, location) in data.chain(properties) {
        if let (Some(from), Some(to)) = (index.get(from), index.get(to)) {
            graph.update_edge(*from, *to, location.clone());
        }
    }
    graph
}

/// Nodes so that each comes after those it needs; among equals, in the order of the file. Cycles are reported.
pub(super) fn order(nodes: &IndexMap<NodeId, PlanNode>, resolved: &Resolved, found: &mut Diagnostics) -> Vec<NodeId> {
    let graph = build(nodes, resolved);
    for chain in cycles(&graph) {
        report(&graph, &chain, "cycle", "these nodes depend on each other", found);
    }
    topological(&graph)
}

/// Kahn's algorithm with a heap: petgraph's own order depends on the order of edges.
fn topological(graph: &Graph) -> Vec<NodeId> {
    let mut missing: Vec<usize> =
        graph.node_indices().map(|n| graph.neighbors_directed(n, Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        graph.node_indices().map(NodeIndex::index).filter(|n| missing[*n] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(graph.node_count());
    while let Some(Reverse(next)) = ready.pop() {
        let node = NodeIndex::new(next);
        order.push(graph[node].clone());
        for user in graph.neighbors(node) {
            missing[user.index()] -= 1;
            if missing[user.index()] == 0 {
                ready.push(Reverse(user.index()));
            }
        }
    }
    order
}

/// The cycles of a graph, each as a chain of nodes along its edges, beginning with the first in the file.
fn cycles(graph: &Graph) -> Vec<Vec<NodeIndex>> {
    let mut chains = Vec::new();
    for component in tarjan_scc(graph) {
        let Some(start) = component.iter().copied().min() else { continue };
        if component.len() == 1 && graph.find_edge(start, start).is_none() {
            continue;
        }
        chains.push(shortest_cycle(graph, start, &component));
    }
    chains.sort();
    chains
}

/// The shortest way from `start` back to itself inside its component, breadth first.
fn shortest_cycle(graph: &Graph, start: NodeIndex, component: &[NodeIndex]) -> Vec<NodeIndex> {
    let mut came_from: BTreeMap<NodeIndex, NodeIndex> = BTreeMap::new();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(node) = queue.pop_front() {
        if graph.find_edge(node, start).is_some() {
            let mut chain = vec![node];
            let mut at = node;
            while at != start {
                at = came_from[&at];
                chain.push(at);
            }
            chain.reverse();
            return chain;
        }
        let mut next: Vec<_> = graph.neighbors(node).filter(|n| component.contains(n)).collect();
        next.sort();
        for neighbour in next {
            if neighbour != start && !came_from.contains_key(&neighbour) {
                came_from.insert(neighbour, node);
                queue.push_back(neighbour);
            }
        }
    }
    vec![start]
}

fn report(graph: &Graph, chain: &[NodeIndex], code: &'static str, what: &str, found: &mut Diagnostics) {
    let names: Vec<String> = chain.iter().chain(chain.first()).map(|n| format!("`{}`", graph[*n])).collect();
    let message = if chain.len() == 1 {
        format!("{what}: {} refers to itself", names[0])
    } else {
        format!("{what}: {}", names.join(" → "))
    };
    let pairs = chain.iter().zip(chain.iter().cycle().skip(1));
    let mut places = pairs.filter_map(|(from, to)| Some((graph.edge_weight(graph.find_edge(*from, *to)?)?, to)));
    let Some((first, _)) = places.next() else { return };
    let mut diagnostic = Diagnostic::error(code, message).at(first.clone());
    for (place, to) in places {
        diagnostic = diagnostic.label(place.clone(), format!("`{}` here", graph[*to]));
    }
    found.push(diagnostic.help("remove one of these edges"));
}

/// Metrics made of each other's values have no beginning. Whether there are any.
pub(super) fn check_value_cycles(values: &[ValueEdge], found: &mut Diagnostics) -> bool {
    let edges = values.iter().filter(|edge| edge.to.kind == Kind::Metric && edge.value.node.kind == Kind::Metric);
    let edges = edges.map(|edge| (&edge.value.node, &edge.to, &edge.location));
    let graph = joined(edges);
    let chains = cycles(&graph);
    for chain in &chains {
        report(&graph, chain, "cycle", "these metrics are made of each other", found);
    }
    !chains.is_empty()
}

/// The graph of these edges: from, to, place.
fn joined<'e>(edges: impl Iterator<Item = (&'e NodeId, &'e NodeId, &'e Location)>) -> Graph {
    let mut graph = Graph::new();
    let mut index: IndexMap<NodeId, NodeIndex> = IndexMap::new();
    for (from, to, location) in edges {
        let [from, to] = [from, to].map(|id| *index.entry(id.clone()).or_insert_with(|| graph.add_node(id.clone())));
        graph.update_edge(from, to, location.clone());
    }
    graph
}

/// Engines that run each other by events would never end, also by way of handlers with events of their own.
pub(super) fn check_event_cycles(events: &[EventEdge], found: &mut Diagnostics) {
    let runs = |target: &&EventTarget| matches!(target.action, Action::Run | Action::Call);
    let edges = events.iter().flat_map(|event| {
        let targets = move |source| event.targets.iter().filter(runs).map(move |target| (source, target));
        event.events.iter().flat_map(move |(source, ..)| targets(source))
    });
    let graph = joined(edges.map(|(source, target)| (source, &target.node, &target.location)));
    for chain in cycles(&graph) {
        let engines = chain.iter().all(|node| graph[*node].kind == Kind::Engine);
        let what = match (chain.len(), engines) {
            (1, true) => "an engine cannot run itself from its own event",
            (1, false) => "a handler cannot be called by its own event",
            (_, true) => "engines run each other endlessly",
            (_, false) => "these nodes run each other endlessly",
        };
        report(&graph, &chain, "event-cycle", what, found);
    }
}
