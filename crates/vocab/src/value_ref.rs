//! The names of measured values.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::{Kind, NodeId};

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
