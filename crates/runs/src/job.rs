//! Who has a run that was submitted, and how it stands there.

use std::path::Path;

use pipe_history::standing::Status;
use pipe_submit::{Receipt, receipt};
use serde::{Deserialize, Serialize};

use crate::run::Run;

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

/// The job of a run whose engine is worth asking: one that is done has none any more.
pub fn open(run: &Run) -> Option<&Receipt> {
    let job = run.job.as_ref().filter(|_| run.status != Status::Done)?;
    Some(&job.receipt)
}

/// Has the states of runs' jobs told by who knows them.
pub fn tell(runs: &mut [Run], states: impl FnOnce(&[Receipt]) -> Vec<Option<String>>) {
    let receipts: Vec<Receipt> = runs.iter().filter_map(open).cloned().collect();
    if receipts.is_empty() {
        return;
    }
    let told = states(&receipts);
    for (run, state) in runs.iter_mut().filter(|run| open(run).is_some()).zip(told) {
        run.job.iter_mut().for_each(|job| job.state.clone_from(&state));
    }
}
