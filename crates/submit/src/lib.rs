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
pub use receipt::Receipt;

use anyhow::Result;

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

/// Hands the job over, whose file lies in its folder.
///
/// # Errors
/// When the engine's program is not there, or refuses it.
pub fn submit(profile: &Profile, job: &Job) -> Result<Receipt> {
    match profile {
        Profile::Slurm(_) => slurm::submit(job),
        Profile::Kubernetes(config) => kubernetes::submit(config, job),
        Profile::Local(_) => local::submit(job),
    }
}
