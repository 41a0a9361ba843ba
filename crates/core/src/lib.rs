//! What components are written against: the traits of the kinds, the contexts of their methods, the engine, the registration.
//!
//! - [`kinds`]: the traits of the kinds of nodes that plugins do not share, events, processes
//! - [`context`]: what everything that runs shares; [`checkpoints`], [`clock`], [`bests`], [`frozen`], [`folder`], [`timings`], [`busy`], [`terminal`],
//!   [`requests`], [`throughput`]: parts of it
//! - [`ranks`]: the processes that work on one run together
//! - [`engine`]: the loop over data that fires events; [`place`]: where a run stands in them
//! - [`component`]: from a configuration to a built node
//!
//! Words of `pipe-vocab` and `pipe-plugin` that every component needs are named here again.

pub mod bests;
pub mod busy;
pub mod checkpoints;
pub mod clock;
pub mod component;
pub mod context;
pub mod engine;
pub mod folder;
pub mod frozen;
pub mod kinds;
pub mod place;
pub mod ranks;
pub mod requests;
pub mod terminal;
pub mod throughput;
pub mod timings;

use std::cell::RefCell;
use std::rc::Rc;

pub use checkpoints::{Afterwards, Checkpoints};
pub use clock::{Clock, Termination};
pub use component::build::{BuildContext, Built, Component, build, config_of};
pub use component::instance::{Instance, Nodes};
pub use component::port::{Nested, NestedKind, PortKind, SchedulerKind, Source, TransformKind};
pub use component::registry::{Registration, builtin};
pub use context::{RunContext, Subscription, now};
pub use engine::Engine;
pub use folder::RunFolder;
pub use kinds::engine_state::{EngineState, Limits};
pub use kinds::event::{Boundary, Dispatch, EventContext, Interrupted};
pub use kinds::handler::Handler;
pub use kinds::loader::{Loader, Outlook, Stage, Which};
pub use kinds::optimizer::{LR, Optimizer, ParamGroup, writable};
pub use kinds::process::Process;
pub use kinds::scheduler::Scheduler;
pub use kinds::settings::{Setting, Settings};
pub use kinds::step::Step;
pub use pipe_plugin::{
    Among, Dataset, Metric, MetricReport, Model, ModelOutput, Ref, Sink, State, Stateful, Transform,
};
pub use pipe_vocab::event::{self, EngineEvent, EventName};
pub use pipe_vocab::facts;
pub use pipe_vocab::{
    Best, BestCheckpoint, Checked, Config, ConfigError, Contract, Duration, Evaluation, Event, FieldSet, Filter, Kind,
    NodeId, PathValue, Precision, Problems, Progress, Property, PropertyType, Record, RecordValue, Reload, Secret,
    Size2d, Summary, Target, ValueRef, record,
};
pub use place::{Frame, Moment, Place};
pub use ranks::Ranks;
pub use requests::Requests;

#[doc(hidden)]
pub use inventory;

/// A built node of the training thread.
pub type Shared<T> = Rc<RefCell<T>>;
