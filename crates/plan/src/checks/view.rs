//! Questions to the graph and to what its components say of themselves.

use std::cell::RefCell;
use std::collections::BTreeMap;

use indexmap::IndexMap;
use petgraph::unionfind::UnionFind;

use super::data::Data;
use crate::edges::{DataEdge, PropertyEdge};
use crate::events::{Action, EventEdge};
use crate::nodes::PlanNode;
use pipe_document::diagnostic::Location;
use pipe_document::{Document, KeyOrValue, PathSegment};
use pipe_vocab::facts::Role;
use pipe_vocab::{Facts, Kind, NodeId};

/// A plan as rules see it.
pub(crate) struct View<'a> {
    pub nodes: &'a IndexMap<NodeId, PlanNode>,
    pub ports: &'a [DataEdge],
    pub properties: &'a [PropertyEdge],
    pub events: &'a [EventEdge],
    pub document: &'a Document,
    /// Nothing before datasets are open.
    pub data: Option<&'a Data>,
    facts: BTreeMap<&'a NodeId, Facts>,
    /// The ports of each node.
    filled: BTreeMap<&'a NodeId, Vec<&'a DataEdge>>,
    /// Models that share weights have one number.
    families: BTreeMap<&'a NodeId, usize>,
    /// How often events run what, as far as it was asked.
    pub counts: RefCell<BTreeMap<(NodeId, Action), Option<Count>>>,
}

/// How often something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    /// At most.
    pub most: u64,
    /// Whether it is so often, if nothing ends the run before.
    pub exact: bool,
}

impl Count {
    pub fn exactly(most: u64) -> Count {
        Count { most, exact: true }
    }

    pub fn times(self, other: Count) -> Count {
        Count { most: self.most.saturating_mul(other.most), exact: self.exact && other.exact }
    }
}

/// A transform of a loader: a node, or a step written in place in one.
pub(crate) struct Step {
    pub facts: Facts,
    pub location: Location,
}

/// An engine with what it works on.
pub(crate) struct Engine<'a> {
    pub id: &'a NodeId,
    pub model: Option<&'a DataEdge>,
    pub loader: Option<&'a DataEdge>,
    pub dataset: Option<&'a DataEdge>,
}

