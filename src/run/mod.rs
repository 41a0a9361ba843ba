//! A run: its folder, its records, its checkpoints, and the built nodes.
//!
//! - [`build`](mod@build): plan → built nodes, in topological order
//! - [`context`]: what everything running shares
//! - [`record`]: what is measured
//! - [`state`]: what a checkpoint saves
//! - [`terminal`]: standard error, shared with progress bars
//! - [`timings`]: how long things take
//! - [`checkpoint`]: writing and reading checkpoints
//! - [`folder`]: the run's folder and `run.json`
//! - [`versions`]: every version of the pipeline

pub mod build;
pub mod checkpoint;
pub mod context;
pub mod folder;
pub mod random;
pub mod running;
pub mod terminal;
pub mod timings;
pub mod versions;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

pub use build::BuildContext;
pub use context::{Clock, Precision, RunContext};
pub use folder::RunFolder;
pub use pipe_plugin::{record, state};
pub use record::{Progress, Record, RecordValue, Summary};
pub use running::{Ending, RunOptions, Running};
pub use state::{State, Stateful};

use crate::components::{
    dataset::Dataset, handler::Handler, loader::Loader, metric::Metric, model::Model, optimizer::Optimizer,
    scheduler::Scheduler, sink::Sink, transform::Transform,
};
use crate::engine::Engine;

/// A built node of the training thread.
pub type Shared<T> = Rc<RefCell<T>>;

/// A built node.
#[derive(Clone)]
pub enum Instance {
    /// Shared with worker threads.
    Dataset(Arc<dyn Dataset>),
    /// Shared with worker threads.
    Transform(Arc<dyn Transform>),
    /// A loader.
    Loader(Shared<dyn Loader>),
    /// A model.
    Model(Shared<dyn Model>),
    /// An optimizer.
    Optimizer(Shared<dyn Optimizer>),
    /// A scheduler.
    Scheduler(Shared<dyn Scheduler>),
    /// A metric.
    Metric(Shared<dyn Metric>),
    /// An engine.
    Engine(Rc<Engine>),
    /// A handler.
    Handler(Shared<dyn Handler>),
    /// A sink.
    Sink(Shared<dyn Sink>),
}

impl Instance {
    /// A dataset.
    pub fn dataset(dataset: impl Dataset + 'static) -> Instance {
        Instance::Dataset(Arc::new(dataset))
    }

    /// A transform.
    pub fn transform(transform: impl Transform + 'static) -> Instance {
        Instance::Transform(Arc::new(transform))
    }

    /// A loader.
    pub fn loader(loader: impl Loader + 'static) -> Instance {
        Instance::Loader(Rc::new(RefCell::new(loader)))
    }

    /// A model.
    pub fn model(model: impl Model + 'static) -> Instance {
        Instance::Model(Rc::new(RefCell::new(model)))
    }

    /// An optimizer.
    pub fn optimizer(optimizer: impl Optimizer + 'static) -> Instance {
        Instance::Optimizer(Rc::new(RefCell::new(optimizer)))
    }

    /// A scheduler.
    pub fn scheduler(scheduler: impl Scheduler + 'static) -> Instance {
        Instance::Scheduler(Rc::new(RefCell::new(scheduler)))
    }

    /// A metric.
    pub fn metric(metric: impl Metric + 'static) -> Instance {
        Instance::Metric(Rc::new(RefCell::new(metric)))
    }

    /// A handler.
    pub fn handler(handler: impl Handler + 'static) -> Instance {
        Instance::Handler(Rc::new(RefCell::new(handler)))
    }

    /// A sink.
    pub fn sink(sink: impl Sink + 'static) -> Instance {
        Instance::Sink(Rc::new(RefCell::new(sink)))
    }
}
