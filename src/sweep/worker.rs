//! A trial at work: a process, and where that is killed another that goes on from its checkpoint.

use std::fs::{self, OpenOptions};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipe_history::requests::{Ask, Request, Requests};
use pipe_history::standing::{self, Status};
use pipe_run::versions::Versions;
use pipe_runs::About;
use pipe_submit::Receipt;
use pipe_sweep::Trial;
use pipe_vocab::shown::shown_data;
use serde_json::Value;

use super::measured::Measured;
use super::process::{AUTHOR, Over, Process, was_asked};
use super::settings::Settings;
use super::values;
use crate::source::PipelineArgs;

/// A process that is killed so often without a new checkpoint is not started again.
const LIVES: u32 = 10;
/// How long a request to stop is waited for before it is made again: one that a run found when it began does not count.
const PATIENCE: Duration = Duration::from_secs(2);
/// The status of a run that was asked to end by a request.
const ASKED: i32 = 130;

/// A trial's note: it is to end early, at this report.
pub(super) const PRUNED: &str = "pipe:pruned";

/// How a process of a trial has ended.
pub(super) enum Ended {
    /// It is at work.
    Not,
    /// The run came to its end.
    Done,
    /// It did not, and nobody is at work on it: the process is to be started again.
    Cut,
    /// It failed.
    Failed(String),
}

/// A trial at work.
pub(super) struct Worker {
    /// The trial, by its number in the journal and in the study.
    pub id: u64,
    pub number: u64,
    /// Which of those that are at work.
    pub slot: usize,
    /// Which of its seeds.
    pub seed: usize,
    /// How many reports the journal has.
    pub seen: u64,
    /// Whether it is to end early.
    pub pruned: bool,
    /// Whether a problem with its numbers was told.
    pub told: bool,
    /// The request by which it is asked to go on from another, while it is not answered.
    pub asked_edit: Option<String>,
    sets: Vec<String>,
    folder: PathBuf,
    process: Option<Process>,
    /// Whether a job of a driver before was looked for.
    searched: bool,
    measured: Option<Measured>,
    named: bool,
    asked: Option<Instant>,
    lives: u32,
    checkpoint: Option<String>,
}

/// The name of the folder of a trial's run.
pub(super) fn folder_name(number: u64, seed: Option<usize>) -> String {
    seed.map_or(format!("trial-{number:04}"), |seed| format!("trial-{number:04}-{seed}"))
}

impl Worker {
    /// A trial that nobody is known to be at work on, at the first of its seeds that is not done.
    pub fn new(settings: &Settings, trial: &Trial) -> Worker {
        let mut worker = Worker {
            id: trial.id,
            number: trial.number,
            slot: 0,
            seed: 0,
            seen: trial.reports.len() as u64,
            pruned: trial.user.contains_key(PRUNED),
            told: false,
            asked_edit: None,
            sets: values::sets(&settings.space, &trial.params),
            folder: PathBuf::new(),
            process: None,
            searched: false,
            measured: None,
            named: false,
            asked: None,
            lives: 0,
            checkpoint: None,
        };
        let last = settings.seeds.len() - 1;
        worker.seed = (0..last)
            .find(|seed| standing::status(&folder_of(settings, trial.number, *seed)) != Some(Status::Done))
            .unwrap_or(last);
        worker.folder = folder_of(settings, trial.number, worker.seed);
        worker
    }

    /// Whether its run is at work.
    pub fn is_busy(&self) -> bool {
        standing::status(&self.folder) == Some(Status::Running)
    }

    /// Whether a driver before has submitted it.
    pub fn is_submitted(&self) -> bool {
        Receipt::read(&self.folder).is_some()
    }

    /// Its job, if it is one.
    pub fn job(&self) -> Option<&Receipt> {
        self.process.as_ref()?.receipt()
    }

