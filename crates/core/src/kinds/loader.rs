//! Loaders: batches out of a dataset and a transform.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use pipe_data::{Batch, Extent, Sample};
use pipe_plugin::Stateful;

/// The batches of a loader before they are read.
pub trait Outlook: Send + Sync {
    /// Samples of a pass.
    fn samples(&self) -> usize;

    /// Whether every pass over the data has the same batches.
    fn repeats(&self) -> bool;

    /// Threads that make batches; 0 where the training thread makes them.
    fn workers(&self) -> usize;

    /// For each batch of a pass, the most that its samples can be. Nothing of them where the dataset does not know their sizes.
    fn batches(&self, pass: usize) -> Vec<Vec<Extent>>;

    /// A batch of a pass, on the CPU; `None` where none of its samples can be read.
    ///
    /// # Errors
    /// When a sample cannot be read or changed.
    fn make(&self, pass: usize, number: usize) -> Result<Option<Batch>>;
}

/// Which batch of a loader is shown on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The one that was given last.
    Last,
    /// One of a pass over the data.
    Of {
        /// The pass, counted from 0.
        pass: usize,
        /// The batch, counted from 0.
        number: usize,
    },
}

/// A sample on its way into a batch.
pub struct Stage<'a> {
    /// Its place in the batch.
    pub place: usize,
    /// What it came out of: the dataset, or a step of the transform.
    pub after: &'a str,
    /// The sample as it then was.
    pub sample: &'a Sample,
}

/// A source of batches, epoch by epoch. Which samples an epoch holds, in which order and with which random numbers,
/// depends on the seed and the epoch alone, so a run can be resumed at any batch.
pub trait Loader: Stateful {
    /// Number of batches in an epoch, when it is known.
    fn epoch_length(&self) -> Option<usize>;

    /// Starts a pass over the data (an epoch, counted from 0) at batch `first_batch`.
    ///
    /// # Errors
    /// When the data cannot be opened.
    fn start_epoch(&mut self, epoch: usize, first_batch: usize) -> Result<()>;

    /// From the next [`Loader::start_epoch`] on each batch is this rank's part of it, which may be empty: `rank` of `size`.
    ///
    /// # Errors
    /// When the loader has no parts to give.
    fn take_part(&mut self, _rank: usize, size: usize) -> Result<()> {
        ensure!(size == 1, "this loader cannot share its batches among {size} ranks");
        Ok(())
    }

    /// How many samples the part that was given last was to have, and the whole batch; nothing where it gives no parts.
    fn share(&self) -> Option<(usize, usize)> {
        None
    }

    /// The batch that was given last, made once more: a run goes on inside the iteration that had it. Called before the first
    /// [`Loader::start_epoch`] after the state was loaded.
    ///
    /// # Errors
    /// As of [`Loader::next_batch`], and when there was none.
    fn last_batch(&mut self) -> Result<Batch>;

    /// Waits until [`Loader::next_batch`] has something to give, but not longer than that; `false` where it has not yet.
    fn wait(&mut self, _longest: Duration) -> bool {
        true
    }

    /// What is known of its batches before they are read, with another batch size where one is given; `None` for a loader that knows
    /// nothing of them.
    fn outlook(&self, _batch_size: Option<usize>) -> Option<Box<dyn Outlook>> {
        None
    }

    /// Makes a batch once more, and shows each of its samples as the dataset gave it and after every step of the transform: sample by
    /// sample, then what happens to all together.
    ///
    /// # Errors
    /// When there is no such batch, a sample cannot be made, or a loader does not show them.
    fn trace(&mut self, _which: Which, _see: &mut dyn FnMut(Stage<'_>)) -> Result<()> {
        bail!("this loader does not show how its batches come about")
    }

    /// The batch that [`Loader::next_batch`] gives next, if it is ready; nothing is handed out.
    fn peek(&mut self) -> Option<&Batch> {
        None
    }

    /// The next batch on the CPU, or `None` at the end of the epoch.
    ///
    /// # Errors
    /// When a sample cannot be read or changed.
    fn next_batch(&mut self) -> Result<Option<Batch>>;
}
