//! Random streams of the data side.
//!
//! A sample's stream depends on the seed, the epoch and the sample's index alone: the number of workers, their order and
//! a resume in the middle of an epoch change nothing.

use rand::{Rng, SeedableRng};

/// The generator handed to transforms.
pub type SampleRng = rand_chacha::ChaCha8Rng;

/// What a stream is for; streams of different purposes never overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The order of an epoch.
    Shuffle = 1,
    /// The transforms of one sample.
    Sample = 2,
    /// The transforms of one whole batch.
    Batch = 3,
    /// What the losses of an evaluation are computed on.
    Losses = 4,
}

/// The stream for `purpose` at `(epoch, index)` under `seed`.
pub fn stream(seed: u64, purpose: Purpose, epoch: u64, index: u64) -> SampleRng {
    let mut key = [0u8; 32];
    for (slot, value) in key.chunks_exact_mut(8).zip([seed, purpose as u64, epoch, index]) {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    SampleRng::from_seed(key)
}

/// Whether an event of probability `p` happens.
pub fn chance(rng: &mut SampleRng, p: f64) -> bool {
    rng.random::<f64>() < p
}

/// A number between `low` and `high`.
pub fn between(rng: &mut SampleRng, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// A whole number from `low` to `high`, both included.
pub fn whole(rng: &mut SampleRng, low: i64, high: i64) -> i64 {
    if low >= high { low } else { rng.random_range(low..=high) }
}

/// A number of the standard normal distribution (Box and Muller).
pub fn normal(rng: &mut SampleRng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()
}
