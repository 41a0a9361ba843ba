//! COCO without tensors: masks, annotation files, evaluation, and small data sets in the same layout.
//!
//! | module | holds |
//! |---|---|
//! | [`mask`] | run-length masks, equal to pycocotools bit for bit |
pub mod mask;
