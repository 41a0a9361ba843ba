//! Schedulers: drive an optimizer's values over time.
//!
//! Most are a [`Curve`]: the learning rate as a function of the steps counted, so that a resumed run stands exactly where
//! it stood, and several schedulers of one optimizer multiply (warm-up and decay). [`plateau`] alone follows a value.
//!
//! - [`curve`]: curves, what steps them, and their simulation before a run

pub mod cosine;
pub mod cosine_warm_restarts;
pub mod curve;
pub mod exponential;
pub mod linear_warmup;
pub mod multistep;
pub mod one_cycle;
pub mod piecewise_linear;
pub mod plateau;
pub mod polynomial;
pub mod step;

pub use curve::{Curve, Scheduled};
