//! Sinks: consume records.

pub mod console;
pub mod json_lines;
pub mod process;
pub mod tensorboard;
