//! The names of options that schedulers drive.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::kind::NodeId;

/// The full name of a numeric option of a node: `optimizer.sgd:weight_decay`, `optimizer.adam:betas[0]`,
/// `optimizer.sgd:groups[1].lr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The node.
    pub node: NodeId,
    /// The option: keys and indices from the node's table down to the number.
    pub option: String,
}

impl Target {
    /// Reads `kind.name:option`.
    pub fn parse(text: &str) -> Option<Target> {
        let (node, option) = text.split_once(':')?;
        (!option.is_empty()).then_some(())?;
        Some(Target { node: node.parse().ok()?, option: option.to_owned() })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.option)
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || format!("`{text}` is not the name of an option; write `optimizer.NAME:OPTION`");
        Target::parse(&text).ok_or_else(|| serde::de::Error::custom(wrong()))
    }
}

impl JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "target".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(optimizer|engine|handler)\\.[A-Za-z0-9_-]+:.+$",
            "x-target": ["optimizer", "engine", "handler"],
        })
    }
}
