//! Classes: of the data against those of the model, and of the data against each other.

use super::data::Dataset;
use super::rule::Findings;
use super::view::{Engine, View};
use crate::message;
use pipe_vocab::NodeId;
use pipe_vocab::facts::{Anchors, BoxSize, Contents, Role};

/// Classes that a finding names.
const NAMED: usize = 5;

/// Mirrored images of what means something else in a mirror.
pub(super) fn mirrored(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Trains) {
        let (Some(loader), Some(dataset)) = (engine.loader, engine.dataset) else { continue };
        let mut parts = view.parts(&dataset.from).into_iter();
        let Some(what) = parts.find_map(|part| view.facts(part).mirrored) else { continue };
        if let Some(step) = view.steps(&loader.from).into_iter().find(|step| step.facts.mirrors) {
            let message = format!("this mirrors {what}, whose mirror images are no {what} or others");
            let help = format!("remove it; if `{}` shows something else, set its `class_names`", dataset.from);
            found.add(step.location, message, help);
        }
    }
}

/// Mirrored images where classes or keypoints tell left from right.
pub(super) fn sides(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Trains) {
        let Some((loader, (dataset, data))) = engine.loader.zip(known(view, &engine)) else { continue };
        let step = view.steps(&loader.from).into_iter().find(|step| step.facts.mirrors);
        let Some(step) = step else { continue };
        let pairs = data.contents.as_ref().map_or(&[][..], |contents| &contents.mirror_pairs);
        let swaps = |[a, b]: &[usize; 2]| step.facts.swaps.iter().any(|swap| swap == &[*a, *b] || swap == &[*b, *a]);
        if let Some([left, right]) = pairs.iter().find(|pair| !step.facts.swaps_by_name && !swaps(pair)) {
            let message = format!(
                "this mirrors images, but the keypoints {left} and {right} of `{dataset}` are the left and the right of a pair"
            );
            found.add(step.location.clone(), message, format!("let it swap them: `keypoint_pairs = {pairs:?}`"));
        }
        let names: Vec<&str> = data.class_names.values().map(String::as_str).collect();
        let other = |name: &str| {
            let lower = name.to_lowercase();
            let swapped = lower.replace("left", "right");
            (swapped != lower).then(|| names.iter().find(|other| other.to_lowercase() == swapped).copied()).flatten()
        };
        let Some((left, right)) = names.iter().find_map(|name| Some((*name, other(name)?))) else { continue };
        let message = format!("this mirrors images, but their classes tell `{left}` from `{right}`");
        found.add(step.location, message, "remove it: a mirrored image would have the wrong label");
    }
}

/// The label and the two names of the first class that both name, and differently.
fn differing<'a>(trained: &'a Dataset, tested: &'a Dataset) -> Option<(i64, &'a str, &'a str)> {
    tested.class_names.iter().find_map(|(label, name)| {
        let other = trained.class_names.get(label).filter(|other| !other.is_empty() && !name.is_empty())?;
        (other.trim() != name.trim()).then_some((*label, other.as_str(), name.as_str()))
    })
}

/// The dataset of an engine, where it is open.
fn known<'a>(view: &View<'a>, engine: &Engine<'a>) -> Option<(&'a NodeId, &'a Dataset)> {
    let dataset = &engine.dataset?.from;
    Some((dataset, view.data?.datasets.get(dataset)?))
}

/// Labels that the model has no output for.
pub(super) fn too_few(view: &View<'_>, found: &mut Findings) {
    let mut told = Vec::new();
    for engine in view.engines(Role::Trains).into_iter().chain(view.engines(Role::Evaluates)) {
        let (Some(model), Some((dataset, data))) = (engine.model, known(view, &engine)) else { continue };
        for model in view.with_inner(&model.from) {
            let Some((classes, option)) = view.facts(model).classes.filter(|(_, option)| view.is_known(model, option))
            else {
                continue;
            };
            let largest = data.contents.as_ref().and_then(|contents| contents.labels.keys().next_back().copied());
            if let Some(largest) = largest.filter(|largest| *largest >= classes as i64 && !told.contains(&model)) {
                told.push(model);
                let message = format!(
                    "`{model}` has {classes} classes, from 0, but `{dataset}` has objects with the label {largest}"
                );
                let help =
                    format!("at least {} are needed; `\"{dataset}:num_classes\"` is the right number", largest + 1);
                found.add(view.at(model, option), message, help);
            }
        }
    }
}

/// Pairs of a training and an evaluation of one model, both with open data.
fn pairs<'a>(view: &View<'a>) -> Vec<[(&'a NodeId, &'a Dataset); 2]> {
    let mut pairs: Vec<[(&NodeId, &Dataset); 2]> = Vec::new();
    for evaluation in view.engines(Role::Evaluates) {
        for training in view.engines(Role::Trains) {
            let models = training.model.zip(evaluation.model);
            let related = models.is_some_and(|(a, b)| view.related(&a.from, &b.from));
            let both = known(view, &training).zip(known(view, &evaluation)).filter(|(a, b)| related && a.0 != b.0);
            if let Some((training, evaluation)) = both
                && !pairs.iter().any(|[a, b]| a.0 == training.0 && b.0 == evaluation.0)
            {
                pairs.push([training, evaluation]);
            }
        }
    }
    pairs
}

