//! What samples contain along the edges: a mask model on a dataset without masks is an error at the edge.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;

use super::edges::DataEdge;
use super::events::{Action, EventEdge};
use super::left_out::LeftOut;
use super::message;
use super::nodes::PlanNode;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location};
use pipe_vocab::{Contract, FieldSet, Kind, NodeId};

type Nodes = IndexMap<NodeId, PlanNode>;

/// The ports of one node by the kind of what fills them.
struct Ports<'a>(Vec<&'a DataEdge>);

impl<'a> Ports<'a> {
    fn of(node: &NodeId, edges: &'a [DataEdge]) -> Self {
        Ports(edges.iter().filter(|edge| edge.to == *node).collect())
    }

    fn kind(&self, kind: Kind) -> impl Iterator<Item = &'a DataEdge> + '_ {
        self.0.iter().copied().filter(move |edge| edge.from.kind == kind)
    }
}

/// What is left out, besides what is found.
pub(super) fn check(nodes: &Nodes, edges: &[DataEdge], events: &[EventEdge], found: &mut Diagnostics) -> Vec<LeftOut> {
    let mut loaded: BTreeMap<&NodeId, FieldSet> = BTreeMap::new();
    for id in nodes.keys().filter(|id| id.kind == Kind::Loader) {
        if let Some(fields) = loader_fields(nodes, &Ports::of(id, edges), edges, found) {
            loaded.insert(id, fields);
        }
    }
    let (mut given, mut left_out) = (BTreeSet::new(), Vec::new());
    for id in nodes.keys().filter(|id| id.kind == Kind::Engine) {
        let updated = updated_by(id, events);
        let mut wants = Wants { given: &mut given, left_out: &mut left_out };
        check_engine(nodes, edges, &Ports::of(id, edges), &updated, &loaded, &mut wants, found);
    }
    // A metric of several engines may have from one what it lacks in another.
    left_out.retain(|one| !given.contains(&(one.metric.clone(), one.field.clone())));
    left_out.iter().for_each(|one| found.push(one.warning()));
    left_out
}

/// The fields that metrics can do without: with the metric, those that an engine gives, and what comes of those that it does not.
struct Wants<'a> {
    given: &'a mut BTreeSet<(NodeId, String)>,
    left_out: &'a mut Vec<LeftOut>,
}

/// The metrics that events of an engine update, with the places where that is written.
fn updated_by<'e>(engine: &NodeId, events: &'e [EventEdge]) -> Vec<(&'e NodeId, &'e Location)> {
    let of_engine = events.iter().filter(|edge| edge.events.iter().any(|(node, ..)| node == engine));
    let targets = of_engine.flat_map(|edge| &edge.targets).filter(|target| target.action == Action::Update);
    targets.map(|target| (&target.node, &target.location)).collect()
}

/// Whether the component's options were right, so that its contract can be trusted.
fn known<'n>(nodes: &'n Nodes, id: &NodeId) -> Option<&'n PlanNode> {
    nodes.get(id).filter(|node| node.component.is_some())
}

/// A model made of another one (an average of its weights) reads and writes what that one does.
fn model_contract(nodes: &Nodes, model: &NodeId, edges: &[DataEdge]) -> Option<Contract> {
    let mut model = model;
    // A cycle has been reported already and must not keep this going.
    for _ in 0..nodes.len() {
        match Ports::of(model, edges).kind(Kind::Model).next() {
            Some(inner) => model = &inner.from,
            None => break,
        }
    }
    known(nodes, model).map(PlanNode::contract)
}

/// A dataset made of others gives what all of them give. `depth` bounds a cycle, which has been reported already.
fn dataset_fields(nodes: &Nodes, dataset: &NodeId, edges: &[DataEdge], depth: usize) -> Option<FieldSet> {
    let own = known(nodes, dataset)?.contract().adds;
    let ports = Ports::of(dataset, edges);
    let mut parts =
        ports.kind(Kind::Dataset).map(|edge| dataset_fields(nodes, &edge.from, edges, depth.checked_sub(1)?));
    let Some(first) = parts.next() else { return Some(own) };
    parts.try_fold(first?, |common, part| Some(common.intersection(&part?).cloned().collect()))
}

fn loader_fields(nodes: &Nodes, ports: &Ports<'_>, edges: &[DataEdge], found: &mut Diagnostics) -> Option<FieldSet> {
    let dataset = ports.kind(Kind::Dataset).next()?;
    let mut fields = dataset_fields(nodes, &dataset.from, edges, nodes.len())?;
    for edge in ports.kind(Kind::Transform) {
        let contract = known(nodes, &edge.from)?.contract();
        let missing: Vec<&String> = contract.needs.difference(&fields).collect();
        if !missing.is_empty() {
            let giver = dataset.from.to_string();
            found.push(lacks(&edge.from, &missing, &giver, &fields, &edge.location));
        }
        fields = contract.apply(&fields);
    }
    Some(fields)
}

fn check_engine(
    nodes: &Nodes,
    edges: &[DataEdge],
    ports: &Ports<'_>,
    updated: &[(&NodeId, &Location)],
    loaded: &BTreeMap<&NodeId, FieldSet>,
    wants: &mut Wants<'_>,
    found: &mut Diagnostics,
) {
    for loader in ports.kind(Kind::Loader) {
        let Some(fields) = loaded.get(&loader.from) else { continue };
        let mut available = fields.clone();
        for model in ports.kind(Kind::Model) {
            let Some(contract) = model_contract(nodes, &model.from, edges) else { return };
            let missing: Vec<&String> = contract.needs.difference(fields).collect();
            if !missing.is_empty() {
                let giver = loader.from.to_string();
                found.push(lacks(&model.from, &missing, &giver, fields, &loader.location));
            }
            available.extend(contract.adds);
        }
        let own = ports.kind(Kind::Metric).map(|edge| (&edge.from, &edge.location));
        for (metric, location) in own.chain(updated.iter().copied()) {
            let Some(node) = known(nodes, metric) else { continue };
            let contract = node.contract();
            let mut missing: Vec<&String> = contract.needs.difference(&available).collect();
            for (field, begin) in &contract.wants {
                let model = ports.kind(Kind::Model).next().map(|edge| edge.from.clone());
                match model.filter(|_| !available.contains(field)) {
                    None => drop(wants.given.insert((metric.clone(), field.clone()))),
                    // Nothing would be left.
                    Some(_) if node.values().iter().all(|value| value.starts_with(begin)) => missing.push(field),
                    Some(model) => wants.left_out.push(LeftOut {
                        metric: metric.clone(),
                        begin: begin.clone(),
                        model,
                        field: field.clone(),
                        location: location.clone(),
                    }),
                }
            }
            if !missing.is_empty() {
                let giver = "the loader with the model";
                found.push(lacks(metric, &missing, giver, &available, location));
            }
        }
    }
}

fn lacks(user: &NodeId, missing: &[&String], giver: &str, given: &FieldSet, at: &Location) -> Diagnostic {
    let message = format!("`{user}` needs {}, which {giver} does not provide", message::list(missing));
    let given: Vec<&String> = given.iter().collect();
    Diagnostic::error("missing-field", message).at(at.clone()).help(format!("it provides {}", message::list(&given)))
}
