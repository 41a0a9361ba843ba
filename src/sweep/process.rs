//! What is at work on a trial: a process of this driver's, or a job of those who have submitted runs.

use std::path::{Path, absolute};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use pipe_core::terminal;
use pipe_history::requests::{Ask, Requests};
use pipe_submit::{Profile, Receipt, states};

use crate::source::PipelineArgs;
use crate::submit::job_of;

/// By whom runs are asked to end.
pub(super) const AUTHOR: &str = "pipe sweep";
/// An engine that does not know a job for so long has forgotten it; for less it was not asked yet, or cannot answer just now.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where trials are submitted to.
pub(super) struct To {
    pub profile: Profile,
    /// Further arguments of `pipe run`.
    pub more: Vec<String>,
}

impl To {
    /// Submits a run.
    pub fn submit(&self, pipeline: &PipelineArgs, name: String, folder: &Path) -> Result<Process> {
        let job = job_of(&self.profile, pipeline, &pipeline.load(), name, absolute(folder)?)?;
        let mut job = job.map_err(|said| anyhow!("{said}"))?;
        job.more.clone_from(&self.more);
        let receipt = pipe_submit::submit(&self.profile, &job).context("a trial cannot be submitted")?;
        Ok(Process::of(receipt))
    }
}

/// What is at work on a trial.
pub(super) enum Process {
    /// A process that this driver has started.
    Child(Child),
    /// A job.
    Job(Job),
}

/// A job, and what is known of it.
pub(super) struct Job {
    receipt: Receipt,
    state: Option<String>,
    /// Since when its engine does not say how it stands.
    unknown: Option<Instant>,
    told: bool,
}

/// Whether a process is over.
pub(super) enum Over {
    /// It is not.
    No,
    /// It is a job of which its engine says nothing, yet.
    Silent,
    /// It is a job of which its engine says nothing any more.
    Forgotten,
    /// It ended so.
    Exit(ExitStatus),
    /// Its job stands so.
    Job(Receipt, String),
    /// It was another driver's, or there was none.
    Unknown,
}

impl Process {
    /// A job that was submitted.
    pub fn of(receipt: Receipt) -> Process {
        Process::Job(Job { receipt, state: None, unknown: None, told: false })
    }

    /// The job, if it is one.
    pub fn receipt(&self) -> Option<&Receipt> {
        match self {
            Process::Child(_) => None,
            Process::Job(job) => Some(&job.receipt),
        }
    }

    /// Takes what the engine says of the job.
    pub fn hear(&mut self, state: Option<String>) {
        let Process::Job(job) = self else { return };
        job.unknown = state.is_none().then(|| job.unknown.unwrap_or_else(Instant::now));
        job.state = state;
    }

    /// Says once of a forgotten job that its trial, whose run has not ended, is waited for.
    pub fn tell_forgotten(&mut self) {
        let Process::Job(job) = self else { return };
        if std::mem::replace(&mut job.told, true) {
            return;
        }
        let (engine, number) = (job.receipt.engine.as_str(), &job.receipt.job);
        terminal::line(&format!(
            "warning: {engine} does not say how job {number} stands; its trial is waited for. Where it has forgotten the job, \
             remove `{}` from the trial's folder and start the sweep again",
            pipe_submit::receipt::FILE
        ));
    }

    /// Whether it is over.
    pub fn over(&mut self) -> Result<Over> {
        Ok(match self {
            Process::Child(child) => child.try_wait().context("a trial's process")?.map_or(Over::No, Over::Exit),
            Process::Job(Job { state: None, unknown, .. }) => match unknown {
                Some(since) if since.elapsed() > PATIENCE => Over::Forgotten,
                _ => Over::Silent,
            },
            Process::Job(Job { state: Some(state), .. }) if !states::is_over(state) => Over::No,
            Process::Job(Job { receipt, state: Some(state), .. }) => Over::Job(receipt.clone(), state.clone()),
        })
    }
}

/// Whether somebody else has asked a run to end since its job was submitted.
pub(super) fn was_asked(folder: &Path, receipt: &Receipt) -> bool {
    let requests = Requests::of(folder);
    let answers = requests.all().into_iter().filter_map(|(name, _)| requests.answered(&name));
    let stop = |ask| ask == Some(Ask::Stop);
    answers
        .into_iter()
        .any(|answer| stop(answer.ask) && answer.author != AUTHOR && answer.time >= receipt.submitted as f64)
}
