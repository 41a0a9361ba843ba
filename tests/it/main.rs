//! Integration tests: one binary, one module a topic.

// Named here so that the linker keeps them: their components register themselves.
use {pipe_boundary as _, pipe_components as _, pipe_copy_paste as _};

mod averages;
mod bad_input;
mod bench;
mod captured;
mod cases;
mod checks;
mod child_process;
mod console;
mod data;
mod dataset;
mod detection;
mod detection_pipeline;
mod diagnostics;
mod environment;
mod interrupt;
mod keypoints;
mod kills;
mod labels;
mod launcher;
mod mistakes;
mod outlets;
mod pipeline_file;
mod plan_fuzz;
mod plugin_template;
mod plugins;
mod precision;
mod program;
mod properties;
mod ranks;
mod recipes;
mod reload;
mod replay;
mod run_folder;
mod runs;
mod schedule;
mod secrets;
mod segmentation;
mod shipped;
mod signals;
mod steer;
mod submit;
mod sweep;
mod tags;
#[path = "../../crates/vision/tests/it/common.rs"]
mod torchvision;
mod trackers;
mod training;
mod transforms;
