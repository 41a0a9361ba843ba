//! The components, one file each, by kind. Each `mod.rs` holds the kind's trait.

pub mod dataset;
pub mod engine;
pub mod handler;
pub mod loader;
pub mod metric;
pub mod model;
pub mod optimizer;
pub mod scheduler;
pub mod sink;
pub mod transform;
