//! Every version of a run's pipeline, with the step at which it took effect.
//!
//! `pipelines/NNN_step_SSSSSS.toml` are the versions, resolved; `pipelines/index.jsonl` has a line for each edit, those that were
//! refused included; `pipeline.toml` is the latest version.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use pipe_core::{Clock, now};
use pipe_vocab::atomic;

/// The line of `pipelines/index.jsonl` with which a life of a run begins; edits have lines of the same form.
#[derive(Debug, Serialize)]
pub struct Entry {
    edit: u64,
    outcome: &'static str,
    step: u64,
    epoch: u64,
    version: String,
    seconds: f64,
    time: f64,
}

impl Entry {
    /// The run began with this version.
    pub fn started(version: String, clock: Clock) -> Entry {
        let Clock { step, epoch } = clock;
        Entry { edit: 0, outcome: "started", step, epoch, version, seconds: 0.0, time: now() }
    }
}

/// The versions of one run.
#[derive(Debug)]
pub struct Versions {
    run: PathBuf,
}

impl Versions {
    /// The versions of the run in this folder.
    pub fn of(run: &Path) -> Versions {
        Versions { run: run.to_owned() }
    }

    /// Where they lie.
    pub fn folder(&self) -> PathBuf {
        self.run.join("pipelines")
    }

    /// Keeps a version that takes effect at `step`, and makes it the latest; returns its name. A text that is the latest
    /// version already is not kept twice.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, text: &str, step: u64) -> Result<String> {
        let newest = self.newest();
        if let Some((name, former)) = &newest
            && former == text
        {
            return Ok(name.clone());
        }
        let folder = self.folder();
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let number = newest.map_or(0, |(name, _)| number(&name).map_or(0, |number| number + 1));
        let name = format!("{number:03}_step_{step:06}.toml");
        atomic::write(&folder.join(&name), text.as_bytes())?;
        atomic::write(&self.run.join("pipeline.toml"), text.as_bytes())?;
        Ok(name)
    }

    /// The latest version: its name and its text.
    pub fn newest(&self) -> Option<(String, String)> {
        let entries = fs::read_dir(self.folder()).ok()?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let newest = names.filter_map(|name| Some((number(&name)?, name))).max()?;
        let text = fs::read_to_string(self.folder().join(&newest.1)).ok()?;
        Some((newest.1, text))
    }

    /// Adds a line to the index.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn log(&self, entry: &impl Serialize) -> Result<()> {
        let path = self.folder().join("index.jsonl");
        let line = serde_json::to_string(entry)? + "\n";
        let write = || -> std::io::Result<()> {
            fs::create_dir_all(self.folder())?;
            // One write a line: a reader never sees half of one.
            OpenOptions::new().create(true).append(true).open(&path)?.write_all(line.as_bytes())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The number of a version, from the name of its file.
fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".toml")?.split_once("_step_")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_and_the_newest_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions::of(folder.path());
        assert_eq!(versions.newest(), None);
        assert_eq!(versions.keep("a", 0).unwrap(), "000_step_000000.toml");
        assert_eq!(versions.keep("b", 7).unwrap(), "001_step_000007.toml");
        assert_eq!(versions.keep("b", 9).unwrap(), "001_step_000007.toml");
        assert_eq!(versions.keep("a", 1_000_000).unwrap(), "002_step_1000000.toml");
        assert_eq!(versions.newest(), Some(("002_step_1000000.toml".into(), "a".into())));
        assert_eq!(fs::read_to_string(folder.path().join("pipeline.toml")).unwrap(), "a");
    }

    #[test]
    fn the_index_has_a_line_an_entry() {
        let folder = tempfile::tempdir().unwrap();
        let versions = Versions::of(folder.path());
        versions.log(&serde_json::json!({ "edit": 1 })).unwrap();
        versions.log(&serde_json::json!({ "edit": 2 })).unwrap();
        let text = fs::read_to_string(versions.folder().join("index.jsonl")).unwrap();
        assert_eq!(text, "{\"edit\":1}\n{\"edit\":2}\n");
    }
}
