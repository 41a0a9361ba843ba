//! Integration tests: one binary, one module a topic.

mod bad_input;
mod child_process;
mod dataset;
mod detection;
mod detection_pipeline;
mod interrupt;
mod mistakes;
mod plan_fuzz;
mod plugin_template;
mod plugins;
mod precision;
mod program;
mod properties;
mod reload;
mod resnet;
mod secrets;
mod shipped;
mod training;
mod transforms;
