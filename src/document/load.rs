//! Loading: the file and its parents, then the profile, then `--set`, then variables.

use std::io;
use std::path::{Path, PathBuf};

use super::Table;
use crate::diagnostic::{Diagnostics, SourceId, Sources};

/// What to load with, and the only two ways in which loading touches the world.
pub struct LoadOptions<'a> {
    /// `--profile NAME`.
    pub profile: Option<String>,
    /// The arguments of each `--set`, in order.
    pub sets: Vec<String>,
    /// The folder that relative paths of the main file start from, where that is not the file's own. For the resolved
    /// copy of a pipeline that a run keeps.
    pub base: Option<PathBuf>,
    /// Reads an environment variable.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Reads a file.
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

impl Default for LoadOptions<'static> {
    /// No profile and no overrides; the environment and the disk of the process.
    fn default() -> Self {
        Self {
            profile: None,
            sets: Vec::new(),
            base: None,
            env: &|name| std::env::var(name).ok(),
            read: &|path| std::fs::read_to_string(path),
        }
    }
}

/// A pipeline with everything applied: parents, profile, overrides, variables.
#[derive(Clone, Debug)]
pub struct Document {
    main: SourceId,
    root: Table,
    vars: Table,
    profile: Option<String>,
    home: Option<PathBuf>,
    base: Option<PathBuf>,
}

impl Document {
    /// Reads a pipeline. `sources` receives every text read, for rendering the diagnostics and for [`Document::show`].
    ///
    /// As much of a document as there is comes back even with errors, so that later phases can report theirs too; it must
    /// not be run then. `None` only where the file itself cannot be read.
    pub fn load(
        path: &Path,
        options: &LoadOptions<'_>,
        sources: &mut Sources,
    ) -> (Option<Self>, Diagnostics) {
        let _ = (path, options, sources);
        (None, Diagnostics::new())
    }

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
}
