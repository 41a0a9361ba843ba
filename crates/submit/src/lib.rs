//! Jobs for what people have: SLURM, Kubernetes, this machine. Writes what each of them takes, hands it over, asks how it stands.
//!
//! - [`profile`]: what `[submit.NAME]` says
//! - [`job`]: what is to be run
//! - [`slurm`], [`kubernetes`], [`local`]: one for each
//! - [`receipt`]: what is kept in a run's folder of a job that was submitted
//! - [`shell`]: words for a shell

pub mod job;
pub mod kubernetes;
pub mod local;
pub mod profile;
pub mod receipt;
pub mod shell;
pub mod slurm;

pub use job::{Array, Job};
pub use profile::Profile;
pub use receipt::{Engine, Receipt};

use anyhow::{Context, Result};
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

/// Writes the job's file into its folder and hands it over; the receipt is kept beside it.
///
/// # Errors
/// When the folder cannot be written, the engine's program is not there, or it refuses the job.
pub fn submit(profile: &Profile, job: &Job) -> Result<Receipt> {
    let (text, own) = (file(profile, job)?, job.own());
    std::fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
    let name = match profile {
        Profile::Slurm(_) => slurm::FILE,
        Profile::Kubernetes(_) => kubernetes::FILE,
        Profile::Local(_) => local::FILE,
    };
    atomic::write(&own.join(name), text.as_bytes())?;
    let receipt = match profile {
        Profile::Slurm(_) => slurm::submit(job),
        Profile::Kubernetes(config) => kubernetes::submit(config, job),
        Profile::Local(_) => local::submit(job),
    }?;
    receipt.write(&job.folder)?;
    Ok(receipt)
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
