//! Option types that name other nodes or hold components in place.
//!
//! Each writes a mark into the JSON schema (`x-port`, `x-component`), by which the plan finds data edges without knowing any
//! component. Ports of one kind are `pipe_plugin::Ref`.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;

use pipe_plugin::port::Port;
use pipe_plugin::{Dataset, Metric, Model, Sink, Transform};
use pipe_vocab::{Kind, NodeId};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::instance::Instance;
use crate::Shared;
use crate::engine::Engine;
use crate::kinds::handler::Handler;
use crate::kinds::loader::Loader;
use crate::kinds::optimizer::Optimizer;
use crate::kinds::scheduler::Scheduler;

/// What a port of the program can hold: `dyn Dataset`, `dyn Model`, …
pub trait PortKind: Port {
    /// How a built node is shared.
    type Shared: Clone;
    /// The built node, when it is of this kind.
    fn from_instance(instance: &Instance) -> Option<Self::Shared>;
}

macro_rules! port_kind {
    ($kind:ident, $port:ty, $shared:ty) => {
        impl PortKind for $port {
            type Shared = $shared;

            fn from_instance(instance: &Instance) -> Option<Self::Shared> {
                match instance {
                    Instance::$kind(node) => Some(node.clone()),
                    _ => None,
                }
            }
        }
    };
}

macro_rules! port {
    ($kind:ident, $port:ty) => {
        impl Port for $port {
            const KIND: Kind = Kind::$kind;
        }
    };
}

port!(Loader, dyn Loader);
port!(Optimizer, dyn Optimizer);
port!(Scheduler, dyn Scheduler);
port!(Handler, dyn Handler);
port!(Engine, Engine);
port_kind!(Dataset, dyn Dataset, Arc<dyn Dataset>);
port_kind!(Transform, dyn Transform, Arc<dyn Transform>);
port_kind!(Loader, dyn Loader, Shared<dyn Loader>);
port_kind!(Model, dyn Model, Shared<dyn Model>);
port_kind!(Optimizer, dyn Optimizer, Shared<dyn Optimizer>);
port_kind!(Scheduler, dyn Scheduler, Shared<dyn Scheduler>);
port_kind!(Metric, dyn Metric, Shared<dyn Metric>);
port_kind!(Engine, Engine, Rc<Engine>);
port_kind!(Handler, dyn Handler, Shared<dyn Handler>);
port_kind!(Sink, dyn Sink, Shared<dyn Sink>);

/// A node whose records are consumed: an engine, a handler or a metric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Source(pub NodeId);

impl JsonSchema for Source {
    fn schema_name() -> Cow<'static, str> {
        "source".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(engine|handler|metric)\\.[A-Za-z0-9_-]+$",
            "x-port": ["engine", "handler", "metric"],
        })
    }
}

/// A component written in place, as a table with its own `type` (a step of `transform.compose`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nested<K: NestedKind> {
    /// The table, `type` included.
    pub table: serde_json::Map<String, serde_json::Value>,
    #[serde(skip)]
    kind: PhantomData<K>,
}

/// Which kind of component a [`Nested`] table holds.
pub trait NestedKind: 'static {
    /// That kind.
    const KIND: Kind;
}

/// Marks [`Nested`] transforms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransformKind;

impl NestedKind for TransformKind {
    const KIND: Kind = Kind::Transform;
}

/// Marks [`Nested`] schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerKind;

impl NestedKind for SchedulerKind {
    const KIND: Kind = Kind::Scheduler;
}

impl<K: NestedKind> JsonSchema for Nested<K> {
    fn schema_name() -> Cow<'static, str> {
        format!("nested_{}", K::KIND).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "x-component": K::KIND.as_str() })
    }
}
