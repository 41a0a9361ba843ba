//! Names of other nodes, resolved: ports, properties, measured values.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::events::{Action, EventEdge};
use super::left_out::LeftOut;
use super::mention::{Mention, Mentioned};
use super::message;
use super::names::exists;
use super::nodes::PlanNode;
use super::schema::{hot_numbers, property_fits};
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_document::{PathSegment, path_text};
use pipe_vocab::{Kind, NodeId, Target, ValueRef};
use serde_json::Value as Json;

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
    /// Steps from that node's table to the name.
    pub option: Vec<PathSegment>,
    /// Where the name is written.
    pub location: Location,
}

impl ValueEdge {
    /// Whether the node cannot do without it; tags of values that are never measured are only not recorded.
    fn is_needed(&self) -> bool {
        let monitors = matches!(self.option.last(), Some(PathSegment::Key(key)) if key == "monitor");
        monitors || self.to.kind == Kind::Metric
    }
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
    /// Whether a port names a metric that is not there: which metrics are computed is not known then.
    pub lacks_metric: bool,
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
                } else {
                    resolved.lacks_metric |= node.kind == Kind::Metric;
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
            Mention::Target { target: Target { node, option }, kinds } => {
                if !kinds.contains(&node.kind) {
                    found.push(not_driven(node, kinds, &location));
                } else if exists(node, nodes, unreadable, &location, found)
                    && option_exists(node, option, nodes, &location, found)
                {
                    resolved.data.push(DataEdge { from: node.clone(), to: to.clone(), port: path, location });
                }
            }
            Mention::Value(value) => {
                if exists(&value.node, nodes, unreadable, &location, found) {
                    resolved.values.push(ValueEdge { value: value.clone(), to: to.clone(), option: path, location });
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

fn not_driven(node: &NodeId, kinds: &[Kind], at: &Location) -> Diagnostic {
    let message = format!("options of {} cannot be scheduled", node.kind.with_article());
    let help = format!("name an option of {}", message::kinds(kinds));
    Diagnostic::error("wrong-kind", message).at(at.clone()).help(help)
}

/// Whether an option that can be scheduled is 0: in the node's own table, and in every table of `groups` that sets it.
fn is_switched_off(node: &PlanNode, option: &str) -> bool {
    let groups = node.config.get("groups").and_then(Json::as_array).into_iter().flatten();
    let in_table = option.strip_prefix("groups[").and_then(|rest| rest.split_once("]."));
    let (index, name) = in_table.map_or((None, option), |(index, name)| (index.parse::<usize>().ok(), name));
    let of_groups: Vec<&Json> = groups
        .enumerate()
        .filter(|(at, _)| index.is_none_or(|index| index == *at))
        .filter_map(|(_, group)| group.get(name))
        .collect();
    let default = || node.descriptor.schema()["properties"].get(name).and_then(|schema| schema.get("default"));
    let inner = || name.split_once('.').and_then(|(table, key)| node.config.get(table)?.get(key));
    let own = node.config.get(name).or_else(inner).or_else(default);
    // A group alone has its own value, if it sets one.
    let own = own.filter(|_| index.is_none() || of_groups.is_empty());
    let zero = |value: &&Json| value.as_f64() == Some(0.0);
    name != "lr"
        && own.is_none_or(|value| zero(&value))
        && of_groups.iter().all(zero)
        && (own.is_some() || !of_groups.is_empty())
}

/// Whether a node has a number of that name that may change while it works.
fn option_exists(node: &NodeId, option: &str, nodes: &Nodes, at: &Location, found: &mut Diagnostics) -> bool {
    let Some(plan_node) = nodes.get(node) else { return false };
    let known = hot_numbers(plan_node.descriptor.schema(), &plan_node.config);
    if known.iter().any(|name| name == option) {
        if is_switched_off(plan_node, option) {
            let message = format!("`{node}:{option}` is 0, so it is switched off and cannot be scheduled");
            let help = "set it to another value, which the schedule changes";
            found.push(Diagnostic::error("schedule-of-zero", message).at(at.clone()).help(help));
        }
        return true;
    }
    let help = match suggest(option, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{node}:{near}`?"),
        None if known.is_empty() => "none of its options that can be scheduled is set".to_owned(),
        None => format!("its options that can be scheduled are {}", message::list(&known)),
    };
    let message = format!("`{node}` has no option `{option}` that can be scheduled");
    found.push(Diagnostic::error("unknown-option", message).at(at.clone()).help(help));
    false
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
    left_out: &[LeftOut],
    found: &mut Diagnostics,
) {
    for edge in &resolved.values {
        let ValueRef { node, value } = &edge.value;
        let Some(producer) = nodes.get(node).filter(|n| n.component.is_some()) else { continue };
        let values = producer.values();
        if let Some(left_out) = left_out.iter().find(|one| one.metric == *node && one.has(value)) {
            if edge.is_needed() {
                found.push(left_out.refusal(value, &values, &edge.location));
            }
            continue;
        }
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
        if node.kind == Kind::Metric && !used && unreadable.is_empty() && !resolved.lacks_metric {
            let message = format!("nothing computes `{node}`, so `{value}` is never available");
            let help = format!("add it to an engine: metrics = [\"{node}\"]");
            found.push(Diagnostic::error("never-measured", message).at(edge.location.clone()).help(help));
        }
    }
}

/// Checks that a metric made of another one's value is computed after it, where both are in one list.
pub(super) fn check_value_order(resolved: &Resolved, events: &[EventEdge], found: &mut Diagnostics) {
    let computed = |edge: &EventEdge| {
        let targets = edge.targets.iter().filter(|target| target.action == Action::Compute);
        targets.map(|target| (target.node.clone(), target.location.clone())).collect()
    };
    let mut lists: IndexMap<&NodeId, Vec<(NodeId, Location)>> = IndexMap::new();
    for edge in resolved.data.iter().filter(|edge| edge.from.kind == Kind::Metric && edge.to.kind == Kind::Engine) {
        lists.entry(&edge.to).or_default().push((edge.from.clone(), edge.location.clone()));
    }
    for list in lists.into_values().chain(events.iter().map(computed)) {
        let position = |node: &NodeId| list.iter().position(|(listed, _)| listed == node);
        for edge in resolved.values.iter().filter(|edge| edge.to.kind == Kind::Metric) {
            let (Some(user), Some(used)) = (position(&edge.to), position(&edge.value.node)) else { continue };
            if user < used {
                let message = format!("`{}` is computed before `{}`, of which it is made", edge.to, edge.value.node);
                let diagnostic = Diagnostic::error("wrong-order", message).at(list[user].1.clone());
                let help = format!("put `{}` after it", edge.to);
                found.push(diagnostic.label(list[used].1.clone(), "computed here").help(help));
            }
        }
    }
}
