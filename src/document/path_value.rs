//! Paths in a pipeline, which start from the file that wrote them.

use std::path::{Component, Path, PathBuf};

pub use pipe_plugin::PathValue;
use serde_json::Value as Json;

use super::{Document, PathBase, PathSegment};
use crate::diagnostic::Sources;

impl Document {
    /// The value at the end of the steps as a path: absolute where the working directory is, `~` expanded, `.` and `..`
    /// taken out; `builtin:NAME` as it is. `None` where there is no string.
    pub fn resolve_path(&self, pointer: &[PathSegment], sources: &Sources) -> Option<String> {
        let node = self.get_at(pointer)?;
        let text = node.as_str()?;
        if text.is_empty() || text.starts_with("builtin:") {
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

    /// Resolves the paths in the JSON of the node at `pointer`: every string for which `schema` says `"format": "path"`.
    pub fn resolve_paths(&self, pointer: &[PathSegment], json: &mut Json, schema: &Json, sources: &Sources) {
        let walk = Walk { document: self, root: schema, sources };
        walk.visit(&mut pointer.to_vec(), json, schema, 0);
    }
}

/// A walk of a value along its schema.
struct Walk<'a> {
    document: &'a Document,
    root: &'a Json,
    sources: &'a Sources,
}

impl Walk<'_> {
    /// References between definitions may go round; values and schemas are nested less than this.
    const MAX_DEPTH: usize = 256;

    fn visit(&self, pointer: &mut Vec<PathSegment>, json: &mut Json, schema: &Json, depth: usize) {
        if depth > Self::MAX_DEPTH || !applies(json, schema) {
            return;
        }
        if schema["format"] == "path" && json.is_string() {
            if let Some(path) = self.document.resolve_path(pointer, self.sources) {
                *json = Json::String(path);
            }
            return;
        }
        let reference = schema["$ref"].as_str().and_then(|text| text.strip_prefix('#'));
        if let Some(target) = reference.and_then(|target| self.root.pointer(target)) {
            self.visit(pointer, json, target, depth + 1);
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            for branch in schema[keyword].as_array().into_iter().flatten() {
                let before = json.clone();
                self.visit(pointer, json, branch, depth + 1);
                if *json != before && keyword != "allOf" {
                    break;
                }
            }
        }
        self.visit_inside(pointer, json, schema, depth);
    }

    fn visit_inside(&self, pointer: &mut Vec<PathSegment>, json: &mut Json, schema: &Json, depth: usize) {
        match json {
            Json::Object(members) => {
                for (key, value) in members {
                    let named = schema["properties"].get(key);
                    if let Some(inner) = named.or_else(|| schema.get("additionalProperties")) {
                        pointer.push(PathSegment::Key(key.clone()));
                        self.visit(pointer, value, inner, depth + 1);
                        pointer.pop();
                    }
                }
            }
            Json::Array(items) => {
                for (index, value) in items.iter_mut().enumerate() {
                    let placed = schema["prefixItems"].get(index);
                    if let Some(inner) = placed.or_else(|| schema.get("items")) {
                        pointer.push(PathSegment::Index(index));
                        self.visit(pointer, value, inner, depth + 1);
                        pointer.pop();
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a branch of a choice is about this value: its `type` property, where it fixes one, must be the value's.
fn applies(json: &Json, schema: &Json) -> bool {
    let fixed = &schema["properties"]["type"]["const"];
    fixed.is_null() || json.get("type") == Some(fixed)
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
