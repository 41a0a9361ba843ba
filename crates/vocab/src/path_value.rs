//! Paths in options.

use std::borrow::Cow;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A path in a component's configuration: a file, a folder, `builtin:NAME` or `torchvision:NAME`.
///
/// Relative to what? To the folder of the file in which the string stands. A string that starts with `${name}` counts
/// from the file in which the variable stands, so a parent's `root = "${data}/train"` moves with the `data` of the child.
/// What is typed into the shell (`--set`, values of the environment) counts from the working directory. `~` is the
/// home folder.
///
/// A component does not resolve anything: it has a field of this type, whose schema says `"format": "path"`, and the
/// plan resolves what stands in it before the configuration is read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PathValue(String);

impl PathValue {
    /// A path as text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `NAME` of `builtin:NAME`.
    pub fn builtin(&self) -> Option<&str> {
        self.0.strip_prefix("builtin:")
    }

    /// `NAME` of `torchvision:NAME`: weights that torchvision publishes.
    pub fn torchvision(&self) -> Option<&str> {
        self.0.strip_prefix("torchvision:")
    }

    /// The path on disk; `None` for `builtin:NAME` and `torchvision:NAME`.
    pub fn path(&self) -> Option<&Path> {
        (!Self::is_name(&self.0)).then(|| Path::new(&self.0))
    }

    /// Whether a text names what the program has or gets by itself, and so is no path.
    pub fn is_name(text: &str) -> bool {
        text.starts_with("builtin:") || text.starts_with("torchvision:")
    }
}

impl JsonSchema for PathValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "PathValue".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "path" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_no_path() {
        let shapes = PathValue::new("builtin:shapes");
        assert_eq!((shapes.builtin(), shapes.path()), (Some("shapes"), None));
        let weights = PathValue::new("torchvision:resnet18");
        assert_eq!((weights.torchvision(), weights.path()), (Some("resnet18"), None));
        assert_eq!(PathValue::new("a/b").path(), Some(Path::new("a/b")));
    }
}
