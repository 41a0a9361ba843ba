//! Whether the labels of datasets that meet in one model mean the same classes.

use std::collections::{BTreeMap, BTreeSet};

use pipe_core::{Instance, Kind, NodeId, Nodes};
use pipe_plan::Plan;
use pipe_vocab::Refusal;
use pipe_vocab::refusal::LABELS_DIFFER;

use pipe_vision::weights::CLASSES;

use crate::graph::Graph;

/// Class names that a message shows.
const SHOWN: usize = 12;

/// Names by label.
pub type Names = BTreeMap<i64, String>;

/// The classes that a file of weights says its model was trained on.
pub fn of_weights(metadata: &BTreeMap<String, String>) -> Option<Names> {
    serde_json::from_str(metadata.get(CLASSES)?).ok()
}

/// Remembers for each model which classes its labels are.
pub fn remember(plan: &Plan, graph: &Graph) {
    let nodes = graph.nodes.borrow();
    let mut classes = graph.classes.borrow_mut();
    classes.clear();
    for (root, datasets) in meetings(plan) {
        let Some(names) = datasets.iter().map(|id| names(&nodes, id)).find(|names| !names.is_empty()) else { continue };
        let models = plan.nodes.keys().filter(|id| id.kind == Kind::Model && *root_of(plan, id) == root);
        classes.extend(models.map(|id| (id.clone(), names.clone())));
    }
}

/// Compares the classes that a model's weights were trained on with those of the data that it meets.
///
/// # Errors
/// As [`check`].
pub fn check_weights(plan: &Plan, nodes: &Nodes, model: &NodeId, trained: &Names) -> Result<(), Refusal> {
    let datasets = meetings(plan).remove(root_of(plan, model)).unwrap_or_default();
    for dataset in datasets {
        let found = names(nodes, &dataset);
        if !agree(trained, &found) {
            let message = format!(
                "the weights of {model} were trained on other classes than {dataset} has: {}; {dataset} has {}",
                shown(trained),
                shown(&found)
            );
            LABELS_DIFFER.refuse(&plan.pipeline.accept, message)?;
        }
    }
    Ok(())
}

/// Compares the classes of the files of weights that filled each model with those of the data that it meets. A model that is
/// trained may learn others, which is said.
///
/// # Errors
/// As [`check`].
pub fn check_initial(plan: &Plan, graph: &Graph) -> Result<(), Refusal> {
    let optimized = |model: &NodeId| {
        plan.nodes.keys().any(|id| id.kind == Kind::Optimizer && held(plan, id).any(|held| held == model))
    };
    let nodes = graph.nodes.borrow();
    for (model, trained) in graph.trained_on.borrow().iter() {
        if !optimized(model) {
            check_weights(plan, &nodes, model, trained)?;
            continue;
        }
        let datasets = meetings(plan).remove(root_of(plan, model)).unwrap_or_default();
        if let Some(other) = datasets.iter().map(|id| (id, names(&nodes, id))).find(|(_, found)| !agree(trained, found))
        {
            tracing::warn!(
                "{model}: its weights are of as many classes, but of others: {}; {} has {}. It begins with what it knows of those",
                shown(trained),
                other.0,
                shown(&other.1)
            );
        }
    }
    Ok(())
}

/// Compares the classes that a model was trained on with those that its labels are now.
///
/// # Errors
/// As [`check`].
pub fn check_trained(model: &NodeId, trained: &Names, now: &Names, accepted: &[String]) -> Result<(), Refusal> {
    if agree(trained, now) {
        return Ok(());
    }
    let message = format!("{model} was trained on other classes: {}; now they are {}", shown(trained), shown(now));
    LABELS_DIFFER.refuse(accepted, message)
}

/// Compares the classes that the models of a run have learnt with those that their labels are after an edit, for models that keep
/// their weights.
///
/// # Errors
/// As [`check`].
pub fn check_edit(plan: &Plan, nodes: &Nodes, learnt: &BTreeMap<NodeId, Names>) -> Result<(), Refusal> {
    check(plan, nodes)?;
    learnt.iter().try_for_each(|(model, names)| check_weights(plan, nodes, model, names))
}

/// The model of which another is made, if it is: an average has the classes of what it averages.
fn root_of<'p>(plan: &'p Plan, model: &'p NodeId) -> &'p NodeId {
    let mut root = model;
    while let Some(inner) = held(plan, root).find(|held| held.kind == Kind::Model) {
        root = inner;
    }
    root
}

