//! `pipe`: a declarative pipeline runner for deep learning.

pub mod nn;
pub mod vision;
pub mod weights;
