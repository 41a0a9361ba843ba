//! How batches are made of samples.

use std::sync::Arc;

use anyhow::{Context, Result};
use pipe_core::{Among, Dataset, Transform};
use pipe_data::order::Entry;
use pipe_data::pool::Work;
use pipe_data::random::{Purpose, stream};
use pipe_data::upload::pinned;
use pipe_data::{Batch, Prepared, Sample, SampleRng, collate, join, prepare};
use pipe_native::fault::guarded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to do when a sample cannot be loaded or transformed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop the run with an error that names the sample.
    #[default]
    Raise,
    /// Skip the sample; the log lists the skipped samples once per epoch.
    Skip,
}

/// What samples and batches are made with.
pub(super) struct Source {
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) dataset_name: String,
    pub(super) transform: Option<Arc<dyn Transform>>,
    pub(super) transform_name: String,
    pub(super) seed: u64,
    pub(super) on_error: OnError,
    /// Whether batches are put into pinned memory.
    pub(super) pin: bool,
}

/// A sample on its way into a batch: as tensors, unless a transform of whole batches comes first.
pub(super) enum Part {
    Sample(Sample),
    Prepared(Prepared),
}

/// A batch, with what was skipped. No batch when none of its samples could be loaded.
pub(super) struct Made {
    pub(super) batch: Option<Batch>,
    pub(super) skipped: Vec<String>,
}

impl Source {
    fn part(&self, epoch: u64, entry: Entry) -> Result<Part> {
        let sample = self.sample(epoch, entry)?;
        Ok(match self.on_batches() {
            true => Part::Sample(sample),
            false => Part::Prepared(prepare(&sample)?),
        })
    }

    /// Whether the transform acts on whole batches.
    fn on_batches(&self) -> bool {
        self.transform.as_ref().is_some_and(|transform| transform.on_batches())
    }

    fn sample(&self, epoch: u64, entry: Entry) -> Result<Sample> {
        let index = entry.index;
        guarded(|| {
            let sample = self.dataset.get(index)?;
            let Some(transform) = &self.transform else { return Ok(sample) };
            let source = sample.source().to_owned();
            let mut rng = self.generator(epoch, entry);
            let among = Among { dataset: &*self.dataset, epoch };
            guarded(|| transform.apply_among(sample, among, &mut rng)).with_context(|| format!("transforming {source}"))
        })
        .with_context(|| format!("sample {index} of {}", self.dataset_name))
    }

    /// What a sample is augmented by.
    pub(super) fn generator(&self, epoch: u64, entry: Entry) -> SampleRng {
        // A sample that is used again is augmented anew.
        let key = entry.index as u64 | (entry.repetition as u64) << 40;
        stream(self.seed, Purpose::Sample, epoch, key)
    }

    /// The batch `number` of an epoch.
    fn batch(&self, epoch: u64, number: u64, made: Vec<Result<Part>>) -> Result<Made> {
        let (mut samples, mut prepared) = (Vec::new(), Vec::new());
        let mut skipped = Vec::new();
        for sample in made {
            match sample {
                Ok(Part::Sample(sample)) => samples.push(sample),
                Ok(Part::Prepared(sample)) => prepared.push(sample),
                Err(error) if self.on_error == OnError::Skip => skipped.push(format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
        if samples.is_empty() && prepared.is_empty() {
            return Ok(Made { batch: None, skipped });
        }
        let batch = match &self.transform {
            Some(transform) if self.on_batches() => {
                let mut rng = stream(self.seed, Purpose::Batch, epoch, number);
                collate(transform.apply_batch(samples, &mut rng).context("transforming a batch")?)?
            }
            _ => join(&prepared)?,
        };
        let batch = if self.pin { pinned(&batch)? } else { batch };
        Ok(Made { batch: Some(batch), skipped })
    }

    /// A batch made in this thread.
    pub(super) fn make(&self, epoch: u64, number: u64, entries: &[Entry]) -> Result<Made> {
        guarded(|| {
            let samples = entries.iter().map(|entry| self.part(epoch, *entry)).collect();
            self.batch(epoch, number, samples)
        })
    }

    /// As [`Source::make`], in the training thread.
    pub(super) fn make_here(&self, epoch: u64, number: u64, entries: &[Entry]) -> Result<Made> {
        // As in a worker: for single images libtorch's threads cost more than they gain.
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let made = self.make(epoch, number, entries);
        tch::set_num_threads(threads);
        made
    }
}

/// The batches of an epoch.
pub(super) struct Batches {
    pub(super) source: Arc<Source>,
    pub(super) epoch: u64,
    /// Batches of the epoch that were made under another rule.
    pub(super) before: usize,
    pub(super) batches: Vec<Vec<Entry>>,
}

impl Work for Batches {
    type Part = Part;
    type Whole = Made;

    fn parts(&self, number: usize) -> usize {
        self.batches[number].len()
    }

    fn part(&self, number: usize, index: usize) -> Result<Part> {
        self.source.part(self.epoch, self.batches[number][index])
    }

    fn whole(&self, number: usize, parts: Vec<Result<Part>>) -> Result<Made> {
        self.source.batch(self.epoch, (self.before + number) as u64, parts)
    }
}
