//! What an author writes: a documented configuration struct, and what is built of it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pipe_vocab::{Config, Kind, NodeId};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::boundary::{Input, Remote};
use crate::kinds::dataset::{self, Dataset, RemoteDataset};
use crate::kinds::handler::{self, Handler};
use crate::kinds::metric::{self, Metric};
use crate::kinds::model::{self, Model};
use crate::kinds::optimizer::{self, Optimizer};
use crate::kinds::scheduler::{self, Scheduler};
use crate::kinds::sink::{self, Sink};
use crate::kinds::transform::{self, Transform};
use crate::message::Message;
use crate::port::{Port, Ref};

/// A component of a plugin: what is built of a [`Config`]. [`crate::config`] before the struct makes it one; its fields of
/// type [`Ref`] are ports. Any kind but loader and engine.
pub trait Component: Config {
    /// Makes the component. May open files and devices.
    ///
    /// # Errors
    /// What is wrong with the outside world, named for people.
    fn build(self, ctx: &mut Build) -> Result<Instance>;
}

/// What a component may use while it is built.
pub struct Build {
    pub(crate) place: Place,
    pub(crate) ports: Vec<BuiltPort>,
}

/// Where a node is built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Place {
    pub node: NodeId,
    pub device: String,
    pub seed: u64,
    pub folder: PathBuf,
}

/// The node behind a port.
pub(crate) struct BuiltPort {
    pub node: NodeId,
    pub parameters: Vec<(String, Tensor)>,
    pub dataset: Option<Remote>,
}

impl Build {
    /// The node's own name.
    pub fn node(&self) -> &NodeId {
        &self.place.node
    }

    /// Where models and batches lie.
    pub fn device(&self) -> Device {
        device_of(&self.place.device)
    }

    /// The seed of the run. Samples have streams of their own; this is for what is drawn once.
    pub fn seed(&self) -> u64 {
        self.place.seed
    }

    /// The run's folder, in which a component may keep files.
    pub fn folder(&self) -> &Path {
        &self.place.folder
    }

    fn port<T: Port + ?Sized>(&mut self, port: &Ref<T>) -> Result<&mut BuiltPort> {
        let found = self.ports.iter_mut().find(|built| built.node == port.node);
        found.with_context(|| format!("the program gave no {} for a port", port.node))
    }

    /// The trainable parameters of the model behind a port, by name.
    ///
    /// # Errors
    /// When the program has not built it: a fault of the plan's order.
    pub fn parameters(&mut self, port: &Ref<dyn Model>) -> Result<Vec<(String, Tensor)>> {
        let parameters = &self.port(port)?.parameters;
        Ok(parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect())
    }

    /// The dataset behind a port. It can be taken once.
    ///
    /// # Errors
    /// When it was taken already, or the program has not built it.
    pub fn dataset(&mut self, port: &Ref<dyn Dataset>) -> Result<Box<dyn Dataset>> {
        let node = port.node.clone();
        let remote = self.port(port)?.dataset.take().with_context(|| format!("{node} was taken already"))?;
        Ok(Box::new(RemoteDataset::new(remote)?))
    }
}

/// `cpu` or `cuda:N`.
pub(crate) fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        _ => "cpu".to_owned(),
    }
}

fn device_of(name: &str) -> Device {
    let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
    index.map_or(Device::Cpu, Device::Cuda)
}

/// A built component.
pub struct Instance(pub(crate) Built);

/// The component by kind. Those that change are in cells, so that a component that calls itself through the program is an
/// error and not a fault.
pub(crate) enum Built {
    Dataset(Arc<dyn Dataset>),
    Transform(Box<dyn Transform>),
    Model(RefCell<Box<dyn Model>>),
    Optimizer(RefCell<Box<dyn Optimizer>>),
    Scheduler(RefCell<Box<dyn Scheduler>>),
    Metric(RefCell<Box<dyn Metric>>),
    Handler(RefCell<Box<dyn Handler>>),
    Sink(RefCell<Box<dyn Sink>>),
}

impl Instance {
    /// A dataset.
    pub fn dataset(dataset: impl Dataset + 'static) -> Instance {
        Instance(Built::Dataset(Arc::new(dataset)))
    }

    /// A transform.
    pub fn transform(transform: impl Transform + 'static) -> Instance {
        Instance(Built::Transform(Box::new(transform)))
    }

    /// A model.
    pub fn model(model: impl Model + 'static) -> Instance {
        Instance(Built::Model(RefCell::new(Box::new(model))))
    }

    /// An optimizer.
    pub fn optimizer(optimizer: impl Optimizer + 'static) -> Instance {
        Instance(Built::Optimizer(RefCell::new(Box::new(optimizer))))
    }

    /// A scheduler.
    pub fn scheduler(scheduler: impl Scheduler + 'static) -> Instance {
        Instance(Built::Scheduler(RefCell::new(Box::new(scheduler))))
    }

    /// A metric.
    pub fn metric(metric: impl Metric + 'static) -> Instance {
        Instance(Built::Metric(RefCell::new(Box::new(metric))))
    }

    /// A handler.
    pub fn handler(handler: impl Handler + 'static) -> Instance {
        Instance(Built::Handler(RefCell::new(Box::new(handler))))
    }

    /// A sink.
    pub fn sink(sink: impl Sink + 'static) -> Instance {
        Instance(Built::Sink(RefCell::new(Box::new(sink))))
    }

    /// What kind of node it is.
    pub fn kind(&self) -> Kind {
        match &self.0 {
            Built::Dataset(_) => Kind::Dataset,
            Built::Transform(_) => Kind::Transform,
            Built::Model(_) => Kind::Model,
            Built::Optimizer(_) => Kind::Optimizer,
            Built::Scheduler(_) => Kind::Scheduler,
            Built::Metric(_) => Kind::Metric,
            Built::Handler(_) => Kind::Handler,
            Built::Sink(_) => Kind::Sink,
        }
    }

    /// The instance, when it is of that kind.
    pub(crate) fn of_kind(self, kind: Kind) -> Result<Instance> {
        ensure!(self.kind() == kind, "a component of kind {kind} built {}", self.kind().with_article());
        Ok(self)
    }

    pub(crate) fn serve(&self, method: u32, input: Input<'_>) -> Result<Message> {
        match &self.0 {
            Built::Dataset(dataset) => dataset::serve(&**dataset, method, input),
            Built::Transform(transform) => transform::serve(&**transform, method, input),
            Built::Model(model) => model::serve(model, method, input),
            Built::Optimizer(optimizer) => optimizer::serve(optimizer, method, input),
            Built::Scheduler(scheduler) => scheduler::serve(scheduler, method, input),
            Built::Metric(metric) => metric::serve(metric, method, input),
            Built::Handler(handler) => handler::serve(handler, method, input),
            Built::Sink(sink) => sink::serve(sink, method, input),
        }
    }
}
