//! Integration tests: one binary, one module a topic.

mod bad_input;
mod child_process;
mod coco_eval;
mod coco_index;
mod coco_mask;
mod coco_synthetic;
mod dataset;
mod detection;
mod detection_pipeline;
mod document;
mod mistakes;
mod plan_fuzz;
mod plugin_template;
mod plugins;
mod reload;
mod resnet;
mod secrets;
mod shipped;
mod tensorboard;
mod training;
mod transforms;
