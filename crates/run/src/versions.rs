//! Every version of a run's pipeline, with the step at which it took effect.
//!
//! `pipelines/NNN_step_SSSSSS.toml` are the versions, resolved; `pipelines/index.jsonl` has a line for each edit, those that were
//! refused included; `pipelines/origins.json` says where the values of the latest version came from; `pipeline.toml` is that version.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use pipe_core::{Clock, now};
use pipe_history::requests::Request;
use pipe_vocab::{atomic, files};

/// A line of `pipelines/index.jsonl` that is of no edit: with which a life of a run begins, or what it was asked. Edits have lines of the same form.
#[derive(Debug, Serialize)]
pub struct Entry {
    edit: u64,
    outcome: &'static str,
    step: u64,
    epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    seconds: f64,
    time: f64,
}

impl Entry {
    /// The run began with this version.
    pub fn started(version: String, clock: Clock) -> Entry {
        Entry { version: Some(version), ..Entry::of("started", clock) }
    }

    /// The run was asked for something else than an edit.
    pub fn asked(request: &Request, clock: Clock) -> Entry {
        let (author, why) = (Some(request.author.clone()), Some(request.why.clone()));
        Entry { author, why, ..Entry::of(request.ask.as_str(), clock) }
    }

    fn of(outcome: &'static str, clock: Clock) -> Entry {
        let Clock { step, epoch } = clock;
        Entry { edit: 0, outcome, step, epoch, version: None, author: None, why: None, seconds: 0.0, time: now() }
    }
}

/// A version on the way that a run has come: what a resume took back is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The step after which it took effect.
    pub step: u64,
    /// Whether that was behind the handlers of an epoch's end.
    pub at_epoch_end: bool,
    /// The name of its file.
    pub version: String,
    /// The file's text.
    pub text: String,
    /// Whether a part of it waited for the end of the epoch, and the step at which that came.
    waited: Option<Option<u64>>,
}

impl Turn {
    /// Whether a part of it was not yet in effect at a checkpoint of that step and pipeline.
    pub fn waits_at(&self, step: u64, text: &str) -> bool {
        let began = self.step < step || self.step == step && self.text == text;
        began && self.waited.is_some_and(|end| end.is_none_or(|end| step <= end))
    }
}

/// A line of the index, as far as the way of a run is concerned.
#[derive(Debug, Deserialize)]
struct Line {
    outcome: String,
    step: u64,
    #[serde(default)]
    at_epoch_end: bool,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    waiting: Vec<String>,
}

/// The file of the origins.
const ORIGINS: &str = "origins.json";

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

    /// Keeps where the values of the latest version came from, by key: `pipelines/origins.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_origins(&self, origins: &BTreeMap<String, String>) -> Result<()> {
        atomic::write(&self.folder().join(ORIGINS), (serde_json::to_string_pretty(origins)? + "\n").as_bytes())
    }

    /// What was kept of it.
    pub fn origins(&self) -> BTreeMap<String, String> {
        let text = files::read_text(&self.folder().join(ORIGINS), 16 << 20).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The latest version: its name and its text.
    pub fn newest(&self) -> Option<(String, String)> {
        let entries = fs::read_dir(self.folder()).ok()?;
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let newest = names.filter_map(|name| Some((number(&name)?, name))).max()?;
        let text = fs::read_to_string(self.folder().join(&newest.1)).ok()?;
        Some((newest.1, text))
    }

    /// The versions on the way that the run has come, the oldest first.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn turns(&self) -> Result<Vec<Turn>> {
        let path = self.folder().join("index.jsonl");
        let index = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut turns: Vec<Turn> = Vec::new();
        for text in index.lines() {
            let line: Line = serde_json::from_str(text).with_context(|| format!("{}: {text}", path.display()))?;
            match (line.outcome.as_str(), line.version) {
                ("started", Some(version)) => {
                    turns.retain(|turn| turn.step < line.step);
                    if turns.last().is_none_or(|turn| turn.version != version) {
                        turns.push(self.turn(line.step, line.at_epoch_end, version, false)?);
                    }
                }
                ("applied", Some(version)) => {
                    turns.push(self.turn(line.step, line.at_epoch_end, version, !line.waiting.is_empty())?);
                }
                ("completed", _) => turns.last_mut().into_iter().for_each(|turn| turn.waited = Some(Some(line.step))),
                _ => {}
            }
        }
        Ok(turns)
    }

    fn turn(&self, step: u64, at_epoch_end: bool, version: String, waited: bool) -> Result<Turn> {
        let path = self.folder().join(&version);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Turn { step, at_epoch_end, version, text, waited: waited.then_some(None) })
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
