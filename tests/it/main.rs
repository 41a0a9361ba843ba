//! The integration tests, in one binary.

mod coco_eval;
mod coco_index;
mod coco_mask;
mod coco_synthetic;
