//! What is told of a run beside its records, read from its folder when it is needed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pipe_history::{options, standing};
use serde_json::{Map, Value};

/// What is told of a run.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Its folder.
    pub folder: PathBuf,
    /// `run.json`.
    pub info: Map<String, Value>,
    /// When it was created, in seconds since 1970.
    pub created: f64,
    /// Its pipeline as it is now, key by key, without secrets.
    pub options: BTreeMap<String, Value>,
}

impl Facts {
    /// Of the run in this folder.
    pub fn of(folder: &Path) -> Facts {
        let info = standing::read(folder);
        let created = standing::created(&info);
        let whole = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Facts { folder: whole, created, options: options::of(folder), info }
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        self.info.get("name").and_then(Value::as_str).unwrap_or("pipe")
    }

    /// What to call it where nobody has said: the pipeline and the run's folder.
    pub fn name(&self) -> String {
        let folder = self.folder.file_name().unwrap_or_default().to_string_lossy();
        format!("{} {folder}", self.pipeline()).trim().to_owned()
    }

    /// A text of `run.json`, such as `git.commit`.
    pub fn text(&self, path: &[&str]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let value = rest.iter().try_fold(self.info.get(*first)?, |value, key| value.get(key))?;
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
            }
            other => Some(other.to_string()),
        }
    }

    /// The pipeline and its former versions: names to keep them under, and files.
    pub fn pipelines(&self) -> Vec<(String, PathBuf)> {
        let mut found = vec![("pipeline.toml".to_owned(), self.folder.join("pipeline.toml"))];
        for path in sorted(&self.folder.join("pipelines")) {
            if path.extension().is_some_and(|end| end == "toml") {
                found.push((format!("pipelines/{}", name(&path)), path));
            }
        }
        found.retain(|(_, path)| path.is_file());
        found
    }

    /// The names of the checkpoints.
    pub fn checkpoints(&self) -> Vec<String> {
        let folders = sorted(&self.folder.join("checkpoints")).into_iter().filter(|path| path.is_dir());
        folders.map(|path| name(&path)).filter(|name| !name.starts_with('.')).collect()
    }

    /// The files of the checkpoints: names to keep them under, and files.
    pub fn checkpoint_files(&self) -> Vec<(String, PathBuf)> {
        let checkpoints = self.checkpoints();
        let of = |checkpoint: &String| {
            let at = format!("checkpoints/{checkpoint}");
            let files = sorted(&self.folder.join(&at)).into_iter().filter(|path| path.is_file());
            files.map(|path| (format!("{at}/{}", name(&path)), path)).collect::<Vec<_>>()
        };
        checkpoints.iter().flat_map(of).collect()
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// An option as a text, at most `limit` characters, and whether it was cut.
pub fn option_text(value: &Value, limit: usize) -> (String, bool) {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match text.char_indices().nth(limit) {
        Some((at, _)) => (text[..at].to_owned(), true),
        None => (text, false),
    }
}