/// Compares the classes of each model's datasets with those of the dataset that it is trained on, or of the first.
///
/// # Errors
/// When a label has two names, or a name two labels, unless the pipeline accepts it.
pub fn check(plan: &Plan, nodes: &Nodes) -> Result<(), Refusal> {
    let accepted = &plan.pipeline.accept;
    for (model, datasets) in meetings(plan) {
        let named = datasets.into_iter().filter_map(|id| {
            let names = names(nodes, &id);
            (!names.is_empty()).then_some((id, names))
        });
        let named: Vec<(NodeId, Names)> = named.collect();
        let Some(((first, expected), others)) = named.split_first() else { continue };
        for (other, found) in others {
            if !agree(expected, found) {
                LABELS_DIFFER.refuse(accepted, message(plan, &model, (first, expected), (other, found)))?;
            }
        }
    }
    Ok(())
}

/// The datasets that reach each model through engines, those it is trained on first.
fn meetings(plan: &Plan) -> BTreeMap<NodeId, Vec<NodeId>> {
    let mut all: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    let mut engines: Vec<_> = plan.nodes.values().filter(|node| node.id.kind == Kind::Engine).collect();
    let trains = |id: &NodeId| held(plan, id).any(|held| held.kind == Kind::Optimizer);
    engines.sort_by_key(|engine| !trains(&engine.id));
    for engine in engines {
        let Some(model) = held(plan, &engine.id).find(|held| held.kind == Kind::Model) else { continue };
        let root = root_of(plan, model);
        let (mut open, mut seen) = (vec![&engine.id], BTreeSet::new());
        while let Some(id) = open.pop() {
            let sources = held(plan, id).filter(|held| matches!(held.kind, Kind::Loader | Kind::Dataset));
            open.extend(sources.filter(|source| seen.insert(*source)));
        }
        let datasets = all.entry(root.clone()).or_default();
        let new: Vec<NodeId> =
            seen.into_iter().filter(|id| id.kind == Kind::Dataset && !datasets.contains(id)).cloned().collect();
        datasets.extend(new);
    }
    all
}

fn held<'p>(plan: &'p Plan, node: &NodeId) -> impl Iterator<Item = &'p NodeId> {
    let node = node.clone();
    plan.data_edges.iter().filter(move |edge| edge.to == node).map(|edge| &edge.from)
}

fn names(nodes: &Nodes, dataset: &NodeId) -> Names {
    match nodes.get(dataset) {
        Some(Instance::Dataset(dataset)) => {
            dataset.class_names().into_iter().filter(|(_, name)| !name.is_empty()).collect()
        }
        _ => Names::new(),
    }
}

/// Whether no label has two names and no name two labels; either may have classes that the other has not.
fn agree(a: &Names, b: &Names) -> bool {
    let labels: BTreeMap<&str, i64> = a.iter().map(|(label, name)| (name.as_str(), *label)).collect();
    b.iter().all(|(label, name)| {
        a.get(label).is_none_or(|expected| expected == name)
            && labels.get(name.as_str()).is_none_or(|expected| expected == label)
    })
}

fn message(plan: &Plan, model: &NodeId, (first, a): (&NodeId, &Names), (other, b): (&NodeId, &Names)) -> String {
    let takes =
        plan.nodes.get(other).is_some_and(|node| node.descriptor.schema()["properties"].get("class_names").is_some());
    let way = match takes {
        true => format!(". Give {other} the labels of the other: `class_names = \"{first}:class_names\"`"),
        false => String::new(),
    };
    format!(
        "{first} and {other} meet in {model}, but their labels mean other classes: {first} has {}; {other} has {}{way}",
        shown(a),
        shown(b)
    )
}

fn shown(names: &Names) -> String {
    let each: Vec<String> = names.iter().take(SHOWN).map(|(label, name)| format!("{label} {name}")).collect();
    let more = names.len().saturating_sub(SHOWN);
    format!("{}{}", each.join(", "), if more > 0 { format!(" and {more} more") } else { String::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_agree_unless_one_means_two_classes() {
        let names =
            |all: &[(i64, &str)]| all.iter().map(|(label, name)| (*label, (*name).to_owned())).collect::<Names>();
        let whole = names(&[(0, "ant"), (1, "bee"), (2, "cow")]);
        assert!(agree(&whole, &whole));
        assert!(agree(&whole, &names(&[(1, "bee")])), "a class may be missing");
        assert!(agree(&whole, &names(&[(1, "bee"), (3, "dog")])), "and another may be there");
        assert!(!agree(&whole, &names(&[(0, "bee"), (1, "cow")])), "shifted");
        assert!(!agree(&whole, &names(&[(5, "bee")])), "one name, two labels");
        assert!(!agree(&whole, &names(&[(2, "dog")])), "one label, two names");
    }
}
