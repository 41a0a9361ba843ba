//! A pipeline with everything applied.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::overrides::{Overrides, Retyped};
use super::pointer::{KeyOrValue, PathSegment};
use super::{Entry, Node, Table, Value, edges, parse};
use crate::diagnostic::{Location, SourceId, Sources};

/// A pipeline with everything applied: parents, profile, overrides, variables.
#[derive(Clone, Debug)]
pub struct Document {
    pub(super) main: SourceId,
    pub(super) root: Table,
    pub(super) vars: Table,
    /// What is about runs of the pipeline and no part of one: `sweep`, `submit`.
    pub(super) apart: Table,
    pub(super) profile: Option<String>,
    pub(super) overrides: Overrides,
    pub(super) home: Option<PathBuf>,
    pub(super) base: Option<PathBuf>,
    pub(super) redacted: BTreeSet<Vec<PathSegment>>,
}

impl Document {
    /// Sections in order (`pipeline`, kinds such as `model`, `on`), without `extends`, `vars`, `profile`, `sweep` and `submit`.
    pub fn root(&self) -> &Table {
        &self.root
    }

    /// `[vars]` with every value resolved.
    pub fn vars(&self) -> &Table {
        &self.vars
    }

    /// `[sweep]`: how runs of the pipeline are to differ. No run has it in its own.
    pub fn sweep(&self) -> Option<&Entry> {
        self.apart.entry("sweep")
    }

    /// `[submit.NAME]`: where runs of the pipeline are submitted to. No run has it in its own.
    pub fn submit(&self) -> Option<&Entry> {
        self.apart.entry("submit")
    }

    /// The text of the file that was named.
    pub fn main(&self) -> SourceId {
        self.main
    }

    /// The profile that was applied.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// What became of a node's keys when an override gave it another `type`.
    pub fn retyped(&self, kind: &str, name: &str) -> Option<&Retyped> {
        self.overrides.retyped.get(&[kind.to_owned(), name.to_owned()])
    }

    /// The value of a key as `--set` names it, such as `engine.trainer.max_epochs`, `vars.lr` or, of a named event edge,
    /// `on.images.every`.
    pub fn get_key(&self, key: &str) -> Option<&Node> {
        let mut pointer: Vec<_> = parse::key_names(key, self.main)?.into_iter().map(PathSegment::Key).collect();
        if let [PathSegment::Key(on), PathSegment::Key(name), ..] = &pointer[..]
            && on == "on"
        {
            pointer[1] = PathSegment::Index(edges::position(edges::of(&self.root)?, name)?);
        }
        self.find(&pointer)
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
    /// Takes a key of a node out.
    pub fn remove_option(&mut self, kind: &str, name: &str, option: &str) {
        if let Some(Value::Table(nodes)) = self.root.entry_mut(kind).map(|entry| &mut entry.node.value)
            && let Some(Value::Table(node)) = nodes.entry_mut(name).map(|entry| &mut entry.node.value)
        {
            node.remove(option);
        }
    }

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
