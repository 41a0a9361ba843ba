//! A plugin as a whole: its components described, checked and built, on both sides of the border.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use pipe_vocab::config::parse;
use pipe_vocab::{ConfigError, Contract, Kind, NodeId, Problem, Problems, Property, PropertyType, schema_of};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Tensor};

use crate::abi::{self, Calls, Handle, PluginTable, Refusal, Reply, Request};
use crate::boundary::{self, Input, Output, Remote, lend, release};
use crate::component::{Build, BuiltPort, Component, Instance, Place, device_name};
use crate::kinds::dataset::Dataset;
pub use crate::kinds::dataset::RemoteDataset;
pub use crate::kinds::handler::RemoteHandler;
pub use crate::kinds::metric::RemoteMetric;
pub use crate::kinds::model::RemoteModel;
pub use crate::kinds::optimizer::RemoteOptimizer;
pub use crate::kinds::scheduler::RemoteScheduler;
pub use crate::kinds::sink::RemoteSink;
pub use crate::kinds::transform::RemoteTransform;
use crate::message::{Message, Wire};

const DESCRIBE: u32 = 1;
const INSPECT: u32 = 2;
const BUILD: u32 = 3;
const HELD: u32 = 4;

/// A component as `export!` lists it.
pub struct Entry {
    kind: Kind,
    name: &'static str,
    example: &'static str,
    properties: fn() -> &'static [Property],
    schema: fn() -> Value,
    inspect: fn(Value) -> Result<Inspected, ConfigError>,
    build: fn(Value, &mut Build) -> Result<Instance>,
}

impl Entry {
    /// The entry of a component.
    pub const fn of<C: Component>() -> Entry {
        Entry {
            kind: C::KIND,
            name: C::TYPE,
            example: C::EXAMPLE,
            properties: C::properties,
            schema: schema_of::<C>,
            inspect: inspect::<C>,
            build: build::<C>,
        }
    }
}

fn inspect<C: Component>(config: Value) -> Result<Inspected, ConfigError> {
    let component = parse::<C>(config)?;
    let mut problems = Problems::default();
    component.check(&mut problems);
    Ok(Inspected {
        contract: component.contract(),
        values: component.values(),
        problems: problems.found,
        config: serde_json::to_value(&component).unwrap_or(Value::Null),
    })
}

fn build<C: Component>(config: Value, ctx: &mut Build) -> Result<Instance> {
    let component = parse::<C>(config).map_err(|e| anyhow::anyhow!("option `{}`: {}", e.path.join("."), e.message))?;
    component.build(ctx)?.of_kind(C::KIND)
}

/// What the program learns of a configuration without building it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Inspected {
    /// See [`Component::contract`].
    pub contract: Contract,
    /// See [`Component::values`].
    pub values: Vec<String>,
    /// What [`Component::check`] found.
    pub problems: Vec<Problem>,
    /// The configuration with defaults filled in.
    pub config: Value,
}

/// What the program learns of a component.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// What kind of node it makes.
    pub kind: Kind,
    /// The value of `type`.
    pub name: String,
    /// A pipeline excerpt that shows it in use.
    pub example: String,
    /// The configuration's JSON schema, with the documentation.
    pub schema: Value,
    /// Properties that other nodes may read: name, type, documentation.
    pub properties: Vec<(String, PropertyType, String)>,
}

impl Entry {
    fn describe(&self) -> Description {
        let property = |p: &Property| (p.name.to_owned(), p.ty, p.doc.to_owned());
        Description {
            kind: self.kind,
            name: self.name.to_owned(),
            example: self.example.to_owned(),
            schema: (self.schema)(),
            properties: (self.properties)().iter().map(property).collect(),
        }
    }
}

/// Answers a call of the plugin itself: what the table of `export!` points to.
///
/// # Safety
/// As [`Calls::call`].
#[doc(hidden)]
pub unsafe fn call(entries: &[Entry], request: *const Request, reply: *mut Reply) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { boundary::answer(request, reply, |method, input| serve(entries, method, input)) }
}

/// The table of a crate; what `export!` calls.
#[doc(hidden)]
pub const fn table(
    name: &'static str,
    version: &'static str,
    components: usize,
    call: unsafe extern "C" fn(*mut std::ffi::c_void, *const Request, *mut Reply) -> u32,
) -> PluginTable {
    PluginTable::new(name, version, components, Calls { call, release, drop: boundary::drop_object })
}

