//! Samples of an epoch where not each comes once: drawn by weights, or repeated by factors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Result, ensure};
use rand::Rng;
use rand::seq::SliceRandom;

use super::random::SampleRng;

/// How the samples of an epoch are chosen.
#[derive(Debug, Clone, PartialEq)]
pub enum Sampling {
    /// Drawn with replacement.
    Weighted {
        /// For each sample the sum of the weights up to its own.
        sums: Arc<[f64]>,
        /// How many an epoch has.
        count: usize,
    },
    /// Each as often as its factor says: the whole part always, once more with the probability that is left.
    Repeated {
        /// One a sample, at least 1.
        factors: Arc<[f64]>,
    },
}

impl Sampling {
    /// `count` samples, each drawn with a probability in proportion to its weight (torch's `WeightedRandomSampler`).
    ///
    /// # Errors
    /// When a weight is negative or not finite, or all are 0.
    pub fn weighted(weights: &[f64], count: usize) -> Result<Sampling> {
        ensure!(
            weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0),
            "a weight is negative or not finite"
        );
        let sums: Arc<[f64]> = weights
            .iter()
            .scan(0.0, |sum, weight| {
                *sum += weight;
                Some(*sum)
            })
            .collect();
        ensure!(sums.last().is_some_and(|sum| *sum > 0.0), "all weights are 0, so no sample can be drawn");
        Ok(Sampling::Weighted { sums, count })
    }

    /// Samples that an epoch has, always as many.
    pub fn count(&self) -> usize {
        match self {
            Sampling::Weighted { count, .. } => *count,
            Sampling::Repeated { factors } => {
                let whole: f64 = factors.iter().map(|factor| factor.trunc()).sum();
                (whole + fractions(factors)) as usize
            }
        }
    }

    /// The samples of an epoch in random order.
    pub fn indices(&self, rng: &mut SampleRng) -> Vec<usize> {
        match self {
            Sampling::Weighted { sums, count } => {
                let total = sums.last().copied().unwrap_or(0.0);
                // The first sample that reaches the total: none behind it has a weight.
                let last = sums.partition_point(|sum| *sum < total);
                let draw = |_| {
                    let at = rng.random::<f64>() * total;
                    sums.partition_point(|sum| *sum <= at).min(last)
                };
                (0..*count).map(draw).collect()
            }
            Sampling::Repeated { factors } => {
                let more = once_more(factors, rng);
                let times = |index: usize| factors[index] as usize + usize::from(more.contains(&index));
                let mut indices: Vec<usize> =
                    (0..factors.len()).flat_map(|index| std::iter::repeat_n(index, times(index))).collect();
                indices.shuffle(rng);
                indices
            }
        }
    }
}

/// The sum of all fractions, rounded down.
fn fractions(factors: &[f64]) -> f64 {
    factors.iter().map(|factor| factor.fract()).sum::<f64>().floor()
}

/// The samples that come once more than the whole part of their factor says: each with the probability of its fraction, less
/// what makes their number a whole one, so that all epochs are equally long. The fractions are laid end to end in random order, and
/// those are taken in which a multiple of 1 lies, counted from a random place (systematic sampling).
fn once_more(factors: &[f64], rng: &mut SampleRng) -> BTreeSet<usize> {
    let mut rest: Vec<usize> = (0..factors.len()).filter(|index| factors[*index].fract() > 0.0).collect();
    rest.shuffle(rng);
    let all: f64 = rest.iter().map(|index| factors[*index].fract()).sum();
    let wanted = fractions(factors);
    let start = rng.random::<f64>();
    let (mut sum, mut taken) = (0.0, BTreeSet::new());
    for (place, index) in rest.iter().enumerate() {
        let before = (sum * wanted / all + start).floor();
        sum += factors[*index].fract();
        let end = if place + 1 == rest.len() { wanted } else { sum * wanted / all };
        if (end + start).floor() > before {
            taken.insert(*index);
        }
    }
    taken
}

/// In what part of the samples each class occurs, given the classes of each sample.
pub fn class_frequencies(classes: &[Vec<i64>]) -> BTreeMap<i64, f64> {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for of_sample in classes {
        let once: BTreeSet<i64> = of_sample.iter().copied().collect();
        once.into_iter().for_each(|class| *counts.entry(class).or_default() += 1);
    }
    counts.into_iter().map(|(class, count)| (class, count as f64 / classes.len() as f64)).collect()
}

