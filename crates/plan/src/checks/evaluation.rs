//! What an evaluation sees.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;

use super::rule::Findings;
use super::view::{Engine, View};
use crate::usage;
use pipe_vocab::facts::Role;
use pipe_vocab::{Kind, NodeId};

/// The evaluations of models that are trained, with the trainings.
fn with_trainings<'a>(view: &View<'a>) -> Vec<(Engine<'a>, Vec<Engine<'a>>)> {
    let evaluations = view.engines(Role::Evaluates).into_iter().filter_map(|evaluation| {
        let model = evaluation.model?;
        let trains = |engine: &Engine<'_>| engine.model.is_some_and(|other| view.related(&model.from, &other.from));
        let trainings: Vec<_> = view.engines(Role::Trains).into_iter().filter(trains).collect();
        (!trainings.is_empty()).then_some((evaluation, trainings))
    });
    evaluations.collect()
}

/// Whether two datasets are the same or read the same.
fn same_data<'a>(view: &View<'a>, a: &'a NodeId, b: &'a NodeId) -> bool {
    let [a, b] = [a, b].map(|dataset| view.parts(dataset));
    let overlap = |a: &NodeId, b: &NodeId| {
        let both = view.facts(a).reads.as_ref().zip(view.facts(b).reads.as_ref());
        a == b || both.is_some_and(|(a, b)| a.overlaps(b))
    };
    a.iter().any(|a| b.iter().any(|b| overlap(a, b)))
}

/// Every evaluation of a model sees what it was trained on.
pub(super) fn of_training_data(view: &View<'_>, found: &mut Findings) {
    let all = with_trainings(view);
    let seen = |(evaluation, trainings): &(Engine<'_>, Vec<Engine<'_>>)| {
        let dataset = evaluation.dataset?;
        let train = trainings.iter().filter_map(|training| training.dataset);
        train.into_iter().find(|train| same_data(view, &train.from, &dataset.from)).map(|train| train.from.clone())
    };
    // One that sees something else makes those on training data a comparison.
    let honest: Vec<&NodeId> =
        all.iter().filter(|one| seen(one).is_none()).filter_map(|(engine, _)| Some(&engine.model?.from)).collect();
    for one in &all {
        let (Some(train), Some(model), Some(dataset)) = (seen(one), one.0.model, one.0.dataset) else { continue };
        if honest.iter().any(|other| view.related(other, &model.from)) {
            continue;
        }
        let message = if train == dataset.from {
            format!("`{}` evaluates on `{train}`, on which the model is trained", one.0.id)
        } else {
            format!("`{}` evaluates on `{}`, which has samples of `{train}`", one.0.id, dataset.from)
        };
        let help = "evaluate on data that the model has not seen";
        let at = if train == dataset.from { dataset.location.clone() } else { view.place(&dataset.from, &[]) };
        found.add(at, message, help);
    }
}

/// Images of an evaluation are among those of the training, though the options of the datasets do not say so.
pub(super) fn shared_images(view: &View<'_>, found: &mut Findings) {
    let Some(data) = view.data else { return };
    let mut told = BTreeSet::new();
    for (evaluation, trainings) in with_trainings(view) {
        let Some(val) = evaluation.dataset.map(|edge| &edge.from) else { continue };
        for train in trainings.iter().filter_map(|training| Some(&training.dataset?.from)) {
            let both = data.datasets.get(train).zip(data.datasets.get(val));
            let Some((trained, seen)) = both.filter(|_| !same_data(view, train, val)) else { continue };
            let known: HashSet<&PathBuf> = trained.files.iter().collect();
            let shared: Vec<&PathBuf> = seen.files.iter().filter(|file| known.contains(file)).collect();
            let Some(first) = shared.first().filter(|_| told.insert((train, val))) else { continue };
            let message = format!(
                "{} of the {} images of `{val}` are also in `{train}`, on which the model is trained, such as {}",
                shared.len(),
                seen.samples,
                first.file_name().unwrap_or_default().to_string_lossy()
            );
            found.add(view.place(val, &[]), message, "evaluate on images that the model has not seen");
        }
    }
}

/// Loaders of evaluations, each once, with the engine.
fn loaders<'a>(view: &View<'a>, role: Role) -> Vec<(&'a NodeId, Engine<'a>)> {
    let mut seen = BTreeSet::new();
    let engines = view.engines(role).into_iter().filter_map(|engine| Some((&engine.loader?.from, engine)));
    engines.filter(|(loader, _)| seen.insert(*loader)).collect()
}

