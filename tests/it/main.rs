//! Integration tests: one binary, one module a topic.

mod bad_input;
mod child_process;
mod dataset;
mod detection;
mod detection_pipeline;
mod mistakes;
mod plan_fuzz;
mod plugin_template;
mod plugins;
mod reload;
mod secrets;
mod shipped;
#[path = "../../crates/vision/tests/it/common.rs"]
mod torchvision;
mod training;
mod transforms;
