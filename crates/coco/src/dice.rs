//! Random numbers whose every bit is written down here.
//!
//! What `rand` makes of a generator's words may change between its versions; files and subsets that must come out the
//! same for years need a mapping of their own. The words are ChaCha8's (`rand_chacha`), keyed by the seed's eight
//! little-endian bytes followed by zeros; the stream number selects independent sequences under one seed.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

/// A deterministic sequence of random numbers.
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// The sequence of a seed and stream.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut words = ChaCha8Rng::from_seed(key);
        words.set_stream(stream);
        Self(words)
    }

    /// Uniform in `[0, 1)`: the upper 53 bits of one 64-bit word over 2⁵³.
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[low, high)`: `low + (high − low) · unit`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `0..count`: the upper half of the 128-bit product of one word and `count`. Zero for a count of zero.
    pub fn below(&mut self, count: usize) -> usize {
        ((u128::from(self.0.next_u64()) * count as u128) >> 64) as usize
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// About normal, mean 0 and deviation 1: the sum of twelve [`Dice::unit`] less 6. No logarithm, so no platform differs.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }

    /// `chosen` distinct numbers below `count`, sorted (all of them when there are not that many).
    ///
    /// The first steps of a Fisher–Yates shuffle: position `i` swaps with `i + below(count − i)`.
    pub fn choose(&mut self, count: usize, chosen: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        let chosen = chosen.min(count);
        for i in 0..chosen {
            let other = i + self.below(count - i);
            all.swap(i, other);
        }
        all.truncate(chosen);
        all.sort_unstable();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mapping_is_fixed() {
        let mut dice = Dice::new(42, 7);
        let first: Vec<usize> = (0..6).map(|_| dice.below(1000)).collect();
        // Made by an independent ChaCha8.
        assert_eq!(first, [185, 580, 945, 734, 862, 370]);
        assert_eq!(Dice::new(1, 0).choose(100, 5), [30, 38, 80, 86, 91]);
    }

    #[test]
    fn ranges_hold() {
        let mut dice = Dice::new(3, 0);
        let normals: Vec<f64> = (0..2000).map(|_| dice.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 2000.0;
        let variance = normals.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 2000.0;
        assert!(mean.abs() < 0.1 && (variance - 1.0).abs() < 0.1, "{mean} {variance}");
        assert!((0..1000).all(|_| dice.below(3) < 3 && (0.0..1.0).contains(&dice.unit())));
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.choose(3, 10), [0, 1, 2]);
        let drawn = dice.choose(50, 20);
        assert!(drawn.len() == 20 && drawn.windows(2).all(|pair| pair[0] < pair[1]) && drawn[19] < 50);
    }
}
