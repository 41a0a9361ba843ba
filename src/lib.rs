//! `pipe`: a declarative pipeline runner for deep learning.

pub mod draw;
pub mod tensorboard;