/// Training data in the order of the dataset.
pub(super) fn unshuffled(view: &View<'_>, found: &mut Findings) {
    for (loader, engine) in loaders(view, Role::Trains) {
        if view.facts(loader).batches.is_some_and(|batches| !batches.shuffle) {
            let message = format!("`{}` trains on `{loader}`, which does not shuffle", engine.id);
            found.add(view.at(loader, "shuffle"), message, "set `shuffle = true`");
        }
    }
}

/// Evaluation data in another order each time.
pub(super) fn shuffled(view: &View<'_>, found: &mut Findings) {
    let trained: BTreeSet<&NodeId> = loaders(view, Role::Trains).into_iter().map(|(loader, _)| loader).collect();
    for (loader, engine) in loaders(view, Role::Evaluates).into_iter().filter(|(loader, _)| !trained.contains(loader)) {
        let node = view.nodes.get(engine.id);
        let cut = node.is_some_and(|node| node.config.get("max_iterations").is_some());
        if view.facts(loader).batches.is_some_and(|batches| batches.shuffle && !batches.limited) && !cut {
            let message = format!("`{}` evaluates on `{loader}`, which shuffles for nothing", engine.id);
            found.add(view.at(loader, "shuffle"), message, "remove `shuffle`");
        }
    }
}

/// Chance in the transforms of an evaluation.
pub(super) fn augmented(view: &View<'_>, found: &mut Findings) {
    for (loader, engine) in loaders(view, Role::Evaluates) {
        if let Some(step) = view.steps(loader).into_iter().find(|step| step.facts.random) {
            let message = format!("`{}` evaluates on images that this changes at random", engine.id);
            found.add(step.location, message, format!("give `{loader}` a transform without chance"));
        }
    }
}

/// Samples that an evaluation does not see.
pub(super) fn incomplete(view: &View<'_>, found: &mut Findings) {
    for (loader, engine) in loaders(view, Role::Evaluates) {
        let dataset = engine.dataset.map(|edge| &edge.from);
        let parts = dataset.map(|dataset| view.parts(dataset)).unwrap_or_default();
        for node in [loader].into_iter().chain(parts) {
            for (option, what) in view.facts(node).leaves_out.iter().filter(|(option, _)| view.is_known(node, option)) {
                let message = format!("`{}` does not evaluate {what}", engine.id);
                let help = format!("an evaluation counts every sample: remove `{option}`");
                found.add(view.at(node, option), message, help);
            }
        }
    }
}

/// A metric that compares with another dataset than the engine reads.
pub(super) fn of_other_data(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Evaluates) {
        let Some(read) = engine.dataset.map(|edge| &edge.from) else { continue };
        for metric in view.ports_of(engine.id, Kind::Metric).filter(|edge| view.facts(&edge.from).truth) {
            for truth in view.ports_of(&metric.from, Kind::Dataset) {
                let (a, b) = (&view.facts(&truth.from).reads, &view.facts(read).reads);
                if truth.from != *read && a.as_ref().zip(b.as_ref()).is_some_and(|(a, b)| a != b) {
                    let message = format!(
                        "`{}` compares with `{}`, but `{}` evaluates on `{read}`",
                        metric.from, truth.from, engine.id
                    );
                    let help = format!("set it to `{read}`");
                    found.add(truth.location.clone(), message, help);
                }
            }
        }
    }
}

/// The only evaluation of a model comes before its training.
pub(super) fn too_early(view: &View<'_>, found: &mut Findings) {
    let roots = usage::roots(view.nodes, view.events);
    let position = |id: &NodeId| roots.iter().position(|root| root == id);
    let all = with_trainings(view);
    for (evaluation, trainings) in &all {
        let (Some(own), Some(model)) = (position(evaluation.id), evaluation.model) else { continue };
        if view.with_inner(&model.from).iter().any(|inner| view.facts(inner).weights.is_some()) {
            continue;
        }
        let first = trainings.iter().filter_map(|training| position(training.id)).min();
        let others = all.iter().filter(|(other, _)| other.id != evaluation.id);
        let other = others.filter_map(|(other, _)| other.model).any(|other| view.related(&other.from, &model.from));
        if first.is_some_and(|first| own < first) && trainings.iter().all(|one| position(one.id).is_some()) && !other {
            let node = view.place(evaluation.id, &[]);
            let message =
                format!("`{}` runs before `{}`, so it evaluates untrained weights", evaluation.id, trainings[0].id);
            let help = format!(
                "engines that no event runs follow each other as they are written: move it down, or run it on \
                 `{}:epoch_completed`",
                trainings[0].id
            );
            found.add(node, message, help);
        }
    }
}
