//! Names of other nodes, resolved: ports, properties, measured values.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::events::{Action, EventEdge};
use super::lower::{Mention, Mentioned};
use super::message;
use super::names::exists;
use super::nodes::PlanNode;
use super::schema::property_fits;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_document::{PathSegment, path_text};
use pipe_vocab::{Kind, NodeId, ValueRef};

/// A port filled with another node.
#[derive(Debug, Clone)]
pub struct DataEdge {
    /// The node that fills the port.
    pub from: NodeId,
    /// The node that has the port.
    pub to: NodeId,
    /// The port: steps from the table of `to`.
    pub port: Vec<PathSegment>,
    /// Where the name is written.
    pub location: Location,
}

impl DataEdge {
    /// The port as text: `dataset`, `metrics[0]`, `best.monitor`.
    pub fn port_name(&self) -> String {
        path_text(&self.port)
    }
}

/// An option filled with another node's property.
#[derive(Debug, Clone)]
pub struct PropertyEdge {
    /// The node that has the property.
    pub from: NodeId,
    /// The property.
    pub property: String,
    /// The node that has the option.
    pub to: NodeId,
    /// The option: steps from the table of `to`.
    pub option: Vec<PathSegment>,
    /// Where the name is written.
    pub location: Location,
}

/// A value that a node waits for.
#[derive(Debug, Clone)]
pub struct ValueEdge {
    /// The value.
    pub value: ValueRef,
    /// The node that waits for it.
    pub to: NodeId,
    /// Where the name is written.
    pub location: Location,
}

/// Names of other nodes, resolved.
#[derive(Default)]
pub struct Resolved {
    /// Ports.
    pub data: Vec<DataEdge>,
    /// Properties.
    pub properties: Vec<PropertyEdge>,
    /// Measured values.
    pub values: Vec<ValueEdge>,
}

type Nodes = IndexMap<NodeId, PlanNode>;

pub(super) fn resolve(
    nodes: &Nodes,
    unreadable: &BTreeSet<NodeId>,
    mentions: &IndexMap<NodeId, Vec<Mentioned>>,
    found: &mut Diagnostics,
) -> Resolved {
    let mut resolved = Resolved::default();
    for (to, mentioned) in mentions.iter().flat_map(|(to, all)| all.iter().map(move |one| (to, one))) {
        let location = mentioned.location.clone();
        let path = mentioned.path.clone();
        match &mentioned.what {
            Mention::Port { node, kinds } => {
                if !kinds.contains(&node.kind) {
                    found.push(wrong_kind(node, kinds, &path, nodes, &location));
                } else if exists(node, nodes, unreadable, &location, found) {
                    resolved.data.push(DataEdge { from: node.clone(), to: to.clone(), port: path, location });
                }
            }
            Mention::Property { node, property, types } => {
                if exists(node, nodes, unreadable, &location, found)
                    && property_exists(node, property, types, nodes, &location, found)
                {
                    let (from, property) = (node.clone(), property.clone());
                    let edge = PropertyEdge { from, property, to: to.clone(), option: path, location };
                    resolved.properties.push(edge);
                }
            }
            Mention::Value(value) => {
                if exists(&value.node, nodes, unreadable, &location, found) {
                    resolved.values.push(ValueEdge { value: value.clone(), to: to.clone(), location });
                }
            }
        }
    }
    resolved
}

fn wrong_kind(node: &NodeId, kinds: &[Kind], path: &[PathSegment], nodes: &Nodes, at: &Location) -> Diagnostic {
    let message =
        format!("`{}` takes {}, but `{node}` is {}", path_text(path), message::kinds(kinds), node.kind.with_article());
    let fitting: Vec<String> = nodes.keys().filter(|id| kinds.contains(&id.kind)).map(|id| id.to_string()).collect();
    let help = match fitting.as_slice() {
        [] => format!("add {} to the pipeline", message::kinds(kinds)),
        names => format!("the matching nodes are {}", message::list(names)),
    };
    Diagnostic::error("wrong-kind", message).at(at.clone()).help(help)
}

fn property_exists(
    node: &NodeId,
    property: &str,
    types: &[String],
    nodes: &Nodes,
    at: &Location,
    found: &mut Diagnostics,
) -> bool {
    let Some(plan_node) = nodes.get(node) else { return false };
    let known = plan_node.descriptor.properties;
    let Some(declared) = known.iter().find(|p| p.name == property) else {
        let names: Vec<&str> = known.iter().map(|p| p.name).collect();
        let help = match (suggest(property, names.iter().copied()), names.as_slice()) {
            (Some(near), _) => format!("did you mean `{node}:{near}`?"),
            (None, []) => format!("a {} has no properties", plan_node.descriptor.full_name()),
            (None, names) => format!("its properties are {}", message::list(names)),
        };
        let message = format!("`{node}` has no property `{property}`");
        found.push(Diagnostic::error("unknown-property", message).at(at.clone()).help(help));
        return false;
    };
    if !types.iter().any(|wanted| property_fits(declared.ty, wanted)) {
        let message =
            format!("expected {}, but `{node}:{property}` is {}", message::types(types), declared.ty.with_article());
        found.push(Diagnostic::error("wrong-type", message).at(at.clone()));
        return false;
    }
    true
}

/// Checks that every monitored value is produced, and by a node that runs.
pub(super) fn check_values(
    nodes: &Nodes,
    unreadable: &BTreeSet<NodeId>,
    resolved: &Resolved,
    events: &[EventEdge],
    found: &mut Diagnostics,
) {
    for edge in &resolved.values {
        let ValueRef { node, value } = &edge.value;
        let Some(producer) = nodes.get(node).filter(|n| n.component.is_some()) else { continue };
        let values = producer.values();
        if !values.contains(value) {
            let help = match (suggest(value, values.iter().map(String::as_str)), values.as_slice()) {
                (Some(near), _) => format!("did you mean `{node}:{near}`?"),
                (None, []) => format!("`{node}` produces no values"),
                (None, names) => format!("it produces {}", message::list(names)),
            };
            let message = format!("`{node}` does not produce `{value}`");
            found.push(Diagnostic::error("unknown-value", message).at(edge.location.clone()).help(help));
        }
        let computed = |target: &super::events::EventTarget| target.node == *node && target.action == Action::Compute;
        let used = resolved.data.iter().any(|data| data.from == *node && data.to.kind == Kind::Engine)
            || events.iter().flat_map(|event| &event.targets).any(computed);
        if node.kind == Kind::Metric && !used && unreadable.is_empty() {
            let message = format!("nothing computes `{node}`, so `{value}` is never available");
            let help = format!("add it to an engine: metrics = [\"{node}\"]");
            found.push(Diagnostic::error("never-measured", message).at(edge.location.clone()).help(help));
        }
    }
}