fn serve(entries: &[Entry], method: u32, mut input: Input<'_>) -> Result<Output> {
    if method == DESCRIBE {
        let all: Vec<Description> = entries.iter().map(Entry::describe).collect();
        return Ok(Message::plain(&serde_json::to_string(&all)?)?.into());
    }
    if method == HELD {
        return Ok(Message::plain(&boundary::held())?.into());
    }
    let (kind, name): (Kind, String) = input.reader.get()?;
    let entry = entries.iter().find(|entry| entry.kind == kind && entry.name == name);
    let entry = entry.with_context(|| format!("the plugin has no component {kind}.{name}"))?;
    let config = input.reader.json()?;
    match method {
        INSPECT => Ok(Message::plain(&serde_json::to_string(&(entry.inspect)(config))?)?.into()),
        BUILD => {
            let place = input.reader.get()?;
            let ports = ports(&mut input)?;
            let instance = (entry.build)(config, &mut Build { place, ports })?;
            Ok(Output { message: Message::default(), object: Some(instance.served) })
        }
        other => bail!("a plugin has no method {other}"),
    }
}

fn ports(input: &mut Input<'_>) -> Result<Vec<BuiltPort>> {
    let mut datasets = std::mem::take(&mut input.objects).into_iter();
    let count: usize = input.reader.get()?;
    let reader = &mut input.reader;
    let mut one = || {
        let (node, has_dataset): (NodeId, bool) = reader.get()?;
        let parameters = Vec::unpack(reader)?;
        let dataset = if has_dataset { Some(datasets.next().context("a dataset is missing")?) } else { None };
        Ok(BuiltPort { node, parameters, dataset })
    };
    (0..count).map(|_| one()).collect()
}

/// A plugin that is compiled in; collected by the program.
pub struct Linked(pub &'static PluginTable);

inventory::collect!(Linked);

/// All plugins that are compiled in.
pub fn linked() -> impl Iterator<Item = &'static PluginTable> {
    inventory::iter::<Linked>.into_iter().map(|linked| linked.0)
}

/// A plugin as the program uses it.
#[derive(Clone, Copy)]
pub struct Plugin {
    table: &'static PluginTable,
}

/// A node that a port of a plugin's component names, as the program lends it.
pub struct LentPort {
    /// Its name.
    pub node: NodeId,
    /// The trainable parameters, of a model.
    pub parameters: Vec<(String, Tensor)>,
    /// The dataset itself.
    pub dataset: Option<Arc<dyn Dataset>>,
}

/// Where a component of a plugin is built.
pub struct BuildPlace<'a> {
    /// The node's own name.
    pub node: &'a NodeId,
    /// Where models and batches lie.
    pub device: Device,
    /// The seed of the run.
    pub seed: u64,
    /// The run's folder.
    pub folder: &'a Path,
}

/// A component that a plugin built.
pub enum BuiltComponent {
    /// A dataset.
    Dataset(RemoteDataset),
    /// A transform.
    Transform(RemoteTransform),
    /// A model.
    Model(RemoteModel),
    /// An optimizer.
    Optimizer(RemoteOptimizer),
    /// A scheduler.
    Scheduler(RemoteScheduler),
    /// A metric.
    Metric(RemoteMetric),
    /// A handler.
    Handler(RemoteHandler),
    /// A sink.
    Sink(RemoteSink),
}

impl Plugin {
    /// A plugin that agrees with this program.
    ///
    /// # Errors
    /// The first field of the handshake that differs.
    ///
    /// # Safety
    /// The table must be one that a plugin exports, in a library that is never closed.
    pub unsafe fn new(table: *const PluginTable) -> Result<Plugin, Refusal> {
        // SAFETY: the caller's promise.
        unsafe { abi::handshake(table) }?;
        // SAFETY: the handshake passed, so a whole table lies there, and it is never freed.
        Ok(Plugin { table: unsafe { &*table } })
    }

    /// The plugin's crate.
    pub fn name(&self) -> String {
        // SAFETY: the handshake passed, and the library is never closed.
        unsafe { self.table.name.read() }
    }

    /// The version of the plugin's crate.
    pub fn version(&self) -> String {
        // SAFETY: as above.
        unsafe { self.table.version.read() }
    }

    fn remote(&self) -> Remote {
        Remote::plugin(&self.table.calls, format!("plugin {} {}", self.name(), self.version()))
    }

