//! An edit by which a member of a population goes on from another one, as a note of its trial in the journal.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_sweep::population::EXCHANGE;
use pipe_sweep::{Operation, Space, Trial, Values};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It is decided; the run is asked, or will be.
    Asked,
    /// The run has gone on from there.
    Applied,
    /// It has refused.
    Refused,
    /// It has ended before.
    TooLate,
}

/// A member that goes on from another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Exchange {
    /// After this report.
    pub report: u64,
    /// The trial whose weights it takes.
    pub from: u64,
    /// The checkpoint of that trial's run.
    pub checkpoint: String,
    /// What is kept of it, below the study's folder.
    pub weights: String,
    /// The values that the member goes on with.
    pub set: Map<String, Value>,
    /// How far it has come.
    pub outcome: Outcome,
    /// The step after which it was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
}

impl Exchange {
    /// The latest of a trial.
    pub fn latest(trial: &Trial) -> Option<Exchange> {
        Self::all(trial).into_iter().next_back()
    }

    /// All of a trial, in their order.
    pub fn all(trial: &Trial) -> Vec<Exchange> {
        let notes = trial.user.iter().filter(|(key, _)| key.starts_with(EXCHANGE));
        let mut all: Vec<Exchange> = notes.filter_map(|(_, note)| serde_json::from_value(note.clone()).ok()).collect();
        all.sort_by_key(|exchange| exchange.report);
        all
    }

    /// The line of the journal that says so.
    pub fn note(&self, trial: u64) -> Result<Operation> {
        let key = format!("{EXCHANGE}{:06}", self.report);
        Ok(Operation::User { trial, key, value: serde_json::to_value(self)? })
    }

    /// The folder of the weights.
    pub fn folder(&self, study: &Path) -> Result<PathBuf> {
        Ok(std::path::absolute(study.join(&self.weights))?)
    }
}

/// The values that a trial has by now.
pub(super) fn values_now(trial: &Trial, space: &Space) -> Values {
    let applied = Exchange::all(trial).into_iter().rfind(|exchange| exchange.outcome == Outcome::Applied);
    let Some(applied) = applied else { return trial.params.clone() };
    let inner = |(name, value): (&String, &Value)| Some((name.clone(), space.get(name)?.distribution.inner(value)?));
    applied.set.iter().filter_map(inner).collect()
}

/// Where what is taken from a member is kept for another one.
pub(super) fn place(report: u64, member: u64) -> String {
    format!("exchanges/{report:06}-{member:04}")
}

/// Keeps a checkpoint in another folder, which shares its files: its own run may remove it.
pub(super) fn keep(checkpoint: &Path, target: &Path) -> Result<()> {
    let way = || format!("cannot keep {} in {}", checkpoint.display(), target.display());
    let aside = target.with_extension("new");
    for folder in [&aside, &target.to_owned()] {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(way)?;
        }
    }
    fs::create_dir_all(&aside).with_context(way)?;
    for entry in fs::read_dir(checkpoint).with_context(way)? {
        let file = entry.with_context(way)?;
        let to = aside.join(file.file_name());
        fs::hard_link(file.path(), &to).or_else(|_| fs::copy(file.path(), &to).map(drop)).with_context(way)?;
    }
    fs::rename(&aside, target).with_context(way)
}

/// Removes what was kept for a member, but for one.
pub(super) fn forget_others(study: &Path, member: u64, kept: &str) {
    let number = format!("{member:04}");
    let entries = fs::read_dir(study.join("exchanges")).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let own = name.split_once('-').is_some_and(|(_, rest)| rest.split('.').next() == Some(number.as_str()));
        if own
            && !kept.ends_with(&name)
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!("cannot remove {}: {error}", path.display());
        }
    }
}
