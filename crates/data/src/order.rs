//! The order of an epoch: which samples make which batch.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use super::random::{Purpose, stream};
use super::sampling::Sampling;

/// How samples are put together to batches.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    /// Number of samples of an epoch.
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
    /// How the samples of an epoch are chosen, where not each comes once; then each epoch has its own order.
    pub sampling: Option<Sampling>,
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

    /// The samples of an epoch in its order. Depends on `seed` and `epoch` alone.
    pub fn indices(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let mut rng = stream(seed, Purpose::Shuffle, epoch, 0);
        if let Some(sampling) = &self.sampling {
            return sampling.indices(&mut rng);
        }
        let mut indices: Vec<usize> = (0..self.samples).collect();
        if self.shuffle {
            indices.shuffle(&mut rng);
        }
        indices
    }

    /// The batches of an epoch, less the places of its order that are `used` in so many batches.
    pub fn batches(&self, seed: u64, epoch: u64, used: &Used) -> Vec<Vec<Entry>> {
        let mut uses = Uses::default();
        let indices = self.indices(seed, epoch).into_iter().enumerate();
        // Only what is drawn can come twice.
        let mut repetition = |index| if self.sampling.is_some() { uses.next(index, 0) } else { 0 };
        let all: Vec<Entry> =
            indices.map(|(place, index)| Entry { place, index, repetition: repetition(index) }).collect();
        let rest: Vec<Entry> = all.into_iter().filter(|entry| !used.contains(entry.place)).collect();
        let mut batches: Vec<Vec<Entry>> = match &self.groups {
            Some(groups) => grouped(&rest, groups, self.batch_size, &mut uses),
            None => rest.chunks(self.batch_size).map(<[Entry]>::to_vec).collect(),
        };
        let left = Order { samples: rest.len(), limit: None, ..self.clone() }.epoch_length();
        let limit = self.limit.map_or(left, |limit| limit.saturating_sub(used.batches).min(left));
        batches.truncate(limit);
        batches
    }

    /// How many places of an epoch's order these batches leave out, and how often they use one again.
    pub fn left_out_and_repeated(&self, batches: &[Vec<Entry>]) -> (usize, usize) {
        let places: BTreeSet<usize> = batches.iter().flatten().map(|entry| entry.place).collect();
        (self.samples - places.len(), batches.iter().flatten().count() - places.len())
    }
}

/// How often an epoch has used its samples, those that it uses once left out.
#[derive(Default)]
struct Uses(HashMap<usize, usize>);

impl Uses {
    /// Counts one more use of a sample that, where nothing is known of it, was used so often.
    fn next(&mut self, index: usize, before: usize) -> usize {
        let uses = self.0.entry(index).or_insert(before);
        *uses += 1;
        *uses - 1
    }
}

/// A use of a sample in an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the epoch's order.
    pub place: usize,
    /// The sample.
    pub index: usize,
    /// How often the epoch has used it before: batches of one group may be filled up with earlier samples.
    pub repetition: usize,
}

/// The places of an epoch's order that batches have used, as ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// In how many batches.
    pub batches: usize,
    /// Begins and ends (exclusive), rising.
    ranges: Vec<(usize, usize)>,
}

impl Used {
    fn contains(&self, place: usize) -> bool {
        let at = self.ranges.partition_point(|(_, end)| *end <= place);
        self.ranges.get(at).is_some_and(|(start, _)| *start <= place)
    }

