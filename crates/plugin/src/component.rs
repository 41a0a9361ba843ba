//! What an author writes: a documented configuration struct, and what is built of it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use pipe_vocab::{Config, Kind, NodeId};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::boundary::{Remote, Served};
use crate::kinds::dataset::{Dataset, RemoteDataset};
use crate::kinds::handler::Handler;
use crate::kinds::metric::Metric;
use crate::kinds::model::Model;
use crate::kinds::optimizer::Optimizer;
use crate::kinds::scheduler::Scheduler;
use crate::kinds::sink::Sink;
use crate::kinds::transform::Transform;
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

/// `cpu`, `cuda:N` or `mps`.
pub(crate) fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Mps => "mps".to_owned(),
        _ => "cpu".to_owned(),
    }
}

fn device_of(name: &str) -> Device {
    let index = name.strip_prefix("cuda:").and_then(|index| index.parse().ok());
    match name {
        "mps" => Device::Mps,
        _ => index.map_or(Device::Cpu, Device::Cuda),
    }
}

/// A built component, of whichever kind.
pub struct Instance {
    kind: Kind,
    pub(crate) served: Box<dyn Served>,
}

impl Instance {
    fn of(kind: Kind, served: impl Served + 'static) -> Instance {
        Instance { kind, served: Box::new(served) }
    }

    /// A dataset.
    pub fn dataset(dataset: impl Dataset + 'static) -> Instance {
        Instance::of(Kind::Dataset, Arc::new(dataset) as Arc<dyn Dataset>)
    }

    /// A transform.
    pub fn transform(transform: impl Transform + 'static) -> Instance {
        Instance::of(Kind::Transform, Box::new(transform) as Box<dyn Transform>)
    }

    /// A model.
    pub fn model(model: impl Model + 'static) -> Instance {
        Instance::of(Kind::Model, RefCell::new(Box::new(model) as Box<dyn Model>))
    }

    /// An optimizer.
    pub fn optimizer(optimizer: impl Optimizer + 'static) -> Instance {
        Instance::of(Kind::Optimizer, RefCell::new(Box::new(optimizer) as Box<dyn Optimizer>))
    }

    /// A scheduler.
    pub fn scheduler(scheduler: impl Scheduler + 'static) -> Instance {
        Instance::of(Kind::Scheduler, RefCell::new(Box::new(scheduler) as Box<dyn Scheduler>))
    }

    /// A metric.
    pub fn metric(metric: impl Metric + 'static) -> Instance {
        Instance::of(Kind::Metric, RefCell::new(Box::new(metric) as Box<dyn Metric>))
    }

    /// A handler.
    pub fn handler(handler: impl Handler + 'static) -> Instance {
        Instance::of(Kind::Handler, RefCell::new(Box::new(handler) as Box<dyn Handler>))
    }

    /// A sink.
    pub fn sink(sink: impl Sink + 'static) -> Instance {
        Instance::of(Kind::Sink, RefCell::new(Box::new(sink) as Box<dyn Sink>))
    }

    /// What kind of node it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The instance, when it is of that kind.
    pub(crate) fn of_kind(self, kind: Kind) -> Result<Instance> {
        ensure!(self.kind == kind, "a component of kind {kind} built {}", self.kind.with_article());
        Ok(self)
    }
}
