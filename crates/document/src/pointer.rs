//! Places in the tree, and what they are in the file.

use super::{Entry, Node, Table, Value};
use crate::diagnostic::Location;

/// One step from a value to a value inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathSegment {
    /// The key of a table. On an array, a key of digits counts as an index, as in a JSON pointer.
    Key(String),
    /// The index of an array, from 0.
    Index(usize),
}

impl From<&str> for PathSegment {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for PathSegment {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// Which of the two to point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrValue {
    /// The key of the last step; for an element of an array, the element.
    Key,
    /// The value.
    Value,
}

/// What a step leads to: an entry of a table or an element of an array.
enum Found<'a> {
    Entry(&'a Entry),
    Element(&'a Node),
}

impl<'a> Found<'a> {
    fn node(&self) -> &'a Node {
        match self {
            Self::Entry(entry) => &entry.node,
            Self::Element(node) => node,
        }
    }
}

fn step<'a>(value: &'a Value, segment: &PathSegment) -> Option<Found<'a>> {
    match (value, segment) {
        (Value::Table(table), PathSegment::Key(key)) => table.entry(key).map(Found::Entry),
        (Value::Array(items), PathSegment::Index(index)) => items.get(*index).map(Found::Element),
        (Value::Array(items), PathSegment::Key(key)) => items.get(key.parse::<usize>().ok()?).map(Found::Element),
        _ => None,
    }
}

impl Table {
    /// The value at the end of the steps.
    pub fn get_at(&self, pointer: &[PathSegment]) -> Option<&Node> {
        let (first, rest) = pointer.split_first()?;
        let PathSegment::Key(key) = first else {
            return None;
        };
        self.get(key)?.get_at(rest)
    }
}

impl Node {
    /// The value at the end of the steps.
    pub fn get_at(&self, pointer: &[PathSegment]) -> Option<&Node> {
        pointer.iter().try_fold(self, |node, segment| Some(step(&node.value, segment)?.node()))
    }

    /// The place of the key or value at the end of the steps; where the steps lead nowhere, of the last value on the way.
    pub fn locate(&self, pointer: &[PathSegment], what: KeyOrValue) -> Location {
        let mut node = self;
        let mut location = &self.location;
        for (index, segment) in pointer.iter().enumerate() {
            let Some(found) = step(&node.value, segment) else {
                return node.location.clone();
            };
            node = found.node();
            let last = index + 1 == pointer.len();
            location = match &found {
                Found::Entry(entry) if last && what == KeyOrValue::Key => &entry.key,
                _ => &node.location,
            };
        }
        location.clone()
    }
}

/// Steps as text: `dataset`, `metrics[0]`, `best.monitor`.
pub fn path_text(path: &[PathSegment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            PathSegment::Key(key) if text.is_empty() => text.push_str(key),
            PathSegment::Key(key) => text.extend([".", key]),
            PathSegment::Index(index) => text.push_str(&format!("[{index}]")),
        }
    }
    text
}
