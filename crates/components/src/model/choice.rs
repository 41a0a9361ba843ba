//! An option that names one of torchvision's networks.

use std::borrow::Cow;
use std::fmt::Display;
use std::str::FromStr;

use pipe_vision::{BackboneKind, MobileNetV3Kind, ResNetKind, VggKind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A kind of networks, each with a name.
pub trait Named: Display + FromStr<Err = anyhow::Error> {
    /// All names.
    fn names() -> Vec<&'static str>;
}

impl Named for ResNetKind {
    fn names() -> Vec<&'static str> {
        Self::ALL.map(|(_, name)| name).to_vec()
    }
}

impl Named for VggKind {
    fn names() -> Vec<&'static str> {
        Self::ALL.map(|(_, name)| name).to_vec()
    }
}

impl Named for MobileNetV3Kind {
    fn names() -> Vec<&'static str> {
        Self::ALL.map(|(_, name)| name).to_vec()
    }
}

impl Named for BackboneKind {
    fn names() -> Vec<&'static str> {
        Self::names()
    }
}

/// A network by torchvision's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<K>(pub K);

impl<K: Named> Serialize for Choice<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, K: Named> Deserialize<'de> for Choice<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        K::from_str(&name).map(Choice).map_err(serde::de::Error::custom)
    }
}

impl<K: Named> JsonSchema for Choice<K> {
    fn schema_name() -> Cow<'static, str> {
        "network".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": K::names() })
    }
}