    /// Takes what the engine says of its job.
    pub fn hear(&mut self, state: Option<String>) {
        self.process.iter_mut().for_each(|process| process.hear(state.clone()));
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Goes on with the next seed, if there is one.
    pub fn next_seed(&mut self, settings: &Settings) -> bool {
        if self.seed + 1 == settings.seeds.len() {
            return false;
        }
        self.seed += 1;
        self.folder = folder_of(settings, self.number, self.seed);
        (self.process, self.measured, self.named, self.lives, self.checkpoint) = (None, None, false, 0, None);
        self.searched = false;
        true
    }

    /// Starts a process or submits a job, unless the run is at work already or waits in a queue: of a driver that was killed.
    pub fn start(&mut self, pipeline: &PipelineArgs, settings: &Settings) -> Result<()> {
        let former = Receipt::read(&self.folder).filter(|_| !self.searched);
        self.searched = true;
        if let Some(receipt) = former {
            self.process = Some(Process::of(receipt));
            return Ok(());
        }
        if self.is_busy() {
            return Ok(());
        }
        let pipeline = self.pipeline(pipeline, settings);
        self.process = Some(match &settings.to {
            Some(to) => to.submit(&pipeline, self.title(settings), &self.folder)?,
            None => self.spawn(&pipeline, settings)?,
        });
        self.asked_edit = None;
        Ok(())
    }

    /// The pipeline with this trial's values.
    fn pipeline(&self, pipeline: &PipelineArgs, settings: &Settings) -> PipelineArgs {
        // A member of a population goes on with the pipeline that edits have made of it.
        let edited = settings.population.is_some() && Versions::of(&self.folder).newest().is_some();
        let sets = if edited { &[][..] } else { &self.sets[..] };
        let seed = settings.seeds[self.seed].map(|seed| format!("pipeline.seed={seed}"));
        // The first of the seeds is what the command line says.
        let said = pipeline.sets.iter().filter(|set| seed.is_none() || !set.trim_start().starts_with("pipeline.seed"));
        PipelineArgs {
            file: if edited { self.folder.clone() } else { pipeline.file.clone() },
            profile: pipeline.profile.clone().filter(|_| !edited),
            sets: said.chain(sets).chain(&seed).cloned().collect(),
            ..pipeline.clone()
        }
    }

    fn spawn(&self, pipeline: &PipelineArgs, settings: &Settings) -> Result<Process> {
        let log =
            OpenOptions::new().append(true).create(true).open(self.log()).context("a trial's log cannot be written")?;
        let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
        command.arg("run").arg(&pipeline.file).args(["--quiet", "--resume", "auto", "--out"]).arg(&self.folder);
        command.args(pipeline.profile.iter().flat_map(|profile| ["--profile", profile]));
        command.args(pipeline.sets.iter().flat_map(|set| ["--set", set]));
        command.args(pipeline.accept.iter().flat_map(|code| ["--accept", code]));
        let device = device(settings, self.slot);
        command.args(device.iter().flat_map(|device| ["--device", device]));
        if settings.jobs > 1 && std::env::var_os("OMP_NUM_THREADS").is_none() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            command.env("OMP_NUM_THREADS", (cores / settings.jobs).max(1).to_string());
        }
        // In a group of its own: the terminal's Ctrl-C is for the driver, which asks it to stop.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(Process::Child(command.spawn().context("a trial cannot be started")?))
    }

    /// What its run is called.
    fn title(&self, settings: &Settings) -> String {
        let folder = self.folder.file_name().unwrap_or_default().to_string_lossy();
        folder.replace("trial-", &format!("{}-", settings.study))
    }

    /// Gives the run its name and its group, once it is there.
    pub fn name(&mut self, settings: &Settings) {
        if self.named || !self.folder.join("run.json").is_file() {
            return;
        }
        self.named = true;
        let name = self.title(settings);
        let named = About::edit(&self.folder, |about| {
            about.name.get_or_insert(name);
            about.group.get_or_insert(settings.study.clone());
            Ok(())
        });
        if let Err(error) = named {
            tracing::warn!("{error:#}");
        }
    }

    /// The values of a metric that have come since the journal's last.
    pub fn reports(&mut self, metric: &str) -> Result<Vec<f64>> {
        let seen = self.seen;
        self.measured()?.reports(metric, seen)
    }

    /// How many values of a metric there were up to a step.
    pub fn reports_by(&mut self, metric: &str, step: u64) -> Result<u64> {
        self.measured()?.reports_by(metric, step)
    }

    /// Whether this driver has started the process that is at work.
    pub fn is_own(&self) -> bool {
        self.process.is_some()
    }

    /// What the run has measured, up to now.
    fn measured(&mut self) -> Result<&Measured> {
        let measured = match self.measured.take() {
            Some(mut measured) => measured.refresh().map(|()| measured)?,
            None => Measured::of(&self.folder)?,
        };
        Ok(self.measured.insert(measured))
    }

    /// How it stands.
    pub fn look(&mut self) -> Result<Ended> {
        let over = self.process.as_mut().map_or(Ok(Over::Unknown), Process::over)?;
        let standing = match over {
            Over::No => return Ok(Ended::Not),
            // Before the run's own word: what it says by then is its last.
            _ => standing::status(&self.folder),
        };
        match over {
            // An engine may start again what has failed.
            Over::Silent if standing != Some(Status::Done) => return Ok(Ended::Not),
            Over::Forgotten if !matches!(standing, Some(Status::Done | Status::Failed)) => {
                self.process.iter_mut().for_each(Process::tell_forgotten);
                return Ok(Ended::Not);
            }
            _ => self.process = None,
        }
        Ok(match standing {
            // Another has the folder: it was started by a driver that was killed.
            Some(Status::Running) => Ended::Not,
            Some(Status::Done) => Ended::Done,
            Some(Status::Failed) => {
                let info = standing::read(&self.folder);
                Ended::Failed(info.get("error").and_then(Value::as_str).unwrap_or("it failed").to_owned())
            }
            Some(Status::Interrupted) if self.was_asked(&over) => Ended::Failed("it was asked to stop".into()),
            standing => self.cut(&over, standing.is_some()),
        })
    }

