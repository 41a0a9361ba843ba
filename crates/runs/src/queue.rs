//! How the jobs of runs stand with who has them.

use pipe_history::standing::Status;
use pipe_submit::Receipt;

use crate::run::Run;

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
