//! What a plugin of `pipe` is written against: a component as a documented configuration struct, and what it builds.
//!
//! ```no_run
//! use pipe_plugin::prelude::*;
//!
//! /// Multiplies the pixels.
//! #[config]
//! pub struct Gain {
//!     /// By so much.
//!     factor: f32,
//! }
//!
//! impl Config for Gain {
//!     const KIND: Kind = Kind::Transform;
//!     const TYPE: &'static str = "gain";
//!     const EXAMPLE: &'static str = "[transform.bright]\ntype = \"gain\"\nfactor = 1.5\n";
//! }
//!
//! impl Component for Gain {
//!     fn build(self, _ctx: &mut Build) -> Result<Instance> {
//!         Ok(Instance::transform(self))
//!     }
//! }
//!
//! impl Transform for Gain {
//!     fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
//!         let image = sample.image_mut()?;
//!         let values = image.to_f32().into_iter().map(|value| value * self.factor).collect();
//!         *image = Image::from_f32(image.height, image.width, image.channels, values);
//!         Ok(sample)
//!     }
//! }
//!
//! pipe_plugin::export! { Gain }
//! # fn main() {}
//! ```
//!
//! The same crate works compiled into `pipe` and as a `cdylib` that `pipe` loads when it runs: both go through the one
//! table of [`export!`], so what is tested one way holds for the other.
//!
//! - [`component`]: what an author writes: [`Component`], [`Instance`], [`Build`]
//! - the traits of the kinds: [`Transform`], [`Dataset`], [`Model`], [`Metric`], [`Handler`], [`Sink`], [`Scheduler`],
//!   [`Optimizer`]
//! - [`data`]: samples with typed fields, batches; [`record`], [`state`]: what is measured, what is saved
//! - [`kind`], [`port`], [`contract`]: nodes, what names them, what the plan may know of them
//! - [`vars`]: models of tch's own layers; [`testing`]: a component built as the program builds it
//! - [`plugin`], [`abi`]: the border; `message`, `wire`, `boundary` and `kinds` carry calls across it

pub mod abi;
mod boundary;
pub mod component;
pub mod data;
mod kinds;
mod message;
pub mod plugin;
pub mod port;
pub mod state;
pub mod testing;
pub mod vars;
mod wire;

pub use component::{Build, Component, Instance};
pub use kinds::dataset::Dataset;
pub use kinds::handler::{Action, Event, Handler};
pub use kinds::metric::{Metric, MetricReport};
pub use kinds::model::{Model, ModelOutput, largest};
pub use kinds::optimizer::{GroupSettings, Optimizer, ParamGroup};
pub use kinds::scheduler::{Scheduler, Values};
pub use kinds::sink::Sink;
pub use kinds::transform::{Among, Transform};
pub use pipe_plugin_macros::config;
pub use pipe_vocab::{
    Config, Contract, Kind, NodeId, PathValue, Problems, Property, PropertyType, ValueRef, contract, kind, record,
};
pub use port::Ref;
pub use state::{State, Stateful};

#[doc(hidden)]
pub use inventory;
pub use {anyhow, indexmap, rand, schemars, serde, serde_json, tch};

/// All that most components need.
pub mod prelude {
    pub use anyhow::{Context, Result, bail, ensure};
    pub use serde_json::{Value, json};
    pub use tch::{self, Device, Tensor};

    pub use crate::data::random::{between, chance, normal, whole};
    pub use crate::data::{
        Batch, BatchField, Detections, Extent, Field, Image, Mask, Masks, Pixels, Sample, SampleRng, fields,
    };
    pub use crate::record::{Evaluation, Progress, Record, RecordValue, Summary};
    pub use crate::{
        Build, Component, Config, Contract, Dataset, Event, GroupSettings, Handler, Instance, Kind, Metric,
        MetricReport, Model, ModelOutput, NodeId, Optimizer, ParamGroup, PathValue, Problems, Property, PropertyType,
        Ref, Scheduler, Sink, State, Stateful, Transform, ValueRef, Values, config,
    };
}
