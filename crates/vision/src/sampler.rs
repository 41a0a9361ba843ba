//! A random batch of predictions with a bounded share of positives.

use std::cell::RefCell;

use anyhow::Result;
use pipe_native::generator;
use tch::{Device, Kind, Tensor};

use super::boxes::{known_indices, read_counts};

thread_local! {
    static KEYS: RefCell<Option<Keys>> = const { RefCell::new(None) };
}

/// A key for each image of a batch, and how often samples were drawn.
struct Keys {
    of_images: Vec<u64>,
    draws: u64,
}

/// Takes the keys away, also after a panic.
struct Keyed;

impl Drop for Keyed {
    fn drop(&mut self) {
        KEYS.set(None);
    }
}

/// Runs `f`, in which samples are drawn for each image of a batch after the device's generator was seeded by the image's key, plus one with
/// each further draw: an image's samples depend on nothing else. Afterwards the generator is as it was before.
///
/// # Errors
/// Those of `f`, or the device does not exist.
pub fn with_keys<T>(keys: &[u64], device: Device, f: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = generator::state(device)?;
    let keyed = Keyed;
    KEYS.set(Some(Keys { of_images: keys.to_vec(), draws: 0 }));
    let result = f();
    drop(keyed);
    generator::set_state(device, &before)?;
    result
}

/// The seeds of the next draw for each image, where there are keys.
fn next_seeds() -> Option<Vec<u64>> {
    KEYS.with_borrow_mut(|keys| {
        let keys = keys.as_mut()?;
        let seeds = keys.of_images.iter().map(|key| key.wrapping_add(keys.draws)).collect();
        keys.draws += 1;
        Some(seeds)
    })
}

/// Draws the predictions that a loss is computed on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BalancedSampler {
    /// Predictions drawn in each image, at most.
    pub batch_size_per_image: i64,
    /// Largest share of positives among them, 0 to 1.
    pub positive_fraction: f64,
}

impl BalancedSampler {
    /// Positives of an image at most.
    pub fn most_positives(&self) -> i64 {
        (self.batch_size_per_image as f64 * self.positive_fraction) as i64
    }

    /// Draws from `labels` (i64 `[M]`), of which `lengths` belong to each image in turn: positives (label ≥ 1) and negatives (label 0);
    /// others (−1) are never drawn. Draws from torch's generator exactly as torchvision does, and waits for the device once.
    ///
    /// # Errors
    /// `labels` has another length.
    pub fn sample(&self, labels: &Tensor, lengths: &[i64]) -> Result<Drawn> {
        let masks = Tensor::f_stack(&[labels.f_ge(1)?, labels.f_eq(0)?], 0)?;
        let sums = masks.f_split_with_sizes(lengths, 1)?;
        let sums = sums.iter().map(|masks| masks.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64));
        let counts = read_counts(&Tensor::f_cat(&sums.collect::<Result<Vec<_>, _>>()?, 0)?)?;
        let there = counts.as_chunks::<2>().0;
        let of_kind =
            |kind: usize| known_indices(&masks.f_select(0, kind as i64)?, there.iter().map(|n| n[kind]).sum());
        let all = [of_kind(0)?, of_kind(1)?];
        let seeds = next_seeds();
        let (mut pieces, mut counts, mut first) = ([Vec::new(), Vec::new()], Vec::new(), [0, 0]);
        for (image, there) in there.iter().enumerate() {
            if let Some(seed) = seeds.as_ref().and_then(|seeds| seeds.get(image)) {
                generator::seed(masks.device(), *seed)?;
            }
            let positives = there[0].min(self.most_positives());
            let wanted = [positives, there[1].min(self.batch_size_per_image - positives)];
            for kind in 0..2 {
                pieces[kind].push(draw(&all[kind].f_narrow(0, first[kind], there[kind])?, wanted[kind])?);
                first[kind] += there[kind];
            }
            counts.push(wanted);
        }
        // Places of an image lie before those of the next.
        let sorted = |pieces: &[Tensor]| anyhow::Ok(Tensor::f_cat(pieces, 0)?.f_sort(0, false)?.0);
        Ok(Drawn { positive: sorted(&pieces[0])?, negative: sorted(&pieces[1])?, counts })
    }
}

/// What was drawn from the labels of a batch.
#[derive(Debug)]
pub struct Drawn {
    /// The places of the positives among all labels, ascending: i64 `[P]`.
    pub positive: Tensor,
    /// Those of the negatives: i64 `[N]`.
    pub negative: Tensor,
    /// How many positives and negatives each image has.
    pub counts: Vec<[i64; 2]>,
}

impl Drawn {
    /// How many positives each image has.
    pub fn positives(&self) -> Vec<i64> {
        self.counts.iter().map(|[positives, _]| *positives).collect()
    }
}

/// `count` of `items` `[N]` without repetition.
fn draw(items: &Tensor, count: i64) -> Result<Tensor> {
    let available = items.size()[0];
    let order = Tensor::f_randperm(available, (Kind::Int64, items.device()))?;
    if count == available {
        return Ok(items.shallow_clone());
    }
    Ok(items.f_index_select(0, &order.f_narrow(0, 0, count)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sampler: &BalancedSampler, labels: &Tensor) -> (Tensor, Tensor) {
        let drawn = sampler.sample(labels, &labels.size()).unwrap();
        (drawn.positive, drawn.negative)
    }

    #[test]
    fn shares_are_kept() {
        let labels = Tensor::from_slice(&[1i64, 0, 2, 0, -1, 3, 0, 0, 0, -1]);
        let sampler = BalancedSampler { batch_size_per_image: 4, positive_fraction: 0.5 };
        let (positive, negative) = sample(&sampler, &labels);
        assert_eq!((positive.size()[0], negative.size()[0]), (2, 2));
        for index in Vec::<i64>::try_from(&positive).unwrap() {
            assert!([0, 2, 5].contains(&index));
        }
        let few = sample(&BalancedSampler { batch_size_per_image: 100, positive_fraction: 0.25 }, &labels);
        assert_eq!(Vec::<i64>::try_from(few.0).unwrap(), [0, 2, 5]);
        assert_eq!(Vec::<i64>::try_from(few.1).unwrap(), [1, 3, 6, 7, 8]);
    }

    #[test]
    fn images_without_positives_give_negatives() {
        let sampler = BalancedSampler { batch_size_per_image: 3, positive_fraction: 0.5 };
        let (positive, negative) = sample(&sampler, &Tensor::zeros([9], (Kind::Float, tch::Device::Cpu)));
        assert_eq!((positive.size()[0], negative.size()[0]), (0, 3));
    }

    #[test]
    fn images_have_shares_of_their_own() {
        let labels = Tensor::from_slice(&[1i64, 0, 0, 1, 1, 1, 1, 0]);
        let sampler = BalancedSampler { batch_size_per_image: 2, positive_fraction: 0.5 };
        let drawn = sampler.sample(&labels, &[3, 0, 5]).unwrap();
        assert_eq!(drawn.counts, [[1, 1], [0, 0], [1, 1]]);
        let [positive, negative] = [drawn.positive, drawn.negative].map(|places| Vec::<i64>::try_from(places).unwrap());
        assert_eq!((positive[0], negative[1]), (0, 7));
        assert!([1, 2].contains(&negative[0]) && [3, 4, 5, 6].contains(&positive[1]), "{positive:?} {negative:?}");
    }
}
