//! Paths in a pipeline, which start from the file that wrote them.

use std::path::{Component, Path, PathBuf};

use pipe_vocab::PathValue;

use super::document::Document;
use super::{PathBase, PathSegment};
use crate::diagnostic::Sources;

impl Document {
    /// The value at the end of the steps as a path: absolute where the working directory is, `~` expanded, `.` and `..`
    /// taken out; `builtin:NAME` and `torchvision:NAME` as they are. `None` where there is no string.
    pub fn resolve_path(&self, pointer: &[PathSegment], sources: &Sources) -> Option<String> {
        let node = self.get_at(pointer)?;
        let text = node.as_str()?;
        if text.is_empty() || PathValue::is_name(text) {
            return Some(text.to_owned());
        }
        if let Some(home) = self.home() {
            if text == "~" {
                return Some(home.display().to_string());
            }
            if let Some(rest) = text.strip_prefix("~/") {
                return Some(home.join(rest).display().to_string());
            }
        }
        let folder = match node.origin.base {
            PathBase::Source(source) if source == self.main() => self.folder(sources),
            PathBase::Source(source) => sources.folder(source),
            PathBase::WorkingDirectory => sources.working_directory(),
        };
        let path = sources.working_directory().join(folder).join(text);
        Some(normalize(&path).display().to_string())
    }
}

/// Takes `.` and `..` out of a path by its text alone; a leading `..` stays.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => match clean.components().next_back() {
                Some(Component::Normal(_)) => {
                    clean.pop();
                }
                Some(Component::RootDir) => {}
                _ => clean.push(".."),
            },
            other => clean.push(other),
        }
    }
    clean
}
