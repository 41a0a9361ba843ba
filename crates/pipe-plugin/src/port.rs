//! Types for configuration fields with a meaning: other nodes, measured values, paths.
//!
//! Each writes a mark into the JSON schema (`x-port`, `x-metric`, `format`), by which the program finds it without knowing
//! the component.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kinds::dataset::Dataset;
use crate::kinds::model::Model;
use crate::kinds::optimizer::Optimizer;
use crate::{Kind, NodeId};

/// What a port of a plugin's component can hold: `dyn Dataset`, `dyn Model`, `dyn Optimizer`.
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

/// The full name of a measured value: `metric.coco:segm/AP` or `engine.trainer:loss`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueRef {
    /// The metric or engine that produces the value.
    pub node: NodeId,
    /// The value's name there.
    pub value: String,
}

impl fmt::Display for ValueRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.value)
    }
}

impl Serialize for ValueRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ValueRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            serde::de::Error::custom(format!(
                "`{text}` is not the name of a value; write `metric.NAME:VALUE`, such as `metric.accuracy:accuracy`"
            ))
        };
        let (node, value) = text.split_once(':').ok_or_else(wrong)?;
        let node: NodeId = node.parse().map_err(|_| wrong())?;
        if value.is_empty() || !matches!(node.kind, Kind::Metric | Kind::Engine) {
            return Err(wrong());
        }
        Ok(ValueRef { node, value: value.to_owned() })
    }
}

impl JsonSchema for ValueRef {
    fn schema_name() -> Cow<'static, str> {
        "value_ref".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(metric|engine)\\.[A-Za-z0-9_-]+:.+$", "x-metric": true })
    }
}

/// A path in a component's configuration: a file, a folder, or `builtin:NAME`.
///
/// Relative to what? To the folder of the file in which the string stands. A string that starts with `${name}` counts
/// from the file in which the variable stands, so a parent's `root = "${data}/train"` moves with the `data` of the child.
/// What is typed into the shell (`--set`, values of the environment) counts from the working directory. `~` is the
/// home folder.
///
/// A component does not resolve anything: it has a field of this type, whose schema says `"format": "path"`, and the
/// plan resolves what stands in it before the configuration is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathValue(String);

impl PathValue {
    /// A path as text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `NAME` of `builtin:NAME`.
    pub fn builtin(&self) -> Option<&str> {
        self.0.strip_prefix("builtin:")
    }

    /// The path on disk; `None` for `builtin:NAME`.
    pub fn path(&self) -> Option<&Path> {
        self.builtin().is_none().then(|| Path::new(&self.0))
    }
}

impl JsonSchema for PathValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PathValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "path" })
    }
}
