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

    /// For each image the indices drawn from its `labels` `[N]`, ascending: positives (label ≥ 1) and negatives (label 0); others
    /// (−1) are never drawn. Draws from torch's generator exactly as torchvision does, and waits for the device once.
    ///
    /// # Errors
    /// `labels` have not one dimension.
    pub fn sample(&self, labels: &[Tensor]) -> Result<Vec<(Tensor, Tensor)>> {
        let kinds = |labels: &Tensor| anyhow::Ok(Tensor::f_stack(&[labels.f_ge(1)?, labels.f_eq(0)?], 0)?);
        let masks = labels.iter().map(kinds).collect::<Result<Vec<_>>>()?;
        let sums = masks.iter().map(|mask| mask.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Int64));
        let counts = read_counts(&Tensor::f_cat(&sums.collect::<Result<Vec<_>, _>>()?, 0)?)?;
        let most = self.most_positives();
        let seeds = next_seeds();
        let of_image = |(image, (masks, counts)): (usize, (&Tensor, &[i64; 2]))| {
            if let Some(seed) = seeds.as_ref().and_then(|seeds| seeds.get(image)) {
                generator::seed(masks.device(), *seed)?;
            }
            let [positives, negatives] = *counts;
            let positive = known_indices(&masks.f_select(0, 0)?, positives)?;
            let negative = known_indices(&masks.f_select(0, 1)?, negatives)?;
            let positives = positives.min(most);
            let negatives = negatives.min(self.batch_size_per_image - positives);
            Ok((draw(&positive, positives)?, draw(&negative, negatives)?))
        };
        masks.iter().zip(counts.as_chunks::<2>().0).enumerate().map(of_image).collect()
    }
}

/// `count` of `items` `[N]` without repetition, in their order.
fn draw(items: &Tensor, count: i64) -> Result<Tensor> {
    let available = items.size()[0];
    let order = Tensor::f_randperm(available, (Kind::Int64, items.device()))?;
    if count == available {
        return Ok(items.shallow_clone());
    }
    let (chosen, _) = order.f_narrow(0, 0, count)?.f_sort(0, false)?;
    Ok(items.f_index_select(0, &chosen)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(sampler: &BalancedSampler, labels: &Tensor) -> (Tensor, Tensor) {
        sampler.sample(&[labels.shallow_clone()]).unwrap().remove(0)
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
}
