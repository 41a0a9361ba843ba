//! How batches are made.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use pipe_core::{Dataset, Transform};
use pipe_data::order::Entry;
use pipe_data::pool::Stop;
use pipe_data::random::{Purpose, stream};
use pipe_data::upload::pinned;
use pipe_data::{Batch, Sample, collate};
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

/// What workers need to make a batch.
pub(super) struct Source {
    pub dataset: Arc<dyn Dataset>,
    pub dataset_name: String,
    pub transform: Option<Arc<dyn Transform>>,
    pub seed: u64,
    pub on_error: OnError,
    /// Whether batches are put into pinned memory.
    pub pin: bool,
}

/// A batch in preparation, with what was skipped. No batch when none of its samples could be loaded.
pub(super) struct Made {
    pub batch: Option<Batch>,
    pub skipped: Vec<String>,
}

impl Source {
    pub(super) fn sample(&self, epoch: u64, entry: Entry) -> Result<Sample> {
        let index = entry.index;
        guarded(|| {
            let sample = self.dataset.get(index)?;
            let Some(transform) = &self.transform else { return Ok(sample) };
            let source = sample.source().to_owned();
            // A sample that is used again is augmented anew.
            let key = index as u64 | (entry.repetition as u64) << 40;
            let mut rng = stream(self.seed, Purpose::Sample, epoch, key);
            guarded(|| transform.apply(sample, &mut rng)).with_context(|| format!("transforming {source}"))
        })
        .with_context(|| format!("sample {index} of {}", self.dataset_name))
    }

    pub(super) fn make(&self, epoch: u64, number: usize, entries: &[Entry], stop: &Stop) -> Result<Made> {
        let mut samples = Vec::with_capacity(entries.len());
        let mut skipped = Vec::new();
        for entry in entries {
            if stop.asked() {
                bail!("the loader was stopped");
            }
            match self.sample(epoch, *entry) {
                Ok(sample) => samples.push(sample),
                Err(error) if self.on_error == OnError::Skip => skipped.push(format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
        if samples.is_empty() {
            return Ok(Made { batch: None, skipped });
        }
        if let Some(transform) = &self.transform {
            let mut rng = stream(self.seed, Purpose::Batch, epoch, number as u64);
            samples = transform.apply_batch(samples, &mut rng).context("transforming a batch")?;
        }
        let batch = collate(samples)?;
        let batch = if self.pin { pinned(&batch)? } else { batch };
        Ok(Made { batch: Some(batch), skipped })
    }
}

impl Source {
    /// A batch made in this thread.
    pub(super) fn make_here(&self, epoch: u64, number: usize, entries: &[Entry]) -> Result<Made> {
        // As in a worker: for single images libtorch's threads cost more than they gain.
        let threads = tch::get_num_threads();
        tch::set_num_threads(1);
        let made = guarded(|| self.make(epoch, number, entries, &Stop::default()));
        tch::set_num_threads(threads);
        made
    }
}
