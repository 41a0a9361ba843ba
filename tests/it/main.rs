//! The integration tests, in one binary: one module a topic.

mod coco_eval;
mod coco_mask;
mod dataset;
mod document;
mod transforms;