/// Repeat factors of samples with these classes (Gupta et al. 2019, and `RepeatFactorTrainingSampler` of Detectron2): that of a class
/// is `max(1, sqrt(threshold / frequency))`, that of a sample the largest of its classes', 1 without any.
pub fn repeat_factors(classes: &[Vec<i64>], threshold: f64) -> Vec<f64> {
    let of_class: BTreeMap<i64, f64> = class_frequencies(classes)
        .into_iter()
        .map(|(class, frequency)| (class, (threshold / frequency).sqrt().max(1.0)))
        .collect();
    classes.iter().map(|of_sample| of_sample.iter().map(|class| of_class[class]).fold(1.0, f64::max)).collect()
}

/// A weight for each sample: the largest of those of its classes, the smallest of all where it has none.
///
/// # Errors
/// When a class has no weight: which.
pub fn sample_weights(classes: &[Vec<i64>], weight: impl Fn(i64) -> Option<f64>, smallest: f64) -> Result<Vec<f64>> {
    let of = |of_sample: &Vec<i64>| {
        let weights =
            of_sample.iter().map(|class| weight(*class).ok_or_else(|| anyhow::anyhow!("class {class} has no weight")));
        let weights: Vec<f64> = weights.collect::<Result<_>>()?;
        Ok(weights.into_iter().reduce(f64::max).unwrap_or(smallest))
    };
    classes.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};
    use proptest::prelude::*;

    fn counts(sampling: &Sampling, samples: usize, epochs: u64) -> Vec<f64> {
        let mut counts = vec![0.0; samples];
        for epoch in 0..epochs {
            let indices = sampling.indices(&mut stream(5, Purpose::Shuffle, epoch, 0));
            assert_eq!(indices.len(), sampling.count());
            indices.into_iter().for_each(|index| counts[index] += 1.0 / epochs as f64);
        }
        counts
    }

    #[test]
    fn weights_are_the_odds() {
        let weights = [0.0, 1.0, 3.0, 0.0, 6.0, 0.0];
        let counts = counts(&Sampling::weighted(&weights, 10).unwrap(), 6, 2000);
        for (count, weight) in counts.iter().zip(weights) {
            // Four standard deviations of a mean of 2000 draws.
            assert!((count - weight).abs() <= 4.0 * (weight / 2000.0f64).sqrt(), "{counts:?}");
        }
        for wrong in [&[0.0, 0.0][..], &[1.0, -1.0], &[f64::NAN], &[]] {
            assert!(Sampling::weighted(wrong, 3).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn factors_are_how_often_a_sample_comes() {
        let factors = [1.0, 2.5, 1.25, 3.0, 1.75, 1.5];
        let counts = counts(&Sampling::Repeated { factors: factors.into() }, 6, 4000);
        for (count, factor) in counts.iter().zip(factors) {
            assert!((count - factor).abs() < 0.04, "{counts:?}");
        }
    }

    proptest! {
        #[test]
        fn every_epoch_is_equally_long(factors in proptest::collection::vec(1.0f64..4.0, 1..60), epoch in 0u64..50) {
            let sampling = Sampling::Repeated { factors: factors.clone().into() };
            let indices = sampling.indices(&mut stream(1, Purpose::Shuffle, epoch, 0));
            prop_assert_eq!(indices.len(), sampling.count());
            for (index, factor) in factors.iter().enumerate() {
                let times = indices.iter().filter(|&&i| i == index).count();
                prop_assert!(times == factor.floor() as usize || times == factor.ceil() as usize);
            }
        }
    }

    #[test]
    fn a_sample_has_the_weight_of_its_rarest_class() {
        let classes = [vec![0], vec![0, 1, 1], vec![], vec![0]];
        let frequencies = class_frequencies(&classes);
        assert_eq!(frequencies.into_iter().collect::<Vec<_>>(), [(0, 0.75), (1, 0.25)]);
        let weights = sample_weights(&classes, |class| Some(1.0 + class as f64), 0.5).unwrap();
        assert_eq!(weights, [1.0, 2.0, 0.5, 1.0]);
        let error = sample_weights(&classes, |class| (class == 0).then_some(1.0), 0.5).unwrap_err().to_string();
        assert_eq!(error, "class 1 has no weight");
    }
}
