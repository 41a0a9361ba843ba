//! The integration tests, in one binary: one module a topic.

mod coco_eval;
mod coco_mask;
mod document;
mod transforms;
