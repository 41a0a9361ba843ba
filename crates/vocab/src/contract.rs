//! What the plan may know of a component without building it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Names of sample and output fields, such as `image` or `masks`; the standard ones are in `pipe_plugin::data::fields`.
pub type FieldSet = BTreeSet<String>;

/// The fields a node reads and writes, for checking what a sample contains along the edges.
///
/// A dataset only adds; a transform needs, adds and removes; a model needs fields of the batch and adds outputs; a metric
/// needs both. Loaders and engines have no contract of their own: they join those of their ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contract {
    /// Fields that must be there.
    pub needs: FieldSet,
    /// Fields that a metric can do without: for each what the names of the values begin with that are not measured then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub wants: BTreeMap<String, String>,
    /// Fields that are there afterwards.
    pub adds: FieldSet,
    /// Fields that are gone afterwards.
    pub removes: FieldSet,
}

impl Contract {
    /// Needs these fields besides those said before.
    pub fn needs<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.needs.extend(fields.into_iter().map(str::to_owned));
        self
    }

    /// Can do without this field, but not measure the values whose names begin so.
    pub fn wants(mut self, field: &str, values: &str) -> Self {
        self.wants.insert(field.to_owned(), values.to_owned());
        self
    }

    /// Adds these fields besides those said before.
    pub fn adds<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.adds.extend(fields.into_iter().map(str::to_owned));
        self
    }

    /// Removes these fields besides those said before.
    pub fn removes<'a>(mut self, fields: impl IntoIterator<Item = &'a str>) -> Self {
        self.removes.extend(fields.into_iter().map(str::to_owned));
        self
    }

    /// The contract of `self` followed by `next`.
    pub fn then(mut self, next: &Contract) -> Self {
        self.needs.extend(next.needs.difference(&self.adds).cloned());
        self.adds = self.apply_to(&self.adds.clone(), next);
        self.removes.extend(next.removes.iter().cloned());
        self
    }

    fn apply_to(&self, fields: &FieldSet, next: &Contract) -> FieldSet {
        fields.difference(&next.removes).cloned().chain(next.adds.iter().cloned()).collect()
    }

    /// The fields after this node, given those before it.
    pub fn apply(&self, before: &FieldSet) -> FieldSet {
        self.apply_to(before, self)
    }
}

/// The type of a property that other nodes may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PropertyType {
    /// An integer.
    Integer,
    /// A number.
    Number,
    /// A string.
    String,
    /// A list of strings.
    Strings,
}

impl PropertyType {
    /// The type as a user reads it.
    pub fn as_str(self) -> &'static str {
        match self {
            PropertyType::Integer => "integer",
            PropertyType::Number => "number",
            PropertyType::String => "string",
            PropertyType::Strings => "array of strings",
        }
    }

    /// The type with its article, for sentences: "an integer".
    pub fn with_article(self) -> String {
        let article = match self {
            PropertyType::Integer | PropertyType::Strings => "an",
            PropertyType::Number | PropertyType::String => "a",
        };
        format!("{article} {}", self.as_str())
    }

    /// A value of the type, standing in for the real one while a plan is checked.
    pub fn stand_in(self) -> serde_json::Value {
        match self {
            PropertyType::Integer => 2.into(),
            PropertyType::Number => 1.0.into(),
            PropertyType::String => "".into(),
            PropertyType::Strings => serde_json::json!(["a", "b"]),
        }
    }
}

/// A value that a built node offers to others, read as `kind.name:property`.
#[derive(Debug, Clone, Copy)]
pub struct Property {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: PropertyType,
    /// What it is.
    pub doc: &'static str,
}

/// An event that a node fires, joined to targets by `[[on]]`.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// When it fires.
    pub doc: &'static str,
}
