//! What an author writes: a documented configuration struct, and what is built of it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::boundary::{Input, Remote};
use crate::contract::{Contract, Property};
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
use crate::{Kind, NodeId};

/// A component: the configuration struct of one `type` of one kind.
///
/// [`crate::config`] before the struct makes it one; its doc comment is the component's documentation, the first paragraph
/// being the summary; the doc comments of its fields document the options. Fields of type [`Ref`] are ports.
pub trait Component: DeserializeOwned + Serialize + JsonSchema + 'static {
    /// What kind of node it makes: any but loader and engine.
    const KIND: Kind;
    /// The value of `type`.
    const TYPE: &'static str;
    /// A pipeline excerpt that shows it in use: TOML with the nodes it refers to.
    const EXAMPLE: &'static str;

    /// Properties of a dataset that other nodes may read.
    fn properties() -> &'static [Property] {
        &[]
    }

    /// The fields it reads and writes.
    fn contract(&self) -> Contract {
        Contract::default()
    }

    /// Names of the values it produces (`AP`, `accuracy`), which a `monitor` may name.
    fn values(&self) -> Vec<String> {
        Vec::new()
    }

    /// Checks beyond types and ranges, such as two options that exclude each other. Pure: no disk, no device.
    fn check(&self, _problems: &mut Problems) {}

    /// Makes the component. May open files and devices.
    ///
    /// # Errors
    /// What is wrong with the outside world, named for people.
    fn build(self, ctx: &mut Build) -> Result<Instance>;
}

/// What [`Component::check`] finds: messages, each at an option of the node.
#[derive(Debug, Default)]
pub struct Problems {
    /// The path of the option (`["best", "mode"]`), the message, and what to do.
    pub found: Vec<Problem>,
}

/// One finding of [`Component::check`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Problem {
    /// Keys from the node down to the option.
    pub path: Vec<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Problems {
    /// Says that the option at `path` (keys joined by dots) is wrong.
    pub fn at(&mut self, path: &str, message: impl Into<String>, help: impl Into<String>) {
        let path = path.split('.').filter(|key| !key.is_empty()).map(str::to_owned).collect();
        self.found.push(Problem { path, message: message.into(), help: Some(help.into()) });
    }
}

/// Why a table is not a valid configuration: where and what.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConfigError {
    /// Keys and indices from the node down to the value.
    pub path: Vec<String>,
    /// What is wrong with it.
    pub message: String,
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
    Dataset(Box<dyn Dataset>),
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
        Instance(Built::Dataset(Box::new(dataset)))
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