    fn was_asked(&self, over: &Over) -> bool {
        match over {
            Over::Exit(status) => status.code() == Some(ASKED),
            Over::Job(receipt, _) => was_asked(&self.folder, receipt),
            _ => false,
        }
    }

    /// Of a process that ended without a word of the run's, which had begun or not.
    fn cut(&mut self, over: &Over, begun: bool) -> Ended {
        let mut signal = String::new();
        match over {
            Over::Exit(status) => {
                if let Some(code) = status.code().filter(|code| *code < 128) {
                    let said = last_words(&self.log());
                    return Ended::Failed(said.unwrap_or(format!("its process ended with {code}")));
                }
                signal = status.signal().map(|signal| format!(" by signal {signal}")).unwrap_or_default();
            }
            Over::Job(_, state) if state.contains("CANCELLED") => return Ended::Failed("its job was cancelled".into()),
            Over::Job(receipt, state) if !begun => {
                let said = receipt.log().and_then(|log| last_words(&self.folder.join(log)));
                if let Some(said) = said {
                    return Ended::Failed(format!("its job ended as {state}: {said}"));
                }
            }
            _ => {}
        }
        let newest = newest_checkpoint(&self.folder);
        self.lives = if newest == self.checkpoint { self.lives + 1 } else { 0 };
        self.checkpoint = newest;
        if self.lives < LIVES {
            return Ended::Cut;
        }
        Ended::Failed(format!("its process was killed {LIVES} times{signal} without a new checkpoint"))
    }

    /// Asks it to save a checkpoint and end.
    pub fn stop(&mut self, why: &str) {
        if self.asked.is_some_and(|asked| asked.elapsed() < PATIENCE) || !self.folder.join("run.json").is_file() {
            return;
        }
        self.asked = Some(Instant::now());
        let requests = Requests::of(&self.folder);
        if requests.all().iter().any(|(_, answered)| !answered) {
            return;
        }
        let request = Request { ask: Ask::Stop, author: AUTHOR.into(), why: why.into(), text: None, version: None };
        if let Err(error) = requests.put(&request) {
            tracing::warn!("{error:#}");
        }
    }

    /// Where it says what it says before it has a folder.
    fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Removes what it said where that is nothing.
    pub fn tidy(&self) {
        if fs::metadata(self.log()).is_ok_and(|meta| meta.len() == 0) {
            let _ = fs::remove_file(self.log());
        }
    }
}

pub(super) fn folder_of(settings: &Settings, number: u64, seed: usize) -> PathBuf {
    settings.folder.join(folder_name(number, (settings.seeds.len() > 1).then_some(seed)))
}

/// The device of those at work in a slot: of several GPUs the next, where it is not said which.
fn device(settings: &Settings, slot: usize) -> Option<String> {
    let said = settings.device.as_ref().unwrap_or(&settings.own_device);
    let shared = settings.jobs > 1 && ["auto", "cuda"].contains(&said.as_str());
    match if shared { pipe_native::device::gpus() } else { 0 } {
        0 | 1 => settings.device.clone(),
        gpus => Some(format!("cuda:{}", slot % gpus)),
    }
}

/// The last that was said in a log of an error, or at all.
fn last_words(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rfind(|line| line.starts_with("error")).or_else(|| lines().next_back())?;
    Some(shown_data(line).into_owned())
}

fn newest_checkpoint(run: &Path) -> Option<String> {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// At work on a trial as a job that a driver before has submitted, in a folder of a run.
    fn worker(folder: &Path) -> Worker {
        let receipt = json!({ "engine": "kubernetes", "job": "trial" });
        Worker {
            id: 0,
            number: 0,
            slot: 0,
            seed: 0,
            seen: 0,
            pruned: false,
            told: false,
            asked_edit: None,
            sets: Vec::new(),
            folder: folder.to_owned(),
            process: Some(Process::of(serde_json::from_value(receipt).unwrap())),
            searched: true,
            measured: None,
            named: true,
            asked: None,
            lives: 0,
            checkpoint: None,
        }
    }

    #[test]
    fn what_an_engine_may_start_again_has_not_failed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), json!({ "status": "failed" }).to_string()).unwrap();
        let mut worker = worker(folder.path());
        assert!(matches!(worker.look().unwrap(), Ended::Not), "its engine was not asked yet");
        worker.hear(None);
        assert!(matches!(worker.look().unwrap(), Ended::Not), "its engine cannot say at the moment");
        worker.hear(Some("Pending".into()));
        assert!(matches!(worker.look().unwrap(), Ended::Not), "it is started again");
        worker.hear(Some("Failed".into()));
        assert!(matches!(worker.look().unwrap(), Ended::Failed(_)));
    }

    #[test]
    fn a_run_that_is_done_is_done_whatever_its_engine_says() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.json"), json!({ "status": "done" }).to_string()).unwrap();
        assert!(matches!(worker(folder.path()).look().unwrap(), Ended::Done));
    }
}
