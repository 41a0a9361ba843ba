//! A built node, whatever its kind.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use indexmap::IndexMap;
use pipe_plugin::{Dataset, Metric, Model, Sink, State, Stateful, Transform};
use pipe_vocab::NodeId;

use crate::Shared;
use crate::engine::Engine;
use crate::kinds::handler::Handler;
use crate::kinds::loader::Loader;
use crate::kinds::optimizer::Optimizer;
use crate::kinds::scheduler::Scheduler;
use crate::kinds::settings::Settings;

/// Built nodes by name, in topological order.
pub type Nodes = IndexMap<NodeId, Instance>;

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
    /// The numbers that schedulers may drive, of a node that has such and is not at work just now.
    pub fn settings(&self) -> Option<Settings> {
        match self {
            Instance::Engine(engine) => engine.settings(),
            Instance::Handler(handler) => handler.try_borrow().ok().and_then(|handler| handler.settings()),
            _ => None,
        }
    }

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

    /// Everything needed to continue exactly from here; empty for what has no state.
    ///
    /// # Errors
    /// When the node is currently in use, or its state cannot be read.
    pub fn state(&self) -> Result<State> {
        match self {
            Instance::Dataset(_) | Instance::Transform(_) => Ok(State::default()),
            Instance::Engine(engine) => engine.state(false),
            Instance::Loader(node) => state_of(node),
            Instance::Model(node) => state_of(node),
            Instance::Optimizer(node) => state_of(node),
            Instance::Scheduler(node) => state_of(node),
            Instance::Metric(node) => state_of(node),
            Instance::Handler(node) => state_of(node),
            Instance::Sink(node) => state_of(node),
        }
    }

    /// Goes back to a saved state.
    ///
    /// # Errors
    /// When the node is currently in use, or the state is of another component or another shape.
    pub fn load_state(&self, state: &State) -> Result<()> {
        match self {
            Instance::Dataset(_) | Instance::Transform(_) => Ok(()),
            Instance::Engine(engine) => engine.load_state(state),
            Instance::Loader(node) => load_into(node, state),
            Instance::Model(node) => load_into(node, state),
            Instance::Optimizer(node) => load_into(node, state),
            Instance::Scheduler(node) => load_into(node, state),
            Instance::Metric(node) => load_into(node, state),
            Instance::Handler(node) => load_into(node, state),
            Instance::Sink(node) => load_into(node, state),
        }
    }
}

const AT_WORK: &str = "it is in use";

fn state_of<T: Stateful + ?Sized>(node: &Shared<T>) -> Result<State> {
    node.try_borrow().context(AT_WORK)?.state()
}

fn load_into<T: Stateful + ?Sized>(node: &Shared<T>, state: &State) -> Result<()> {
    node.try_borrow_mut().context(AT_WORK)?.load_state(state)
}
