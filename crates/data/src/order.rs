//! The order of an epoch: which samples make which batch.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::random::{Purpose, stream};

/// How samples are put together to batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Number of samples.
    pub samples: usize,
    /// Samples a batch.
    pub batch_size: usize,
    /// Whether each epoch has its own order.
    pub shuffle: bool,
    /// Whether a last batch that is not full is skipped.
    pub drop_last: bool,
    /// At most this many batches.
    pub limit: Option<usize>,
    /// The group of each sample, when only samples of one group may share a batch.
    pub groups: Option<Vec<usize>>,
}

impl Order {
    /// Number of batches in every epoch.
    pub fn epoch_length(&self) -> usize {
        // Grouped batches are always full, so their number is that of the full batches.
        let whole = self.samples / self.batch_size;
        let part = !self.samples.is_multiple_of(self.batch_size) && !self.drop_last && self.groups.is_none();
        let batches = whole + usize::from(part);
        self.limit.map_or(batches, |limit| limit.min(batches))
    }

    /// The batches of an epoch as lists of samples. Depends on `seed` and `epoch` alone.
    pub fn batches(&self, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
        let mut indices: Vec<usize> = (0..self.samples).collect();
        if self.shuffle {
            indices.shuffle(&mut stream(seed, Purpose::Shuffle, epoch, 0));
        }
        let mut batches: Vec<Vec<usize>> = match &self.groups {
            Some(groups) => grouped(&indices, groups, self.batch_size),
            None => indices.chunks(self.batch_size).map(<[usize]>::to_vec).collect(),
        };
        batches.truncate(self.epoch_length());
        batches
    }
}

/// Full batches of one group each, in the order in which they fill up.
///
/// Samples left over make batches too, the groups with most of them first, filled with earlier samples of the same group,
/// until there are as many batches as without groups: the rule of torchvision's `GroupedBatchSampler`.
fn grouped(indices: &[usize], groups: &[usize], batch_size: usize) -> Vec<Vec<usize>> {
    let mut open: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut seen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut batches = Vec::with_capacity(indices.len() / batch_size);
    // Groups in the order in which their open batches began, for ties below.
    let mut begun: Vec<usize> = Vec::new();
    for &index in indices {
        let group = groups[index];
        seen.entry(group).or_default().push(index);
        let batch = open.entry(group).or_default();
        if batch.is_empty() {
            begun.push(group);
        }
        batch.push(index);
        if batch.len() == batch_size {
            batches.push(std::mem::take(batch));
            begun.retain(|&g| g != group);
        }
    }
    let missing = indices.len() / batch_size - batches.len();
    begun.sort_by_key(|group| std::cmp::Reverse(open[group].len()));
    for group in begun.into_iter().take(missing) {
        let mut batch = open.remove(&group).unwrap_or_default();
        let fill = batch_size - batch.len();
        batch.extend(seen[&group].iter().cycle().take(fill));
        batches.push(batch);
    }
    batches
}

/// The group of an image by its shape (width / height): `2 * bins` borders evenly spaced in logarithm between 1/2 and 2, and
/// one at 1, as in torchvision's detection references (`create_aspect_ratio_groups` with `k = bins`).
pub fn aspect_ratio_group(ratio: f32, bins: usize) -> usize {
    if bins == 0 {
        return usize::from(ratio >= 1.0);
    }
    let steps = 2 * bins;
    // f32 like torch.linspace, so that images exactly on a border fall to the same side.
    (0..=steps).filter(|&i| (-1.0f32 + 2.0 * i as f32 / steps as f32).exp2() <= ratio).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(samples: usize, batch_size: usize) -> Order {
        Order { samples, batch_size, shuffle: false, drop_last: false, limit: None, groups: None }
    }

    #[test]
    fn plain_batches_cover_everything_once() {
        let order = order(10, 4);
        assert_eq!(order.batches(0, 0), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(order.epoch_length(), 3);
        let dropped = Order { drop_last: true, ..order.clone() };
        assert_eq!(dropped.batches(0, 0).len(), 2);
        assert_eq!(dropped.epoch_length(), 2);
        let limited = Order { limit: Some(1), ..order };
        assert_eq!(limited.batches(0, 0), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn each_epoch_has_its_own_order_and_keeps_it() {
        let order = Order { shuffle: true, ..order(50, 7) };
        assert_eq!(order.batches(3, 1), order.batches(3, 1));
        assert_ne!(order.batches(3, 1), order.batches(3, 2));
        assert_ne!(order.batches(3, 1), order.batches(4, 1));
        let mut all: Vec<usize> = order.batches(3, 1).concat();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }

    /// Batches that the `GroupedBatchSampler` of torchvision's references makes of the same order and groups.
    #[test]
    fn groups_fill_up_as_in_torchvision() {
        let groups = vec![0, 0, 1, 1, 0, 0, 2, 1, 0, 2, 1];
        let order = Order { groups: Some(groups), ..order(11, 3) };
        assert_eq!(order.batches(0, 0), [vec![0, 1, 4], vec![2, 3, 7], vec![5, 8, 0]]);
        let groups = vec![0, 1, 2, 1, 0, 2, 2];
        let order = Order { groups: Some(groups), samples: 7, batch_size: 2, ..order };
        assert_eq!(order.batches(0, 0), [vec![1, 3], vec![0, 4], vec![2, 5]]);
        let order = Order { groups: Some(vec![0, 1, 2, 3]), samples: 4, batch_size: 2, ..order };
        assert_eq!(order.batches(0, 0), [vec![0, 0], vec![1, 1]]);
    }

    /// `bisect_right` over `2 ** torch.linspace(-1, 1, 7)`.
    #[test]
    fn shapes_fall_into_the_bins_of_torchvision() {
        let ratios = [0.3, 0.5, 0.6, 0.75, 0.99, 1.0, 1.2, 1.333, 1.5, 1.6, 2.0, 3.0];
        let groups: Vec<usize> = ratios.iter().map(|&ratio| aspect_ratio_group(ratio, 3)).collect();
        assert_eq!(groups, [0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 7, 7]);
        assert_eq!(aspect_ratio_group(0.99, 0), 0);
        assert_eq!(aspect_ratio_group(1.0, 0), 1);
    }
}