/// One label that means two classes.
pub(super) fn names_differ(view: &View<'_>, found: &mut Findings) {
    for [(train, trained), (test, tested)] in pairs(view) {
        let Some((label, other, name)) = differing(trained, tested) else { continue };
        let message = format!("label {label} is `{other}` in `{train}` and `{name}` in `{test}`");
        let takes = |option: &&str| view.nodes.get(test).is_some_and(|node| node.takes(option));
        let help = match ["classes", "class_names"].into_iter().find(takes) {
            Some(option) => format!("give `{test}` the labels of the other: {option} = \"{train}:class_names\""),
            None => "labels must mean the same in both".into(),
        };
        found.add(view.place(test, &[]), message, help);
    }
}

/// Classes that are evaluated and were never seen.
pub(super) fn not_trained(view: &View<'_>, found: &mut Findings) {
    for [(train, trained), (test, tested)] in pairs(view) {
        let (Some(seen), Some(wanted)) = (&trained.contents, &tested.contents) else { continue };
        // Of labels that mean something else that is told.
        if differing(trained, tested).is_some() {
            continue;
        }
        let missing: Vec<String> = wanted
            .labels
            .iter()
            .filter(|(label, count)| **count > 0 && seen.labels.get(label).copied().unwrap_or(0) == 0)
            .map(|(label, _)| tested.class_names.get(label).cloned().unwrap_or_else(|| label.to_string()))
            .collect();
        // A part of the data may lack any of them.
        if missing.is_empty() || view.parts(train).into_iter().any(|part| view.facts(part).limited) {
            continue;
        }
        let named = message::list(&missing[..missing.len().min(NAMED)]);
        let more = missing.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" ({more} more)") } else { String::new() };
        let message = format!("`{train}` has nothing of {named}{more}, which `{test}` has");
        found.add(view.place(train, &[]), message, "a model cannot learn what it never sees: check the split");
    }
}

/// Boxes that lie out of their image: a part of all that is no carelessness any more.
const MANY_OUTSIDE: f64 = 0.1;

/// Boxes of another form than the format's.
pub(super) fn outside(view: &View<'_>, found: &mut Findings) {
    let mut told = Vec::new();
    for engine in view.engines(Role::Trains).into_iter().chain(view.engines(Role::Evaluates)) {
        let Some((dataset, contents)) = known(view, &engine).and_then(|(id, data)| Some((id, data.contents.as_ref()?)))
        else {
            continue;
        };
        let (outside, all) = (contents.outside, contents.boxes.len());
        if outside as f64 > MANY_OUTSIDE * all as f64 && !told.contains(&dataset) {
            told.push(dataset);
            let message = format!("{outside} of the {all} boxes of `{dataset}` reach out of their images");
            let help = "COCO's boxes are x, y, width, height: are these corners, or for images of another size?";
            found.add(view.place(dataset, &[]), message, help);
        }
    }
}

/// An anchor finds boxes of half its side; smaller ones overlap too little with it.
const SMALLEST_PART: f64 = 0.5;

/// Objects that are smaller than any anchor can find.
pub(super) fn small(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Trains) {
        let (Some(model), Some(loader), Some((dataset, data))) = (engine.model, engine.loader, known(view, &engine))
        else {
            continue;
        };
        // A transform that changes sizes makes others of them.
        if view.steps(&loader.from).iter().any(|step| step.facts.resizes || step.facts.unknown) {
            continue;
        }
        for model in view.with_inner(&model.from) {
            let (Some(anchors), Some(contents)) = (&view.facts(model).anchors, &data.contents) else { continue };
            let Some((small, all)) = too_small(anchors, contents).filter(|(small, all)| small * 2 > *all) else {
                continue;
            };
            let message = format!(
                "{small} of {all} objects of `{dataset}` have less than half the side of the smallest anchor of `{model}`, {} \
                 pixels",
                anchors.sides[0]
            );
            let help = "add smaller `anchor_sizes`, or let the model see larger images (`min_size`)";
            found.add(view.at(model, "anchor_sizes"), message, help);
        }
    }
}

/// How many boxes are too small, of how many.
fn too_small(anchors: &Anchors, contents: &Contents) -> Option<(usize, usize)> {
    let small = |size: &&BoxSize| anchors.seen(size) < anchors.sides[0] * SMALLEST_PART;
    let all = contents.boxes.len();
    (all > 0).then(|| (contents.boxes.iter().filter(small).count(), all))
}
