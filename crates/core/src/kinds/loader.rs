//! Loaders: batches out of a dataset and a transform.

use anyhow::Result;
use pipe_data::Batch;
use pipe_plugin::Stateful;

/// A source of batches, epoch by epoch. Which samples an epoch holds, in which order and with which random numbers,
/// depends on the seed and the epoch alone, so a run can be resumed at any batch.
pub trait Loader: Stateful {
    /// Number of batches in an epoch, when it is known.
    fn epoch_length(&self) -> Option<usize>;

    /// Starts a pass over the data (an epoch, counted from 0) at batch `first_batch`: of the pass it is in, that may be the batch
    /// it would give next, or the one before.
    ///
    /// # Errors
    /// When the data cannot be opened.
    fn start_epoch(&mut self, epoch: usize, first_batch: usize) -> Result<()>;

    /// The next batch on the CPU, or `None` at the end of the epoch.
    ///
    /// # Errors
    /// When a sample cannot be read or changed.
    fn next_batch(&mut self) -> Result<Option<Batch>>;
}
