//! Where a loader stands in an epoch, and how an epoch goes on that another loader began: one of another batch size, say.

use pipe_data::order::{Entry, Order, Used};
use serde::{Deserialize, Serialize};

use super::sampler::Sampler;

/// What decides which samples share a batch.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub batch_size: usize,
    pub drop_last: bool,
    pub limit_batches: Option<usize>,
    pub group_by_aspect_ratio: Option<usize>,
    /// Older checkpoints know none.
    #[serde(default)]
    pub sampler: Option<Sampler>,
}

/// The loader's position in an epoch. Batches in which no sample could be loaded are not returned, so the number of returned
/// batches alone would not determine it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    pub epoch: usize,
    /// Batches returned in this epoch.
    pub handed_out: usize,
    /// Batches that were not, among those of this rule.
    pub empty: usize,
    /// As `empty`, before the batch that was returned last.
    pub empty_before: usize,
    pub rule: Rule,
    /// What batches of other rules used of the epoch before.
    pub used: Used,
    /// How many of those were returned.
    pub handed_out_before: usize,
}

impl Position {
    /// The position at the beginning of an epoch, or at a later batch of it that nothing else is known of.
    pub fn at(epoch: usize, first_batch: usize, rule: Rule) -> Position {
        Position { epoch, handed_out: first_batch, rule, ..Position::default() }
    }

    /// The number among those of this rule of the batch that was returned last, if there is one.
    pub fn last(&self) -> Option<usize> {
        Some(self.handed_out.checked_sub(self.handed_out_before + 1)? + self.empty_before)
    }

    /// The next batch's number among those of this rule.
    pub fn next(&self) -> usize {
        self.handed_out - self.handed_out_before + self.empty
    }

    /// The position of a loader of another rule in the same epoch. `order` is that of this one's rule.
    pub fn under(&self, rule: Rule, order: &Order, seed: u64) -> Position {
        let batches: Vec<Vec<Entry>> = order.batches(seed, self.epoch as u64, &self.used);
        let used = self.used.and(&batches[..self.next().min(batches.len())], self.next());
        Position { used, handed_out_before: self.handed_out, ..Position::at(self.epoch, self.handed_out, rule) }
    }
}
