//! A batch made once more, with a look at its samples after every step.

use anyhow::{Context, Result};
use pipe_core::{Among, Stage, Transform};
use pipe_data::Sample;
use pipe_data::order::Entry;
use pipe_data::random::{Purpose, stream};
use pipe_native::fault::guarded;

use super::source::{OnError, Source};

impl Source {
    /// Shows the samples of the batch `number` of an epoch, which are those of [`Source::make`].
    pub(super) fn trace(
        &self,
        (epoch, number): (u64, u64),
        entries: &[Entry],
        see: &mut dyn FnMut(Stage<'_>),
    ) -> Result<()> {
        let steps = self.steps();
        let mut samples = Vec::new();
        for entry in entries {
            let place = samples.len();
            let shown = &mut |after: &str, sample: &Sample| see(Stage { place, after, sample });
            match guarded(|| self.trace_sample(epoch, *entry, &steps, shown)) {
                Ok(sample) => samples.push(sample),
                Err(_) if self.on_error == OnError::Skip => {}
                Err(error) => return Err(error),
            }
        }
        let mut rng = stream(self.seed, Purpose::Batch, epoch, number);
        for (name, step) in steps.iter().filter(|(_, step)| step.on_batches()) {
            samples = guarded(|| step.apply_batch(samples, &mut rng)).context("transforming a batch")?;
            samples.iter().enumerate().for_each(|(place, sample)| see(Stage { place, after: name, sample }));
        }
        Ok(())
    }

    fn trace_sample(
        &self,
        epoch: u64,
        entry: Entry,
        steps: &[(&str, &dyn Transform)],
        shown: &mut dyn FnMut(&str, &Sample),
    ) -> Result<Sample> {
        let place = || format!("sample {} of {}", entry.index, self.dataset_name);
        let mut sample = self.dataset.get(entry.index).with_context(place)?;
        shown(&self.dataset_name, &sample);
        let mut rng = self.generator(epoch, entry);
        let among = Among { dataset: &*self.dataset, epoch };
        for (name, step) in steps.iter().filter(|(_, step)| step.on_samples()) {
            let source = sample.source().to_owned();
            sample = step.apply_among(sample, among, &mut rng).with_context(|| format!("transforming {source}"))?;
            shown(name, &sample);
        }
        Ok(sample)
    }

    /// The transforms that follow one another, by name.
    fn steps(&self) -> Vec<(&str, &dyn Transform)> {
        let mut steps = Vec::new();
        if let Some(transform) = &self.transform {
            flatten(&self.transform_name, &**transform, &mut steps);
        }
        steps
    }
}

fn flatten<'a>(name: &'a str, transform: &'a dyn Transform, into: &mut Vec<(&'a str, &'a dyn Transform)>) {
    match transform.steps() {
        steps if steps.is_empty() => into.push((name, transform)),
        steps => steps.into_iter().for_each(|(name, step)| flatten(name, step, into)),
    }
}
