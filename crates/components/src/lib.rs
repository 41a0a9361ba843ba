//! The components, one file each, by kind. Each registers itself; a new one is one more file.
//!
//! - [`detections`]: a model's detections in COCO format
//! - [`diagnostics`]: what is behind a detector's average precision, as text, charts and files
//! - [`child`]: child processes that read JSON lines
//! - [`tracker`]: what is measured, sent to a server that may be away
//! - [`scene`]: images with their objects, drawn beside the training
//! - [`monitor`]: which values of a monitored one are better

pub mod child;
pub mod dataset;
pub mod detections;
pub mod diagnostics;
pub mod engine;
pub mod handler;
pub mod loader;
pub mod metric;
pub mod model;
pub mod monitor;
pub mod optimizer;
pub mod scene;
pub mod scheduler;
pub mod sink;
pub mod tracker;
pub mod transform;
