//! The resolved pipeline as TOML, with origins or without.

use super::{Document, PathSegment};
use crate::diagnostic::Sources;

impl Document {
    /// Masks the value at the end of the steps in [`Document::show`] and [`Document::to_toml`].
    ///
    /// For values that a component's schema calls secret; values from the environment under a telling name are masked
    /// without being asked (see [`super::Origin::secret`]).
    pub fn redact(&mut self, pointer: &[PathSegment]) {
        let _ = pointer;
    }

    /// The resolved pipeline as TOML, each value with its origin in a comment.
    pub fn show(&self, sources: &Sources) -> String {
        let _ = sources;
        String::new()
    }

    /// The resolved pipeline as TOML without comments, for a run's folder. Parses to the same values again.
    pub fn to_toml(&self) -> String {
        String::new()
    }
}
