//! What is kept in a run's folder of a job that was submitted: `job/submitted.json`, and of an array as a whole `job/array.json` in the folder of its runs.

use std::path::Path;

use anyhow::{Context, Result};
use pipe_vocab::{atomic, files};
use serde::{Deserialize, Serialize};

use crate::job::OWN;

/// Below a run's folder, what tells that it was submitted.
pub const FILE: &str = "job/submitted.json";
const WHOLE: &str = "job/array.json";

/// A job that an engine has taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Receipt {
    /// Who has it.
    pub engine: Engine,
    /// What it is called there.
    pub job: String,
    /// Where it is: a cluster of SLURM, a namespace of Kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The name of the pipeline.
    #[serde(default)]
    pub name: String,
    /// When it was submitted, in seconds since 1970.
    #[serde(default)]
    pub submitted: u64,
}

/// Who works on jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// SLURM.
    Slurm,
    /// Kubernetes.
    Kubernetes,
    /// This machine.
    Local,
}

impl Engine {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Engine::Slurm => "slurm",
            Engine::Kubernetes => "kubernetes",
            Engine::Local => "local",
        }
    }
}

impl Receipt {
    pub(crate) fn new(engine: Engine, job: impl Into<String>, place: Option<String>) -> Receipt {
        Receipt { engine, job: job.into(), place, name: String::new(), submitted: 0 }
    }

    /// Of the run in this folder, if it was submitted.
    pub fn read(folder: &Path) -> Option<Receipt> {
        read(&folder.join(FILE))
    }

    /// Of all runs of the array in this folder.
    pub fn read_array(folder: &Path) -> Option<Receipt> {
        read(&folder.join(WHOLE))
    }

    /// Of one run of an array.
    #[must_use]
    pub fn of_array(&self, number: usize) -> Receipt {
        let job = match self.engine {
            Engine::Slurm => format!("{}_{number}", self.job),
            Engine::Kubernetes | Engine::Local => self.job.clone(),
        };
        Receipt { job, ..self.clone() }
    }

    /// Below the run's folder, the file of what the job said; nothing where the engine keeps that.
    pub fn log(&self) -> Option<String> {
        match self.engine {
            Engine::Slurm => Some(format!("{OWN}/slurm-{}.out", self.job)),
            Engine::Local => Some(format!("{OWN}/job.out")),
            Engine::Kubernetes => None,
        }
    }

    /// Keeps it in a run's folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> Result<()> {
        self.put(&folder.join(FILE))
    }

    /// Keeps it in the folder of an array's runs.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_array(&self, folder: &Path) -> Result<()> {
        self.put(&folder.join(WHOLE))
    }

    fn put(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("what is kept of a job")?;
        atomic::write(file, (text + "\n").as_bytes())
    }
}

/// One that anyone may have written: what it says is handed to other programs, so it must be what their jobs are called.
fn read(file: &Path) -> Option<Receipt> {
    let receipt: Receipt = serde_json::from_str(&files::read_text(file, 1 << 16).ok()?).ok()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let name = |text: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        text.bytes().all(plain) && text.starts_with(|first: char| first.is_ascii_alphanumeric())
    };
    let job = receipt.job.as_str();
    let plain = match receipt.engine {
        Engine::Slurm => job.split_once('_').map_or(digits(job), |(job, run)| digits(job) && digits(run)),
        Engine::Local => digits(job),
        Engine::Kubernetes => name(job.strip_prefix("trainjob/").unwrap_or(job)),
    };
    let place = receipt.place.as_deref().is_none_or(name);
    (plain && place).then_some(receipt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_job_is_handed_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(OWN)).unwrap();
        let read = |engine: Engine, job: &str, place: Option<&str>| {
            let receipt = Receipt::new(engine, job, place.map(str::to_owned));
            receipt.write(folder.path()).unwrap();
            Receipt::read(folder.path()).is_some_and(|read| read == receipt)
        };
        assert!(read(Engine::Slurm, "12", None) && read(Engine::Slurm, "12_3", Some("second")));
        assert!(read(Engine::Local, "12", None) && read(Engine::Kubernetes, "trainjob/digits-x7", Some("vision")));
        for wrong in ["--user=root", "", "12_", "../12", "12 13", "12_3_4"] {
            assert!(!read(Engine::Slurm, wrong, None) && !read(Engine::Local, wrong, None), "{wrong}");
        }
        assert!(!read(Engine::Kubernetes, "--all", None) && !read(Engine::Kubernetes, "a", Some("--all")));
    }
}
