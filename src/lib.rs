//! `pipe`: a declarative pipeline runner for deep learning.
//!
//! A pipeline file travels through phases, each with its own types:
//! text → [`document`] (spanned TOML) → [`plan`] (typed graph, pure) → [`run`] (built nodes) → [`engine`] events and records.
//!
//! - [`registry`]: kinds, component descriptors
//! - [`components`]: the components, one file each
//! - [`data`]: samples with typed fields, batches

pub mod coco;
pub mod components;
pub mod data;
pub mod diagnostic;
pub mod document;
pub mod engine;
pub mod registry;
pub mod run;
