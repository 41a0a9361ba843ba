//! A pipeline with everything applied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::pointer::{KeyOrValue, PathSegment};
use super::{Node, Table, Value};
use crate::diagnostic::{Location, SourceId, Sources};

/// A pipeline with everything applied: parents, profile, overrides, variables.
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) main: SourceId,
    pub(super) root: Table,
    pub(super) vars: Table,
    pub(super) profile: Option<String>,
    pub(super) home: Option<PathBuf>,
    pub(super) base: Option<PathBuf>,
    pub(super) redacted: BTreeSet<Vec<PathSegment>>,
}

impl Document {
    /// Sections in order (`pipeline`, kinds such as `model`, `on`), without `extends`, `vars` and `profile`.
    pub fn root(&self) -> &Table {
        &self.root
    }

    /// `[vars]` with every value resolved.
    pub fn vars(&self) -> &Table {
        &self.vars
    }

    /// The text of the file that was named.
    pub fn main(&self) -> SourceId {
        self.main
    }

    /// The profile that was applied.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// The folder that relative paths of the main file start from.
    pub fn folder<'a>(&'a self, sources: &'a Sources) -> &'a Path {
        self.base.as_deref().unwrap_or_else(|| sources.folder(self.main))
    }

    /// The value at the end of the steps, which start with a kind such as `model`.
    pub fn get_at(&self, pointer: &[PathSegment]) -> Option<&Node> {
        self.root().get_at(pointer)
    }

    /// The place of the key or value at the end of the steps; where the steps lead nowhere, of the last value on the way.
    /// With nothing on the way, the start of the file.
    pub fn locate(&self, pointer: &[PathSegment], what: KeyOrValue) -> Location {
        let start = Location::new(self.main(), 0..0);
        let Some((PathSegment::Key(first), rest)) = pointer.split_first() else {
            return start;
        };
        match (self.root().entry(first), rest, what) {
            (None, ..) => start,
            (Some(entry), [], KeyOrValue::Key) => entry.key.clone(),
            (Some(entry), ..) => entry.node.locate(rest, what),
        }
    }
}

impl Document {
    /// Gives the value at the end of the steps another one, of the same place and origin.
    pub fn set_value(&mut self, pointer: &[PathSegment], value: Value) {
        let Some((PathSegment::Key(key), rest)) = pointer.split_first() else { return };
        let mut node = self.root.entry_mut(key).map(|entry| &mut entry.node);
        for segment in rest {
            node = node.and_then(|node| match (&mut node.value, segment) {
                (Value::Table(table), PathSegment::Key(key)) => table.entry_mut(key).map(|entry| &mut entry.node),
                (Value::Array(items), PathSegment::Index(index)) => items.get_mut(*index),
                _ => None,
            });
        }
        if let Some(node) = node {
            node.value = value;
        }
    }
}
