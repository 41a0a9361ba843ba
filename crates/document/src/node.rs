//! The tree: what TOML can say, each value with its place and origin.

use indexmap::IndexMap;

use super::{Layer, Origin};
use crate::diagnostic::Location;

/// A value of the tree, its place and its origin.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it is written. A value made from variables stands where they are used; a table under a header is its header.
    pub location: Location,
    /// The layer and the variables that it came from.
    pub origin: Origin,
}

/// What TOML can say.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    String(String),
    /// An integer.
    Integer(i64),
    /// A number with a fraction or exponent, `inf` or `nan`.
    Float(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A date, a time or both, as written.
    Datetime(String),
    /// Values in order.
    Array(Vec<Node>),
    /// Named values in order.
    Table(Table),
}

/// A value and the place of its key.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where the key is written.
    pub key: Location,
    /// The value.
    pub node: Node,
}

/// Named values in the order of writing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    entries: IndexMap<String, Entry>,
    pub(super) form: Form,
}

/// How a table was written; only the rules about defining a table twice care.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `{ … }`, closed after its brace.
    Inline,
    /// Under its own `[header]`.
    #[default]
    Header,
    /// Only as the way to a deeper header.
    Implicit,
    /// By dotted keys.
    Dotted,
}

impl Node {
    /// A plain value at a place.
    pub fn new(value: Value, location: Location, layer: Layer) -> Self {
        let origin = Origin::plain(layer, location.source);
        Self { value, location, origin }
    }

    /// The text, if it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The table, if it is one.
    pub fn as_table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The value as JSON: key order kept, integers and floats apart.
    ///
    /// JSON has no `inf` and `nan`, and no dates: these become strings, as TOML writes them.
    pub fn to_json(&self) -> serde_json::Value {
        self.value.to_json()
    }
}

impl Value {
    /// What people call this kind of value: `string`, `integer`, `float`, `boolean`, `date`, `array` or `table`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "string",
            Self::Integer(_) => "integer",
            Self::Float(_) => "float",
            Self::Boolean(_) => "boolean",
            Self::Datetime(_) => "date",
            Self::Array(_) => "array",
            Self::Table(_) => "table",
        }
    }

    /// The value as JSON, see [`Node::to_json`].
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::String(text) | Self::Datetime(text) => Json::String(text.clone()),
            Self::Integer(number) => Json::from(*number),
            Self::Float(number) => serde_json::Number::from_f64(*number)
                .map_or_else(|| Json::String(number.to_string().to_lowercase()), Json::Number),
            Self::Boolean(flag) => Json::Bool(*flag),
            Self::Array(items) => items.iter().map(Node::to_json).collect(),
            Self::Table(table) => table.to_json(),
        }
    }
}

impl Table {
    pub(super) fn with_form(form: Form) -> Self {
        Self { entries: IndexMap::new(), form }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key).map(|entry| &entry.node)
    }

    /// The value of a key and the place of the key.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn entry_mut(&mut self, key: &str) -> Option<&mut Entry> {
        self.entries.get_mut(key)
    }

    /// Sets a key: an existing one keeps its place in the order.
    pub fn insert(&mut self, key: impl Into<String>, entry: Entry) -> Option<Entry> {
        self.entries.insert(key.into(), entry)
    }

    /// Takes a key out; the order of the others stays.
    pub fn remove(&mut self, key: &str) -> Option<Entry> {
        self.entries.shift_remove(key)
    }

    /// Keys, their places and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Entry)> {
        self.entries.iter_mut().map(|(key, entry)| (key.as_str(), entry))
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (String, Entry)> {
        self.entries.into_iter()
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The table as a JSON object, see [`Node::to_json`].
    pub fn to_json(&self) -> serde_json::Value {
        let members = self.iter().map(|(key, entry)| (key.to_owned(), entry.node.to_json()));
        serde_json::Value::Object(members.collect())
    }
}
