//! The batches of epochs to come, before they are read.

use std::sync::Arc;

use anyhow::Result;
use pipe_core::Outlook;
use pipe_data::order::{Order, Used};
use pipe_data::{Batch, Extent};

use super::source::Source;

/// See [`Outlook`].
pub(super) struct Ahead {
    source: Arc<Source>,
    order: Order,
    workers: usize,
    /// The most that each sample can be, after its transforms.
    extents: Vec<Extent>,
}

impl Ahead {
    /// The batches of an order.
    pub(super) fn new(source: Arc<Source>, order: Order, workers: usize) -> Ahead {
        // Where a size is unknown, so are those that follow from it: but not those that a transform sets.
        let unknown = Extent { height: 0, width: 0, objects: 0 };
        let extents = (0..source.dataset.len()).map(|index| source.dataset.extent(index).unwrap_or(unknown));
        let mut extents: Vec<Extent> = extents.collect();
        if let Some(transform) = &source.transform {
            let most = extents.iter().copied().reduce(Extent::or).unwrap_or(unknown);
            extents.iter_mut().for_each(|extent| *extent = transform.largest_among(*extent, most));
        }
        Ahead { source, order, workers, extents }
    }
}

impl Outlook for Ahead {
    fn samples(&self) -> usize {
        self.order.samples
    }

    fn repeats(&self) -> bool {
        !self.order.shuffle && self.order.sampling.is_none()
    }

    fn workers(&self) -> usize {
        self.workers
    }

    fn batches(&self, pass: usize) -> Vec<Vec<Extent>> {
        let batches = self.order.batches(self.source.seed, pass as u64, &Used::default());
        batches.iter().map(|batch| batch.iter().map(|entry| self.extents[entry.index]).collect()).collect()
    }

    fn make(&self, pass: usize, number: usize) -> Result<Option<Batch>> {
        let batches = self.order.batches(self.source.seed, pass as u64, &Used::default());
        let Some(entries) = batches.get(number) else { return Ok(None) };
        Ok(self.source.make(pass as u64, number as u64, entries)?.batch)
    }
}
