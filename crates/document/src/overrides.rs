//! What putting layers on top of each other did that cannot be seen from the result.

use std::collections::BTreeMap;

use super::Layer;
use crate::diagnostic::Location;

/// A key that a layer took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unset {
    /// The key, from the root: `model`, `net`, `weights`. An event edge stands under its name: `on`, `images`.
    pub path: Vec<String>,
    /// Where that is written.
    pub location: Location,
    /// The layer that says so.
    pub layer: Layer,
}

/// A node that was given another `type` than in the layer below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retyped {
    /// The `type` before.
    pub from: String,
    /// Where the new one is written.
    pub at: Location,
    /// Where `type` came alone: keys that stand from before. Those that the new component does not have do not count.
    pub inherited: Vec<String>,
    /// Where it came with other keys, so that the node was replaced: the keys that it had, and where.
    pub dropped: Vec<(String, Location)>,
}

/// All of it, for one document.
#[derive(Clone, Debug, Default)]
pub(super) struct Overrides {
    /// In order; a key that is set again later is not in it.
    pub unset: Vec<Unset>,
    /// By kind and name.
    pub retyped: BTreeMap<[String; 2], Retyped>,
}

impl Overrides {
    /// A layer sets the value at a path.
    pub fn set(&mut self, path: &[String]) {
        self.unset.retain(|unset| !path.starts_with(&unset.path) && !unset.path.starts_with(path));
        if let [kind, name, key, ..] = path
            && let Some(retyped) = self.retyped.get_mut(&[kind.clone(), name.clone()])
        {
            retyped.inherited.retain(|inherited| inherited != key);
        }
    }

    /// A layer takes the value at a path away.
    pub fn unset(&mut self, unset: Unset) {
        match &unset.path[..] {
            [section] => self.retyped.retain(|[kind, _], _| kind != section),
            [kind, name] => drop(self.retyped.remove(&[kind.clone(), name.clone()])),
            path => self.set(path),
        }
        self.unset.push(unset);
    }
}
