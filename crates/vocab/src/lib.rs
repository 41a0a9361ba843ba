//! The words that all of `pipe` shares. No tensors, no TOML, no device.
//!
//! - [`kind`]: kinds of nodes, names of nodes; [`value_ref`]: names of measured values; [`expression`]: arithmetic on them
//! - [`config`], [`contract`]: what a component says of itself before anything is built
//! - [`descriptor`], [`catalog`]: registered components, and all that there are
//! - [`reload`]: what a changed option means to a running pipeline
//! - [`event`]: events of engines, and on which of their occurrences targets run
//! - [`record`]: what is measured; [`objects`]: what is to be seen on an image
//! - [`refusal`]: what is refused unless it is accepted by name
//! - [`path_value`], [`secret`], [`target`], [`units`]: options with a syntax of their own
//! - [`atomic`], [`files`], [`cache`]: files that are either complete or absent; reading what anyone may have written; what can be had again
//! - [`mod@shown`]: text of unknown origin, made fit for a terminal

pub mod atomic;
pub mod cache;
pub mod catalog;
pub mod config;
pub mod contract;
pub mod descriptor;
pub mod event;
pub mod expression;
pub mod facts;
pub mod files;
pub mod kind;
pub mod objects;
pub mod path_value;
pub mod precision;
pub mod record;
pub mod refusal;
pub mod reload;
pub mod secret;
pub mod shown;
pub mod target;
pub mod units;
pub mod value_ref;

pub use catalog::Catalog;
pub use config::{Config, ConfigError, Problem, Problems, schema_of};
pub use contract::{Contract, Event, FieldSet, Property, PropertyType};
pub use descriptor::{Checked, Descriptor, PluginInfo};
pub use event::Filter;
pub use expression::Expression;
pub use facts::Facts;
pub use kind::{Kind, NodeId};
pub use objects::{Object, Objects};
pub use path_value::PathValue;
pub use precision::Precision;
pub use record::{Best, BestCheckpoint, Evaluation, Progress, Record, RecordValue, Summary};
pub use refusal::Refusal;
pub use reload::Reload;
pub use secret::Secret;
pub use target::Target;
pub use units::{Duration, Size2d};
pub use value_ref::ValueRef;
