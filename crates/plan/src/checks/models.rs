//! Models that are evaluated: averages, and such that nothing trains.

use super::rule::Findings;
use super::view::View;
use pipe_vocab::Kind;
use pipe_vocab::facts::Role;

/// An average of weights that is made but never evaluated.
pub(super) fn average_not_evaluated(view: &View<'_>, found: &mut Findings) {
    let evaluated: Vec<_> = view.engines(Role::Evaluates).into_iter().filter_map(|engine| engine.model).collect();
    for (average, _) in view.of_kind(Kind::Model).filter(|(_, facts)| facts.averages) {
        let inner = view.with_inner(average);
        let plain = evaluated.iter().find(|edge| edge.from != *average && inner.contains(&&edge.from));
        if let Some(plain) = plain.filter(|_| !evaluated.iter().any(|edge| edge.from == *average)) {
            let message = format!("`{}` evaluates `{}`, but not its average `{average}`", plain.to, plain.from);
            found.add(plain.location.clone(), message, format!("evaluate the average: model = \"{average}\""));
        }
    }
}

/// An average of weights that is evaluated but stays as it began.
pub(super) fn average_not_updated(view: &View<'_>, found: &mut Findings) {
    for edge in view.engines(Role::Evaluates).into_iter().filter_map(|engine| engine.model) {
        let updates = |handler: &&crate::edges::DataEdge| {
            let facts = view.facts(&handler.to);
            handler.from == edge.from && (facts.averages || facts.unknown) && view.is_run(&handler.to)
        };
        let updated = view.ports.iter().filter(|port| port.to.kind == Kind::Handler).any(|port| updates(&port));
        let trained = view.engines(Role::Trains).into_iter().filter_map(|engine| engine.model);
        let trained = trained.into_iter().any(|model| view.related(&model.from, &edge.from));
        if view.facts(&edge.from).averages && trained && !updated {
            let message = format!(
                "nothing updates the average `{}`, so `{}` evaluates weights as they began",
                edge.from, edge.to
            );
            let help = "add a `handler.ema` with this model, and run it on `iteration_completed`";
            found.add(edge.location.clone(), message, help);
        }
    }
}

/// A model that is evaluated while another one is trained.
pub(super) fn untrained(view: &View<'_>, found: &mut Findings) {
    let trainings = view.engines(Role::Trains);
    for edge in view.engines(Role::Evaluates).into_iter().filter_map(|engine| engine.model) {
        let models = view.with_inner(&edge.from);
        let fixed = models.iter().any(|model| view.facts(model).weights.is_some() || view.facts(model).unknown);
        let trained = trainings.iter().filter_map(|engine| engine.model);
        let Some(other) = trainings.first().and_then(|engine| engine.model) else { continue };
        if !fixed && !trained.into_iter().any(|model| view.related(&model.from, &edge.from)) {
            let message =
                format!("`{}` evaluates `{}`, which nothing trains and which has no weights", edge.to, edge.from);
            let help = format!("did you mean the model that `{}` trains, `{}`?", other.to, other.from);
            found.add(edge.location.clone(), message, help);
        }
    }
}
