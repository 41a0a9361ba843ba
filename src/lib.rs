//! `pipe`: a declarative pipeline runner for deep learning.

pub mod coco;
pub mod idx;
