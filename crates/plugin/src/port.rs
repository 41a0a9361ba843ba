//! Types for configuration fields with a meaning: other nodes, measured values, paths.
//!
//! Each writes a mark into the JSON schema (`x-port`, `x-metric`, `format`), by which the program finds it without knowing
//! the component.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use pipe_vocab::{Kind, NodeId};

use crate::kinds::dataset::Dataset;
use crate::kinds::metric::Metric;
use crate::kinds::model::Model;
use crate::kinds::optimizer::Optimizer;
use crate::kinds::sink::Sink;
use crate::kinds::transform::Transform;

/// What a port can hold. Ports of a plugin's components: `dyn Dataset`, `dyn Model`, `dyn Optimizer`.
pub trait Port: 'static {
    /// The kind of node that fits.
    const KIND: Kind;
}

impl Port for dyn Dataset {
    const KIND: Kind = Kind::Dataset;
}

impl Port for dyn Model {
    const KIND: Kind = Kind::Model;
}

impl Port for dyn Optimizer {
    const KIND: Kind = Kind::Optimizer;
}

impl Port for dyn Transform {
    const KIND: Kind = Kind::Transform;
}

impl Port for dyn Metric {
    const KIND: Kind = Kind::Metric;
}

impl Port for dyn Sink {
    const KIND: Kind = Kind::Sink;
}

/// A data edge: the full name of a node of the right kind. A port stands directly in the configuration struct, not deeper.
pub struct Ref<T: Port + ?Sized> {
    /// The node that fills the port.
    pub node: NodeId,
    kind: PhantomData<fn() -> Box<T>>,
}

impl<T: Port + ?Sized> Clone for Ref<T> {
    fn clone(&self) -> Self {
        Ref { node: self.node.clone(), kind: PhantomData }
    }
}

impl<T: Port + ?Sized> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({})", self.node)
    }
}

impl<T: Port + ?Sized> Serialize for Ref<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.node.serialize(serializer)
    }
}

impl<'de, T: Port + ?Sized> Deserialize<'de> for Ref<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let node = NodeId::deserialize(deserializer)?;
        if node.kind != T::KIND {
            return Err(serde::de::Error::custom(format!("expected {}, got `{node}`", T::KIND.with_article())));
        }
        Ok(Ref { node, kind: PhantomData })
    }
}

impl<T: Port + ?Sized> JsonSchema for Ref<T> {
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
