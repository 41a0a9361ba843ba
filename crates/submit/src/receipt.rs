//! What is kept in a run's folder of a job that was submitted: `job/submitted.json`.

use std::path::Path;

use anyhow::{Context, Result};
use pipe_vocab::{atomic, files};
use serde::{Deserialize, Serialize};

use crate::job::OWN;

const FILE: &str = "submitted.json";

/// A job that an engine has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Who has it.
    pub engine: Engine,
    /// What it is called there.
    pub job: String,
    /// Where it is: a cluster of SLURM, a namespace of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
}

/// Who works on jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// SLURM.
    Slurm,
    /// Kubernetes.
    Kubernetes,
    /// This machine.
    Local,
}

impl Receipt {
    /// Of the run in this folder, if it was submitted.
    pub fn read(folder: &Path) -> Option<Receipt> {
        serde_json::from_str(&files::read_text(&folder.join(OWN).join(FILE), 1 << 16).ok()?).ok()
    }

    /// Keeps it there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("what is kept of a job")?;
        atomic::write(&folder.join(OWN).join(FILE), (text + "\n").as_bytes())
    }
}
