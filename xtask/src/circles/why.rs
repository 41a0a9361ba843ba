//! Why there is an edge: the place in the code and what stands there.

use std::fmt;
use std::path::Path;

/// A place, and the path or name there.
#[derive(Clone)]
pub(crate) struct Why {
    file: String,
    line: usize,
    what: String,
}

impl Why {
    pub(crate) fn new(root: &Path, file: &Path, line: usize, what: &str) -> Self {
        Self { file: short(root, file), line, what: what.to_owned() }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.what)
    }
}

/// A file as seen from the checkout.
pub(crate) fn short(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).display().to_string()
}