impl<'a> View<'a> {
    pub fn new(
        nodes: &'a IndexMap<NodeId, PlanNode>,
        (ports, properties): (&'a [DataEdge], &'a [PropertyEdge]),
        events: &'a [EventEdge],
        document: &'a Document,
    ) -> View<'a> {
        let facts = nodes.iter().map(|(id, node)| (id, node.facts())).collect();
        let mut filled: BTreeMap<&NodeId, Vec<&DataEdge>> = BTreeMap::new();
        for edge in ports {
            filled.entry(&edge.to).or_default().push(edge);
        }
        let (families, counts) = (families(ports), RefCell::default());
        View { nodes, ports, properties, events, document, data: None, facts, filled, families, counts }
    }

    /// What a node says of itself.
    pub fn facts(&self, id: &NodeId) -> &Facts {
        static NONE: std::sync::LazyLock<Facts> = std::sync::LazyLock::new(Facts::default);
        self.facts.get(id).unwrap_or(&NONE)
    }

    /// The nodes of a kind, with what they say of themselves.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = (&'a NodeId, &Facts)> {
        self.facts.iter().filter(move |(id, _)| id.kind == kind).map(|(id, facts)| (*id, facts))
    }

    /// The ports of a node that nodes of a kind fill.
    pub fn ports_of(&self, to: &NodeId, kind: Kind) -> impl Iterator<Item = &'a DataEdge> {
        let ports = self.filled.get(to).map(Vec::as_slice).unwrap_or_default();
        ports.iter().copied().filter(move |edge| edge.from.kind == kind)
    }

    fn port(&self, to: &'a NodeId, kind: Kind) -> Option<&'a DataEdge> {
        self.ports_of(to, kind).next()
    }

    /// The engines of a role, in the order of the file.
    pub fn engines(&self, role: Role) -> Vec<Engine<'a>> {
        let of_role = self.nodes.keys().filter(|id| id.kind == Kind::Engine && self.facts(id).role == Some(role));
        of_role.map(|id| self.engine(id)).collect()
    }

    fn engine(&self, id: &'a NodeId) -> Engine<'a> {
        let loader = self.port(id, Kind::Loader);
        let dataset = loader.and_then(|edge| self.port(&edge.from, Kind::Dataset));
        Engine { id, model: self.port(id, Kind::Model), loader, dataset }
    }

    /// The transforms of a loader in their order; what is written in place comes after the node that holds it.
    pub fn steps(&self, loader: &'a NodeId) -> Vec<Step> {
        let nodes = self.ports_of(loader, Kind::Transform).filter_map(|edge| self.nodes.get(&edge.from));
        let steps = nodes.flat_map(|node| {
            let own = Step { facts: self.facts(&node.id).clone(), location: node.location.clone() };
            let nested = node.nested.iter().map(|nested| {
                let location = self.place(&node.id, &nested.path);
                Step { facts: nested.component.facts(), location }
            });
            std::iter::once(own).chain(nested)
        });
        steps.collect()
    }

    /// Whether two models share weights: one is made of the other, or both of a third.
    pub fn related(&self, a: &NodeId, b: &NodeId) -> bool {
        a == b || self.families.get(a).is_some_and(|family| self.families.get(b) == Some(family))
    }

    /// A model with those that it is made of.
    pub fn with_inner(&self, model: &'a NodeId) -> Vec<&'a NodeId> {
        self.made_of(model)
    }

    /// A dataset with those that it joins.
    pub fn parts(&self, dataset: &'a NodeId) -> Vec<&'a NodeId> {
        self.made_of(dataset)
    }

    /// A node with those of its kind that fill its ports, and theirs.
    fn made_of(&self, node: &'a NodeId) -> Vec<&'a NodeId> {
        let mut all = vec![node];
        let mut next = 0;
        while let Some(&at) = all.get(next) {
            next += 1;
            let inner: Vec<_> = self.ports_of(at, node.kind).map(|edge| &edge.from).collect();
            all.extend(inner.into_iter().filter(|inner| !all.contains(inner)).collect::<Vec<_>>());
        }
        all
    }

    /// Where an option of a node is written; the node's table where it has its default.
    pub fn at(&self, node: &NodeId, option: &str) -> Location {
        let path: Vec<PathSegment> = option.split('.').map(PathSegment::from).collect();
        self.place(node, &path)
    }

    /// Where the end of the steps from a node is written.
    pub fn place(&self, node: &NodeId, path: &[PathSegment]) -> Location {
        let base = [PathSegment::from(node.kind.as_str()), PathSegment::from(&*node.name)];
        let whole: Vec<PathSegment> = base.into_iter().chain(path.iter().cloned()).collect();
        match self.document.get_at(&whole) {
            Some(found) if !path.is_empty() => found.location.clone(),
            _ => self
                .nodes
                .get(node)
                .map(|node| node.location.clone())
                .unwrap_or_else(|| self.document.locate(&whole, KeyOrValue::Key)),
        }
    }

    /// Whether an option has a value of its own: not that of another node's property, which is not known yet.
    pub fn is_known(&self, node: &NodeId, option: &str) -> bool {
        let of_node = self.properties.iter().filter(|edge| edge.to == *node);
        !of_node.into_iter().any(|edge| matches!(edge.option.first(), Some(PathSegment::Key(key)) if key == option))
    }

    /// Whether an event runs a node.
    pub fn is_run(&self, node: &NodeId) -> bool {
        self.events.iter().flat_map(|event| &event.targets).any(|target| target.node == *node)
    }
}

/// A number for each model that is made of others or of which others are made: the same for those that hang together.
fn families(ports: &[DataEdge]) -> BTreeMap<&NodeId, usize> {
    let edges: Vec<&DataEdge> =
        ports.iter().filter(|edge| edge.from.kind == Kind::Model && edge.to.kind == Kind::Model).collect();
    let mut numbers: BTreeMap<&NodeId, usize> = BTreeMap::new();
    for edge in &edges {
        for id in [&edge.from, &edge.to] {
            let next = numbers.len();
            numbers.entry(id).or_insert(next);
        }
    }
    let mut joined = UnionFind::new(numbers.len());
    for edge in edges {
        joined.union(numbers[&edge.from], numbers[&edge.to]);
    }
    numbers.into_iter().map(|(id, number)| (id, joined.find(number))).collect()
}
