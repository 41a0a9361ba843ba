//! Who has a run that was submitted.

use std::path::Path;

use pipe_submit::{Receipt, receipt};
use serde::{Deserialize, Serialize};

/// A run's job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Who has it, and what it is called there.
    #[serde(flatten)]
    pub receipt: Receipt,
    /// How it stands, in the engine's word, where that was asked and the engine knows it.
    pub state: Option<String>,
}

impl Job {
    /// Of the run in a folder.
    pub fn of(folder: &Path) -> Option<Job> {
        Some(Job { receipt: Receipt::read(folder)?, state: None })
    }

    /// Whether there may be one, at little cost.
    pub(crate) fn is_in(folder: &Path) -> bool {
        folder.join(receipt::FILE).is_file()
    }
}
