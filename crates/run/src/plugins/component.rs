//! A plugin's component as the plan sees it, and its building.

use std::any::Any;

use anyhow::{Context, Result};
use pipe_core::component::build::{Buildable, checked};
use pipe_core::{BuildContext, ConfigError, Contract, Instance, Kind, NodeId, Optimizer, Problems, Property, Shared};
use pipe_plugin::plugin::{BuildPlace, BuiltComponent, Description, Inspected, LentPort, Plugin};
use pipe_vocab::{Descriptor, Facts, PluginInfo};
use serde_json::Value;

use super::adapt::{PluggedHandler, PluggedOptimizer, PluggedScheduler};

/// The descriptor of a plugin's component. It lives as long as the program: plans point to it, and libraries are never closed.
pub(super) fn descriptor(plugin: Plugin, info: &PluginInfo, described: Description) -> &'static Descriptor {
    let text = |text: String| -> &'static str { text.leak() };
    let Description { kind, name, example, properties, schema, .. } = described;
    let (name, example) = (text(name), text(example));
    let properties = properties.into_iter().map(|(name, ty, doc)| Property { name: text(name), ty, doc: text(doc) });
    let properties: &'static [Property] = properties.collect::<Vec<_>>().leak();
    let component = Component { plugin, kind, name };
    let parse = Box::new(move |schema: &Value, config| {
        component.parse(schema, config).map(|configured| checked(Box::new(configured)))
    });
    Box::leak(Box::new(Descriptor::of_plugin((kind, name, example), properties, info.clone(), schema, parse)))
}

/// A component of a plugin.
#[derive(Clone, Copy)]
struct Component {
    plugin: Plugin,
    kind: Kind,
    name: &'static str,
}

impl Component {
    /// Reads a configuration (without its `type`); the plugin checks it then and there.
    fn parse(self, schema: &Value, config: Value) -> Result<Configured, ConfigError> {
        let inspected = self.plugin.inspect(self.kind, self.name, &config);
        let inspected =
            inspected.map_err(|error| ConfigError { path: Vec::new(), message: format!("{error:#}") })??;
        let ports = ports(schema, &config);
        Ok(Configured { component: self, inspected, config, ports })
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
    component: Component,
    inspected: Inspected,
    config: Value,
    ports: Vec<NodeId>,
}

impl Buildable for Configured {
    fn contract(&self) -> Contract {
        self.inspected.contract.clone()
    }

    fn values(&self) -> Vec<String> {
        self.inspected.values.clone()
    }

    fn facts(&self) -> Facts {
        Facts { unknown: true, ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        problems.found.extend(self.inspected.problems.iter().cloned());
    }

    fn build(&self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let mut lent = Vec::with_capacity(self.ports.len());
        let mut optimizer = None;
        for node in &self.ports {
            let mut port = LentPort { node: node.clone(), parameters: Vec::new(), dataset: None };
            match ctx.instance(node)?.clone() {
                Instance::Model(model) => {
                    port.parameters = model.try_borrow().context("the model is at work")?.parameters();
                }
                Instance::Dataset(dataset) => port.dataset = Some(dataset),
                Instance::Optimizer(found) => optimizer = Some(found),
                _ => {}
            }
            lent.push(port);
        }
        let Component { plugin, kind, name } = self.component;
        let place = BuildPlace { node: ctx.node, device: ctx.device, seed: ctx.seed, folder: ctx.folder() };
        let built = plugin.build(kind, name, &self.config, &place, lent)?;
        instance(built, ctx.node, optimizer)
    }

    fn to_json(&self) -> Value {
        self.inspected.config.clone()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn instance(built: BuiltComponent, node: &NodeId, optimizer: Option<Shared<dyn Optimizer>>) -> Result<Instance> {
    Ok(match built {
        BuiltComponent::Transform(transform) => Instance::transform(transform),
        BuiltComponent::Model(model) => Instance::model(model),
        BuiltComponent::Metric(metric) => Instance::metric(metric),
        BuiltComponent::Sink(sink) => Instance::sink(sink),
        BuiltComponent::Dataset(dataset) => Instance::dataset(dataset),
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
