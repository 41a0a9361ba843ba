//! Batches against the number of samples.

use super::rule::Findings;
use super::view::View;
use pipe_vocab::facts::Role;

/// Samples that are left out of every epoch, at least so many of four.
const MANY: u64 = 4;

/// Trainings: the loader, its batches, the number of samples.
fn trainings<'v>(
    view: &'v View<'_>,
) -> impl Iterator<Item = (&'v pipe_vocab::NodeId, pipe_vocab::facts::Batches, u64)> {
    let engines = view.engines(Role::Trains);
    engines.into_iter().filter_map(|engine| {
        let (loader, dataset) = (&engine.loader?.from, &engine.dataset?.from);
        let samples = view.data?.datasets.get(dataset)?.samples;
        let batches = view.facts(loader).batches.filter(|_| view.is_known(loader, "batch_size"))?;
        Some((loader, batches, samples))
    })
}

/// Fewer samples than one batch has.
pub(super) fn larger_than_dataset(view: &View<'_>, found: &mut Findings) {
    for (loader, batches, samples) in trainings(view).filter(|(_, batches, samples)| batches.size > *samples) {
        let message = format!("a batch of `{loader}` has {} samples, but the dataset has only {samples}", batches.size);
        found.add(view.at(loader, "batch_size"), message, "lower `batch_size`: an epoch is one step as it is");
    }
}

/// Many samples in no batch.
pub(super) fn left_out(view: &View<'_>, found: &mut Findings) {
    for (loader, batches, samples) in
        trainings(view).filter(|(_, batches, _)| !batches.incomplete_last && !batches.limited)
    {
        let rest = samples % batches.size;
        if rest * MANY > samples {
            let message =
                format!("each epoch leaves out {rest} of {samples} samples, which fill no batch of {}", batches.size);
            found.add(view.at(loader, "batch_size"), message, "lower `batch_size`, or keep the last batch");
        }
    }
}

/// An epoch that ends before the first step is due.
pub(super) fn accumulated(view: &View<'_>, found: &mut Findings) {
    for engine in view.engines(Role::Trains) {
        let Some((batches, option)) = view.facts(engine.id).accumulates else { continue };
        let length = view.data.and_then(|data| data.batches.get(&engine.loader?.from));
        let length = view.number(engine.id, "epoch_length").or(length.copied());
        if let Some(length) = length.filter(|length| batches > *length && view.is_known(engine.id, option)) {
            let message =
                format!("a step of {batches} batches is never full: an epoch of `{}` has {length}", engine.id);
            found.add(
                view.at(engine.id, option),
                message,
                format!("at most {length}; gradients do not cross an epoch's end"),
            );
        }
    }
}
