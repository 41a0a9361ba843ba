//! `pipe`: a declarative pipeline runner for deep learning.
//!
//! A pipeline file travels through phases, each with its own types:
//! text → [`document`] (spanned TOML) → [`plan`] (typed graph, pure) → [`run`] (built nodes) → [`engine`] events and records.
//!
//! - [`registry`]: kinds, component descriptors
//! - [`components`]: the components, one file each
//! - [`data`]: samples with typed fields, batches
//! - [`diagnostic`]: what is wrong with a pipeline, for people and machines
//! - [`nn`], [`vision`]: layers, models and the functions they are made of, equal to torchvision's
//! - [`weights`]: `.safetensors` and `.pth` files

pub mod components;
pub mod data;
pub mod diagnostic;
pub mod document;
pub mod engine;
pub mod nn;
pub mod plan;
pub mod registry;
pub mod run;
#[cfg(test)]
pub(crate) mod testing;
pub mod vision;
pub mod weights;
