//! The integration tests, in one binary.

mod coco_eval;
mod coco_mask;