    /// Its components.
    ///
    /// # Errors
    /// When the plugin fails while it describes them.
    pub fn describe(&self) -> Result<Vec<Description>> {
        let answer = self.remote().call(DESCRIBE, &Message::default())?;
        let all: Vec<Description> = serde_json::from_str(&answer.reader().get::<String>()?)?;
        let said = self.table.components as usize;
        ensure!(all.len() == said, "{} describes {} components and lists {said}", self.name(), all.len());
        Ok(all)
    }

    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// The outer error when the plugin panics; the inner one when the configuration does not fit.
    pub fn inspect(&self, kind: Kind, name: &str, config: &Value) -> Result<Result<Inspected, ConfigError>> {
        let mut message = Message::plain(&(kind, name))?;
        message.json(config)?;
        let answer = self.remote().call(INSPECT, &message)?;
        Ok(serde_json::from_str(&answer.reader().get::<String>()?)?)
    }

    /// Builds a component.
    ///
    /// # Errors
    /// Those of the component; a panic is one.
    pub fn build(
        &self,
        kind: Kind,
        name: &str,
        config: &Value,
        place: &BuildPlace<'_>,
        ports: Vec<LentPort>,
    ) -> Result<BuiltComponent> {
        let mut message = Message::plain(&(kind, name))?;
        message.json(config)?;
        message.put(&Place {
            node: place.node.clone(),
            device: device_name(place.device),
            seed: place.seed,
            folder: place.folder.to_owned(),
        })?;
        message.put(&ports.len())?;
        let mut objects: Vec<Handle> = Vec::new();
        for port in ports {
            message.put(&(&port.node, port.dataset.is_some()))?;
            port.parameters.pack(&mut message)?;
            objects.extend(port.dataset.map(|dataset| lend(Box::new(dataset))));
        }
        let answer = self.remote().call_with(BUILD, &message, objects)?;
        let label = format!("{} (plugin {} {})", place.node, self.name(), self.version());
        let remote = answer.object(label)?;
        Ok(match kind {
            Kind::Dataset => BuiltComponent::Dataset(RemoteDataset::new(remote)?),
            Kind::Transform => BuiltComponent::Transform(RemoteTransform::new(remote)?),
            Kind::Model => BuiltComponent::Model(RemoteModel::new(remote)?),
            Kind::Optimizer => BuiltComponent::Optimizer(RemoteOptimizer::new(remote)),
            Kind::Scheduler => BuiltComponent::Scheduler(RemoteScheduler::new(remote)),
            Kind::Metric => BuiltComponent::Metric(RemoteMetric::new(remote)),
            Kind::Handler => BuiltComponent::Handler(RemoteHandler::new(remote)),
            Kind::Sink => BuiltComponent::Sink(RemoteSink::new(remote)),
            Kind::Loader | Kind::Engine => bail!("a plugin cannot make {}", kind.with_article()),
        })
    }

    /// How many objects and replies of the plugin the program holds now: a leak where nothing should be held.
    ///
    /// # Errors
    /// When the plugin does not answer.
    pub fn held(&self) -> Result<(usize, usize)> {
        self.remote().call(HELD, &Message::default())?.reader().get()
    }
}

/// Makes the crate a plugin: `pipe_plugin::export! { Gain, Blur }` lists its components.
///
/// Compiled into the program, the crate registers itself; as a `cdylib`, it is found by the symbol that this exports.
#[macro_export]
macro_rules! export {
    ($($component:ty),+ $(,)?) => {
        #[allow(unsafe_code)]
        const _: () = {
            static ENTRIES: &[$crate::plugin::Entry] = &[$($crate::plugin::Entry::of::<$component>()),+];

            /// # Safety
            /// As `pipe_plugin::abi::Calls::call`.
            unsafe extern "C" fn call(
                _object: *mut ::std::ffi::c_void,
                request: *const $crate::abi::Request,
                reply: *mut $crate::abi::Reply,
            ) -> u32 {
                // SAFETY: the caller's promise is that of this function.
                unsafe { $crate::plugin::call(ENTRIES, request, reply) }
            }

            #[used]
            // SAFETY: the name is the crate's own: it begins as no other symbol does and ends with the crate's name.
            #[unsafe(export_name = concat!("pipe_plugin_table_", env!("CARGO_CRATE_NAME")))]
            static TABLE: $crate::abi::PluginTable =
                $crate::plugin::table(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"), ENTRIES.len(), call);

            $crate::inventory::submit! { $crate::plugin::Linked(&TABLE) }
        };
    };
}
