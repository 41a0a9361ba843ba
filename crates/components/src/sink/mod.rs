//! Sinks: consume records. Those that send to a tracker's server are made of [`crate::tracker`].

pub mod clearml;
pub mod console;
pub mod json_lines;
pub mod mlflow;
pub mod process;
pub mod tensorboard;
