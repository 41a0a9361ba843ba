//! Types for configuration fields that name other nodes.
//!
//! Each writes a mark into the JSON schema (`x-port`, `x-metric`, `x-component`), by which the plan finds data edges
//! without knowing any component.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use pipe_plugin::ValueRef;

use super::kind::{Kind, NodeId};
use crate::run::Instance;

/// A trait object that a port can hold: `dyn Dataset`, `dyn Model`, …
pub trait PortKind: 'static {
    /// The kind of node that fits.
    const KIND: Kind;
    /// How a built node is shared.
    type Shared: Clone;
    /// The built node, when it is of this kind.
    fn from_instance(instance: &Instance) -> Option<Self::Shared>;
}

/// A data edge: the full name of a node of the right kind.
pub struct Ref<T: PortKind + ?Sized> {
    /// The node that fills the port.
    pub node: NodeId,
    kind: PhantomData<fn() -> Box<T>>,
}

impl<T: PortKind + ?Sized> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Ref { node: self.node.clone(), kind: PhantomData }
    }
}

impl<T: PortKind + ?Sized> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({})", self.node)
    }
}

impl<T: PortKind + ?Sized> Serialize for Ref<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.node.serialize(serializer)
    }
}

impl<'de, T: PortKind + ?Sized> Deserialize<'de> for Ref<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = NodeId::deserialize(deserializer)?;
        if node.kind != T::KIND {
            return Err(serde::de::Error::custom(format!("expected {}, got `{node}`", T::KIND.with_article())));
        }
        Ok(Ref { node, kind: PhantomData })
    }
}

impl<T: PortKind + ?Sized> JsonSchema for Ref<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}_ref", T::KIND).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": format!("^{}\\.[A-Za-z0-9_-]+$", T::KIND),
            "x-port": [T::KIND.as_str()],
        })
    }
}

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
