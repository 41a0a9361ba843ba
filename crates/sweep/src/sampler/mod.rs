//! Which values a trial gets.
//!
//! - [`Sampler::Grid`]: all there are, in order; `grid`
//! - [`Sampler::Random`]: by chance; `random`
//! - [`Sampler::Tpe`]: where good trials are; `tpe`, `parzen`, `normal`, `front`
//!
//! What is drawn depends on the seed, the trial's number and the trials before it alone.

pub(crate) mod front;
mod grid;
pub mod normal;
mod parzen;
pub(crate) mod random;
mod tpe;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::space::{Space, Values};
use crate::study::Study;

pub use grid::points;

/// How values are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampler {
    /// All there are, in order.
    Grid,
    /// By chance.
    Random,
    /// The tree-structured Parzen estimator, with Optuna's defaults.
    Tpe,
}

impl Sampler {
    /// The values of the study's trial of this number; none where a grid has no more.
    pub fn suggest(self, study: &Study, space: &Space, seed: u64, number: u64) -> Option<Values> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        match self {
            Sampler::Grid => grid::next(study, space),
            Sampler::Random => Some(random::suggest(space, &mut rng)),
            Sampler::Tpe => Some(tpe::suggest(study, space, &mut rng)),
        }
    }
}
