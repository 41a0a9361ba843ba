//! Jobs for what people have: SLURM, Kubernetes, this machine. Writes what each of them takes, hands it over, asks how it stands.
//!
//! - [`profile`]: what `[submit.NAME]` says
//! - [`job`]: what is to be run
//! - [`slurm`], [`kubernetes`] with [`trainjob`] and `manifest`, [`local`]: one for each
//! - [`receipt`]: what is kept in a run's folder of a job that was submitted; [`states`](mod@states): how jobs stand
//! - [`shell`]: words for a shell

pub mod job;
pub mod kubernetes;
pub mod local;
mod manifest;
pub mod profile;
pub mod receipt;
pub mod shell;
pub mod slurm;
pub mod states;
pub mod trainjob;

pub use job::{Array, Job};
pub use profile::Profile;
pub use receipt::{Engine, Receipt};
pub use states::States;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use pipe_vocab::atomic;

/// The file that a job is made of, by its profile.
///
/// # Errors
/// When the job cannot be written for it.
pub fn file(profile: &Profile, job: &Job) -> Result<String> {
    match profile {
        Profile::Slurm(config) => Ok(slurm::script(config, job)),
        Profile::Kubernetes(config) => kubernetes::manifest(config, job),
        Profile::Local(config) => Ok(local::script(config, job)),
    }
}

/// Writes the job's file and what it runs into its folder and hands it over; the receipt is kept beside them.
///
/// # Errors
/// When the folder cannot be written, the engine's program is not there, or it refuses the job.
pub fn submit(profile: &Profile, job: &Job) -> Result<Receipt> {
    let (text, own) = (file(profile, job)?, job.own());
    let runs: Vec<_> = (0..job.array.as_ref().map_or(0, |array| array.sets.len())).collect();
    let each = |number: &usize| job.folder.join(number.to_string());
    create(&own)?;
    runs.iter().try_for_each(|number| create(&each(number).join(job::OWN)))?;
    let name = match profile {
        Profile::Slurm(_) => slurm::FILE,
        Profile::Kubernetes(_) => kubernetes::FILE,
        Profile::Local(_) => local::FILE,
    };
    atomic::write(&job.kept(), job.pipeline.as_bytes())?;
    atomic::write(&own.join(name), text.as_bytes())?;
    let mut receipt = match profile {
        Profile::Slurm(_) => slurm::submit(job),
        Profile::Kubernetes(config) => kubernetes::submit(config, job),
        Profile::Local(_) => local::submit(job),
    }?;
    receipt.name.clone_from(&job.name);
    receipt.submitted = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    if job.array.is_none() {
        receipt.write(&job.folder)?;
        return Ok(receipt);
    }
    receipt.write_array(&job.folder)?;
    runs.iter().try_for_each(|number| receipt.of_array(*number).write(&each(number)))?;
    Ok(receipt)
}

fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))
}

/// How a job stands, in the engine's own word.
///
/// # Errors
/// When the engine cannot be asked, or knows nothing of it any more.
pub fn state(receipt: &Receipt) -> Result<String> {
    match receipt.engine {
        Engine::Slurm => slurm::state(receipt),
        Engine::Kubernetes => kubernetes::state(receipt),
        Engine::Local => local::state(receipt),
    }
}

/// Asks the engine to end a job: with a checkpoint where it is at work.
///
/// # Errors
/// When the engine cannot be asked, or does not have it any more.
pub fn cancel(receipt: &Receipt) -> Result<()> {
    match receipt.engine {
        Engine::Slurm => slurm::cancel(receipt),
        Engine::Kubernetes => kubernetes::cancel(receipt),
        Engine::Local => local::cancel(receipt),
    }
}

/// Asks the engine to put a job back into the queue: one at work ends with a checkpoint first, from which it will go on.
///
/// # Errors
/// When the engine knows no such thing, cannot be asked, or does not have the job any more.
pub fn requeue(receipt: &Receipt) -> Result<()> {
    match receipt.engine {
        Engine::Slurm => slurm::requeue(receipt),
        Engine::Kubernetes | Engine::Local => {
            bail!(
                "only SLURM puts a job back into its queue; `pipe runs clone RUN --to PROFILE` submits the run once more"
            )
        }
    }
}
