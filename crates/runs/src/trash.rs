//! Where removed runs go: `.trash` beside the others, from where they can be moved back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use pipe_history::standing::{self, Status};
use pipe_submit::{Receipt, states};

/// The folder of removed runs, in that of all runs.
pub const FOLDER: &str = ".trash";

/// Moves a run to the trash of its root, or of the folder that it lies in, and returns where it is now.
///
/// # Errors
/// When it is at work or in a queue, or cannot be moved.
pub fn put(run: &Path, roots: &[PathBuf]) -> Result<PathBuf> {
    refuse_running(run)?;
    let roots = roots.iter().filter_map(|root| root.canonicalize().ok());
    let root = roots.into_iter().find(|root| run.starts_with(root) && run != root);
    let root = root.or_else(|| run.parent().map(Path::to_owned)).context("a run lies in a folder")?;
    let place = run.strip_prefix(&root).unwrap_or(run);
    let mut target = root.join(FOLDER).join(place);
    let mut number = 2;
    while target.exists() {
        target = root.join(FOLDER).join(format!("{}_{number}", place.display()));
        number += 1;
    }
    let parent = target.parent().context("it lies in the trash")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    fs::rename(run, &target).with_context(|| format!("cannot move {} to {}", run.display(), target.display()))?;
    Ok(target)
}

/// Removes a run for good.
///
/// # Errors
/// When it is at work or in a queue, or cannot be removed.
pub fn remove(run: &Path) -> Result<()> {
    refuse_running(run)?;
    fs::remove_dir_all(run).with_context(|| format!("cannot remove {}", run.display()))
}

fn refuse_running(run: &Path) -> Result<()> {
    let at_work = standing::status(run) == Some(Status::Running);
    ensure!(!at_work, "{} is at work: end it first", run.display());
    let job = Receipt::read(run).filter(|_| standing::status(run) != Some(Status::Done));
    let waits = job.and_then(|job| Some((pipe_submit::state(&job).ok()?, job)));
    if let Some((state, job)) = waits.filter(|(state, _)| !states::is_over(state)) {
        bail!("{} is not done, and its job {} is {state}: `pipe runs stop` it first", run.display(), job.job);
    }
    Ok(())
}
