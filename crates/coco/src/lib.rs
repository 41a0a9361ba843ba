//! COCO without tensors: masks, annotation files, evaluation, and small datasets in the same layout.
//!
//! | module | holds |
//! |---|---|
//! | [`mask`] | run-length masks, equal to pycocotools bit for bit |
//! | [`index`] | annotation files the size of train2017, checked, with an audit |
//! | [`eval`] | the 12 numbers of `COCOeval` for boxes and masks; results files |
//! | [`diagnose`] | what is behind the numbers: curves over confidence, confusion, kinds of errors, worst images, differences |
//! | [`synthetic`] | `builtin:shapes` and `builtin:digits`, written once into the cache |
//! | [`dice`] | random numbers whose every bit is written down |

pub mod diagnose;
pub mod dice;
pub mod eval;
pub mod index;
pub mod mask;
mod parallel;
mod pieces;
pub mod synthetic;
