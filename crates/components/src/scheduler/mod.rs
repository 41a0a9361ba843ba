//! Schedulers: change an optimizer's learning rate, or another of its settings, over time.
//!
//! Most are a [`Curve`]: the value as a function of the number of steps, so that a resumed run continues exactly where
//! it stopped, and several schedulers of one optimizer multiply (warm-up and decay). Only [`plateau`] follows a measured value.
//!
//! - [`curve`]: curves, the schedulers that step them, what they drive

pub mod concatenated;
pub mod cosine;
pub mod cosine_warm_restarts;
pub mod curve;
pub mod cyclical;
pub mod exponential;
pub mod linear_warmup;
pub mod multistep;
pub mod one_cycle;
pub mod piecewise_linear;
pub mod plateau;
pub mod polynomial;
pub mod step;

pub use curve::{Curve, Scheduled};
