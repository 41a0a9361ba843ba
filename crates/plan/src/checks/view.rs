//! Questions to the graph and to what its components say of themselves.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::data::Data;
use crate::edges::{DataEdge, PropertyEdge};
use crate::events::EventEdge;
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
        View { nodes, ports, properties, events, document, data: None, facts }
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
    pub fn ports_of(&self, to: &'a NodeId, kind: Kind) -> impl Iterator<Item = &'a DataEdge> {
        self.ports.iter().filter(move |edge| edge.to == *to && edge.from.kind == kind)
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
        let mut reached = vec![a];
        let mut next = 0;
        while let Some(&at) = reached.get(next) {
            next += 1;
            for edge in self.ports.iter().filter(|e| e.from.kind == Kind::Model && e.to.kind == Kind::Model) {
                let other = if edge.from == *at { &edge.to } else { &edge.from };
                if (edge.from == *at || edge.to == *at) && !reached.contains(&other) {
                    reached.push(other);
                }
            }
        }
        reached.contains(&b)
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
