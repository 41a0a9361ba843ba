//! `pipe`: a declarative pipeline runner for deep learning.
//!
//! A pipeline file travels through phases, each with its own types:
//! text → [`document`] (spanned TOML) → [`plan`] (typed graph, pure) → [`run`] (built nodes) → [`engine`] events and records.
//!
//! - [`cli`]: the command line, one file a command
//! - [`load`]: from files to a plan
//! - [`reload`]: edits of the file taken over by a run that goes on
//! - [`registry`]: kinds, component descriptors
//! - [`components`]: the components, one file each
//! - [`data`]: samples with typed fields, batches
//! - [`diagnostic`]: what is wrong with a pipeline, for people and machines
//! - [`child`]: programs that take JSON lines
//! - [`fault`]: panics as errors
//! - [`nn`], [`vision`], [`weights`]: layers, detection on tensors, weight files
//! - [`coco`], [`idx`]: data sets on disk; COCO's masks and evaluation
//! - [`tensorboard`], [`draw`]: event files, pictures

pub mod child;
pub mod cli;
pub mod coco;
pub mod components;
pub mod data;
pub mod diagnostic;
pub mod document;
pub mod draw;
pub mod engine;
pub mod fault;
pub mod idx;
pub mod load;
pub mod nn;
pub mod plan;
pub mod registry;
pub mod reload;
pub mod run;
pub mod tensorboard;
#[cfg(test)]
mod testing;
pub mod vision;
pub mod weights;