    /// How many places.
    pub fn count(&self) -> usize {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// With these batches, `handed_out` of which were not empty.
    pub fn and(&self, batches: &[Vec<Entry>], handed_out: usize) -> Used {
        let own = self.ranges.iter().flat_map(|(start, end)| *start..*end);
        let mut places: Vec<usize> = own.chain(batches.iter().flatten().map(|entry| entry.place)).collect();
        places.sort_unstable();
        places.dedup();
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for place in places {
            match ranges.last_mut() {
                Some((_, end)) if *end == place => *end += 1,
                _ => ranges.push((place, place + 1)),
            }
        }
        Used { batches: self.batches + handed_out, ranges }
    }
}

/// Full batches of one group each, in the order in which they fill up.
///
/// Samples left over make batches too, the groups with most of them first, filled with earlier samples of the same group,
/// until there are as many batches as without groups: the rule of torchvision's `GroupedBatchSampler`.
fn grouped(entries: &[Entry], groups: &[usize], batch_size: usize, uses: &mut Uses) -> Vec<Vec<Entry>> {
    let mut open: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
    let mut seen: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
    let mut batches = Vec::with_capacity(entries.len() / batch_size);
    // Groups in the order in which their open batches began, for ties below.
    let mut begun: Vec<usize> = Vec::new();
    for entry in entries {
        let group = groups[entry.index];
        seen.entry(group).or_default().push(*entry);
        let batch = open.entry(group).or_default();
        if batch.is_empty() {
            begun.push(group);
        }
        batch.push(*entry);
        if batch.len() == batch_size {
            batches.push(std::mem::take(batch));
            begun.retain(|&g| g != group);
        }
    }
    let missing = entries.len() / batch_size - batches.len();
    begun.sort_by_key(|group| std::cmp::Reverse(open[group].len()));
    for group in begun.into_iter().take(missing) {
        let mut batch = open.remove(&group).unwrap_or_default();
        let fill = batch_size - batch.len();
        let known = &seen[&group];
        let again = (0..fill).map(|i| known[i % known.len()]);
        let again = again.map(|entry| Entry { repetition: uses.next(entry.index, 1), ..entry });
        batch.extend(again);
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

    /// The samples of each batch of an epoch.
    fn samples(order: &Order, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
        let batches = order.batches(seed, epoch, &Used::default());
        batches.iter().map(|batch| batch.iter().map(|entry| entry.index).collect()).collect()
    }

    fn order(samples: usize, batch_size: usize) -> Order {
        Order { samples, batch_size, shuffle: false, drop_last: false, limit: None, groups: None, sampling: None }
    }

    #[test]
    fn plain_batches_cover_everything_once() {
        let order = order(10, 4);
        assert_eq!(samples(&order, 0, 0), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
        assert_eq!(order.epoch_length(), 3);
        let dropped = Order { drop_last: true, ..order.clone() };
        assert_eq!(samples(&dropped, 0, 0).len(), 2);
        assert_eq!(dropped.epoch_length(), 2);
        let limited = Order { limit: Some(1), ..order };
        assert_eq!(samples(&limited, 0, 0), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn each_epoch_has_its_own_order_and_keeps_it() {
        let order = Order { shuffle: true, ..order(50, 7) };
        assert_eq!(samples(&order, 3, 1), samples(&order, 3, 1));
        assert_ne!(samples(&order, 3, 1), samples(&order, 3, 2));
        assert_ne!(samples(&order, 3, 1), samples(&order, 4, 1));
        let mut all: Vec<usize> = samples(&order, 3, 1).concat();
        all.sort_unstable();
        assert_eq!(all, (0..50).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_drawn_twice_is_told_apart() {
        let factors = [1.0, 3.0, 2.0, 1.5, 2.5];
        let sampling = Sampling::Repeated { factors: factors.into() };
        let groups = Some(vec![0, 0, 1, 1, 1]);
        for groups in [None, groups] {
            let order = Order { sampling: Some(sampling.clone()), groups, ..order(10, 4) };
            assert_eq!(sampling.count(), order.samples);
            for epoch in 0..20 {
                let batches = order.batches(7, epoch, &Used::default());
                assert_eq!(batches.len(), order.epoch_length());
                let all: Vec<&Entry> = batches.iter().flatten().collect();
                let mut keys: Vec<(usize, usize)> = all.iter().map(|entry| (entry.index, entry.repetition)).collect();
                keys.sort_unstable();
                keys.dedup();
                assert_eq!(keys.len(), all.len(), "each use of a sample has a number of its own");
                let (left_out, repeated) = order.left_out_and_repeated(&batches);
                assert_eq!(all.len(), 10 - left_out + repeated);
                // The rest of an epoch keeps its numbers.
                let rest = order.batches(7, epoch, &Used::default().and(&batches[..1], 1));
                if order.groups.is_none() {
                    assert_eq!(rest.concat(), batches[1..].concat());
                }
            }
        }
    }

    #[test]
    fn with_another_batch_size_the_rest_of_an_epoch_is_neither_lost_nor_used_again() {
        let groups: Vec<usize> = (0..50).map(|i| usize::from(i % 3 == 0)).collect();
        for groups in [None, Some(groups)] {
            let fours = Order { shuffle: true, groups, ..order(50, 4) };
            let threes = Order { batch_size: 3, ..fours.clone() };
            let first = fours.batches(3, 1, &Used::default());
            let used = Used::default().and(&first[..5], 5);
            assert_eq!((used.count(), used.batches), (20, 5));
            let second = threes.batches(3, 1, &used);
            let again = used.and(&second[..4], 4);
            let third = fours.batches(3, 1, &again);
            let all = first[..5].iter().chain(&second[..4]).chain(&third).flatten();
            let mut places: Vec<usize> = all.filter(|entry| entry.repetition == 0).map(|entry| entry.place).collect();
            places.sort_unstable();
            assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "{places:?}");
            // Groups leave out what makes no full batch.
            assert!(places.len() == 50 || fours.groups.is_some() && places.len() >= 46, "{places:?}");
        }
    }

    #[test]
    fn what_groups_leave_out_and_repeat_is_counted() {
        let groups = vec![0, 0, 1, 1, 0, 0, 2, 1, 0, 2, 1];
        let order = Order { groups: Some(groups), ..order(11, 3) };
        let batches = order.batches(0, 0, &Used::default());
        assert_eq!(order.left_out_and_repeated(&batches), (3, 1));
        let order = Order { groups: Some(vec![0, 1, 2, 3]), samples: 4, batch_size: 2, ..order };
        let batches = order.batches(0, 0, &Used::default());
        assert_eq!(order.left_out_and_repeated(&batches), (2, 2));
        assert_eq!((batches[0][1].index, batches[0][1].repetition), (0, 1));
    }

    /// Batches that the `GroupedBatchSampler` of torchvision's references makes of the same order and groups.
    #[test]
    fn groups_fill_up_as_in_torchvision() {
        let groups = vec![0, 0, 1, 1, 0, 0, 2, 1, 0, 2, 1];
        let order = Order { groups: Some(groups), ..order(11, 3) };
        assert_eq!(samples(&order, 0, 0), [vec![0, 1, 4], vec![2, 3, 7], vec![5, 8, 0]]);
        let groups = vec![0, 1, 2, 1, 0, 2, 2];
        let order = Order { groups: Some(groups), samples: 7, batch_size: 2, ..order };
        assert_eq!(samples(&order, 0, 0), [vec![1, 3], vec![0, 4], vec![2, 5]]);
        let order = Order { groups: Some(vec![0, 1, 2, 3]), samples: 4, batch_size: 2, ..order };
        assert_eq!(samples(&order, 0, 0), [vec![0, 0], vec![1, 1]]);
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
