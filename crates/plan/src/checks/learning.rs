//! Optimizers and what is saved of their work.

use super::rule::Findings;
use super::view::View;
use pipe_vocab::Kind;
use pipe_vocab::facts::Role;

/// The least learning rate that is too large for an adaptive rule: each weight moves by so much at every step.
const LARGE_FOR_ADAPTIVE: f64 = 0.1;

/// The least that is too large for any other: recipes with batches of thousands of images use up to 10.
const LARGE: f64 = 20.0;

/// A learning rate with which nothing is learned.
pub(super) fn rate(view: &View<'_>, found: &mut Findings) {
    for (id, facts) in view.of_kind(Kind::Optimizer) {
        let large = |adaptive| if adaptive { LARGE_FOR_ADAPTIVE } else { LARGE };
        let Some(rule) = facts.rule.filter(|rule| rule.lr >= large(rule.adaptive)) else { continue };
        let driven = view.ports.iter().filter(|edge| edge.from == *id && edge.to.kind == Kind::Scheduler);
        // A scheduler may set a rate of its own, or say nothing of what it does.
        let replaced = driven.into_iter().any(|edge| {
            let facts = view.facts(&edge.to);
            facts.schedule.as_ref().is_none_or(|schedule| schedule.absolute)
        });
        if !replaced && view.is_known(id, "lr") {
            let (message, help) = if rule.adaptive {
                let message = format!("a learning rate of {} moves each weight by about {0} at every step", rule.lr);
                (message, "0.001 is usual for such an optimizer")
            } else {
                (format!("with a learning rate of {} the weights run away", rule.lr), "0.01 to 0.1 are usual")
            };
            found.add(view.at(id, "lr"), message, help);
        }
    }
}

/// Weight decay as a part of an adaptive gradient.
pub(super) fn weight_decay(view: &View<'_>, found: &mut Findings) {
    for (id, facts) in view.of_kind(Kind::Optimizer) {
        if facts.rule.is_some_and(|rule| rule.coupled_decay) && view.is_known(id, "weight_decay") {
            let message = format!(
                "the weight decay of `{id}` is scaled by each gradient's size, which weakens it where it matters"
            );
            found.add(
                view.at(id, "weight_decay"),
                message,
                "use `type = \"adamw\"`, which decays weights by themselves",
            );
        }
    }
}

/// A training that nothing saves.
pub(super) fn unsaved(view: &View<'_>, found: &mut Findings) {
    let saves = view.of_kind(Kind::Handler).any(|(id, facts)| (facts.saves || facts.unknown) && view.is_run(id));
    for engine in view.engines(Role::Trains).into_iter().filter(|_| !saves) {
        let message = format!("nothing saves what `{}` trains: its weights are lost when the run ends", engine.id);
        let help = "add a `handler.checkpoint`, and run it on `epoch_completed`";
        found.add(view.place(engine.id, &[]), message, help);
    }
}

/// An optimizer of another model than the engine trains.
pub(super) fn of_another_model(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Trains) {
        let Some(model) = engine.model else { continue };
        for optimizer in view.ports_of(engine.id, Kind::Optimizer) {
            let own: Vec<_> = view.ports_of(&optimizer.from, Kind::Model).collect();
            let Some(other) = own.first().filter(|_| !own.iter().any(|own| view.related(&own.from, &model.from)))
            else {
                continue;
            };
            let message = format!(
                "`{}` trains `{}`, but `{}` changes the weights of `{}`: nothing is learned",
                engine.id, model.from, optimizer.from, other.from
            );
            let help = format!("give it an optimizer of `{}`", model.from);
            found
                .add(optimizer.location.clone(), message, help)
                .labels
                .push((other.location.clone(), "this model".into()));
        }
    }
}

/// Batch statistics of a single sample.
pub(super) fn batch_norm(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Trains) {
        let (Some(model), Some(loader)) = (engine.model, engine.loader.map(|edge| &edge.from)) else { continue };
        let normalized = view.with_inner(&model.from).into_iter().find(|model| view.facts(model).batch_norm);
        let single = view.facts(loader).batches.is_some_and(|batches| batches.size == 1);
        if let Some(model) = normalized.filter(|_| single && view.is_known(loader, "batch_size")) {
            let message = format!("`{model}` has batch norm, whose statistics would be those of one image");
            let help = "use a batch size of 2 or more; `accumulate` does not help here";
            found.add(view.at(loader, "batch_size"), message, help);
        }
    }
}
