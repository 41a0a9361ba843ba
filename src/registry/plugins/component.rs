//! A plugin's component as the plan sees it, and its building.

use std::any::Any;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_plugin::plugin::{BuildPlace, BuiltComponent, Description, Inspected, LentPort, Plugin};
use serde_json::Value;

use super::Loaded;
use super::adapt::{Lent, PluggedDataset, PluggedHandler, PluggedOptimizer, PluggedScheduler};
use crate::registry::{ConfigError, Contract, ErasedComponent, Kind, NodeId, Problems};
use crate::run::{BuildContext, Instance, Shared};

/// A component of a plugin.
#[derive(Clone)]
pub struct PluginComponent {
    plugin: Plugin,
    plugin_name: String,
    library: Option<PathBuf>,
    kind: Kind,
    name: String,
}

impl PluginComponent {
    pub(super) fn new(plugin: Plugin, library: Option<PathBuf>, description: &Description) -> PluginComponent {
        let (kind, name) = (description.kind, description.name.clone());
        PluginComponent { plugin, plugin_name: plugin.name(), library, kind, name }
    }

    /// The plugin's name.
    pub fn plugin_name(&self) -> &str {
        &self.plugin_name
    }

    /// The plugin's version.
    pub fn plugin_version(&self) -> String {
        self.plugin.version()
    }

    /// The file that it was loaded from; none when it is compiled in.
    pub fn library(&self) -> Option<&Path> {
        self.library.as_deref()
    }

    /// The plugin, with these components.
    pub(super) fn loaded(&self, components: Vec<String>) -> Loaded {
        Loaded {
            name: self.plugin_name.clone(),
            version: self.plugin_version(),
            library: self.library.clone(),
            components,
        }
    }

    /// How many objects and replies of the plugin this program holds now.
    ///
    /// # Errors
    /// When the plugin does not answer.
    pub fn held(&self) -> Result<(usize, usize)> {
        self.plugin.held()
    }

    /// Reads a configuration (without its `type`); the plugin checks it then and there.
    ///
    /// # Errors
    /// What the plugin refuses; a panic of the plugin too.
    pub(crate) fn parse(&self, schema: &Value, config: Value) -> Result<Box<dyn ErasedComponent>, ConfigError> {
        let inspected = self.plugin.inspect(self.kind, &self.name, &config);
        let inspected =
            inspected.map_err(|error| ConfigError { path: Vec::new(), message: format!("{error:#}") })??;
        let ports = ports(schema, &config);
        Ok(Box::new(Configured { component: self.clone(), inspected, config, ports }))
    }
}

/// The nodes that a configuration names, by the marks in its schema: in its own options, and in lists of them.
fn ports(schema: &Value, config: &Value) -> Vec<NodeId> {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let ports = properties.filter(|(_, option)| is_port(option)).filter_map(|(name, _)| config.get(name));
    let texts = ports.flat_map(|value| match value {
        Value::Array(items) => items.iter().collect(),
        one => vec![one],
    });
    texts.filter_map(Value::as_str).filter_map(|text| text.parse().ok()).collect()
}

fn is_port(schema: &Value) -> bool {
    let branches = schema.get("anyOf").and_then(Value::as_array).into_iter().flatten();
    schema.get("x-port").is_some() || schema.get("items").is_some_and(is_port) || branches.into_iter().any(is_port)
}

/// A checked configuration.
struct Configured {
    component: PluginComponent,
    inspected: Inspected,
    config: Value,
    ports: Vec<NodeId>,
}

impl ErasedComponent for Configured {
    fn contract(&self) -> Contract {
        self.inspected.contract.clone()
    }

    fn values(&self) -> Vec<String> {
        self.inspected.values.clone()
    }

    fn check(&self, problems: &mut Problems) {
        problems.found.extend(self.inspected.problems.iter().cloned());
    }

    fn build(self: Box<Self>, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let mut lent = Vec::with_capacity(self.ports.len());
        let mut optimizer = None;
        for node in &self.ports {
            let mut port = LentPort { node: node.clone(), parameters: Vec::new(), dataset: None };
            match ctx.run.node(node)? {
                Instance::Model(model) => {
                    port.parameters = model.try_borrow().context("the model is at work")?.parameters();
                }
                Instance::Dataset(dataset) => port.dataset = Some(Box::new(Lent(dataset))),
                Instance::Optimizer(found) => optimizer = Some(found),
                _ => {}
            }
            lent.push(port);
        }
        let PluginComponent { plugin, kind, name, .. } = &self.component;
        let place =
            BuildPlace { node: ctx.node, device: ctx.run.device, seed: ctx.run.seed, folder: ctx.run.folder.path() };
        let built = plugin.build(*kind, name, &self.config, &place, lent)?;
        instance(built, ctx.node, optimizer)
    }

    fn to_json(&self) -> Value {
        self.inspected.config.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn instance(
    built: BuiltComponent,
    node: &NodeId,
    optimizer: Option<Shared<dyn crate::components::optimizer::Optimizer>>,
) -> Result<Instance> {
    Ok(match built {
        BuiltComponent::Transform(transform) => Instance::transform(transform),
        BuiltComponent::Model(model) => Instance::model(model),
        BuiltComponent::Metric(metric) => Instance::metric(metric),
        BuiltComponent::Sink(sink) => Instance::sink(sink),
        BuiltComponent::Dataset(dataset) => Instance::dataset(PluggedDataset(dataset)),
        BuiltComponent::Handler(handler) => Instance::handler(PluggedHandler::new(handler, node.clone())),
        BuiltComponent::Optimizer(optimizer) => Instance::optimizer(PluggedOptimizer::new(optimizer)?),
        BuiltComponent::Scheduler(scheduler) => {
            let optimizer = optimizer.with_context(|| {
                format!("{node} drives nothing: a scheduler of a plugin needs a port of type `Ref<dyn Optimizer>`")
            })?;
            Instance::scheduler(PluggedScheduler::new(scheduler, node.clone(), optimizer)?)
        }
    })
}
