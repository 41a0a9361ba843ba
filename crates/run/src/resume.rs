//! What `--resume` and `--out` mean: in which folder a run begins or goes on, and from which checkpoint.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_history::history;
use serde_json::Value;

use crate::checkpoint;
use crate::folders::{self, Found};
use crate::info::{self, Status};
use crate::lock::{Lock, Refused};
use crate::options::{Fork, run_of};

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// `--resume`: `auto`, `latest`, a run's folder, a checkpoint's.
    pub resume: Option<&'a str>,
    /// `--out`.
    pub out: Option<&'a Path>,
    /// `--in-place`.
    pub in_place: bool,
    /// The folder of all runs.
    pub root: &'a Path,
    /// The pipeline's name.
    pub name: &'a str,
    /// The run whose pipeline is run, where a run was given in place of a file.
    pub run: Option<&'a Path>,
}

/// Where a run begins or goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Its folder.
    pub folder: PathBuf,
    /// The checkpoint that it goes on from.
    pub checkpoint: Option<PathBuf>,
    /// Whether the folder holds this very run already.
    goes_on: bool,
    /// Whether the checkpoint is the run's newest, or there is none.
    newest: bool,
    /// Whether the run goes back behind what it had done.
    pub rewinds: bool,
    /// Whether it begins as it did: a fork that has no checkpoint of its own yet.
    again: bool,
}

impl Start {
    /// Decides. Makes no folder but a new one under the folder of all runs.
    ///
    /// # Errors
    /// [`Refused`] when there is nothing to go on from, or not what one would expect; others when no folder can be made.
    pub fn of(wish: &Wish<'_>) -> Result<Start> {
        match wish.resume {
            None => wish.new_run(),
            Some("auto") => wish.auto(),
            Some("latest") => wish.latest(),
            Some(path) => wish.named(Path::new(path)),
        }
    }

    fn going_on(run: &Path, checkpoint: Option<PathBuf>) -> Start {
        Start { folder: run.to_owned(), checkpoint, goes_on: true, newest: true, rewinds: false, again: false }
    }

    /// A fork that was cut off before it had a checkpoint of its own begins again where it began.
    fn again(run: &Path) -> Result<Start> {
        let shown = run.display();
        let Some(origin) = origin(run) else {
            return refused(format!(
                "{shown} has no checkpoint of its own, and the one that it began from is not there"
            ));
        };
        tracing::info!("{shown} has no checkpoint of its own yet: it begins again from {}", origin.display());
        Ok(Start { newest: false, again: true, ..Start::going_on(run, Some(origin)) })
    }

    /// Whether the run in the folder has come to its end with this very pipeline: there is nothing to do.
    pub fn is_finished(&self, pipeline: &str) -> bool {
        let kept = || fs::read_to_string(self.folder.join("pipeline.toml")).is_ok_and(|kept| kept == pipeline);
        self.goes_on && !self.rewinds && info::status(&self.folder) == Some(Status::Done) && kept()
    }

    /// Takes the folder, and fills that of a fork with what the other run had recorded.
    ///
    /// # Errors
    /// [`Refused`] when it is another's; others when it cannot be written.
    pub fn take(&self) -> Result<Lock> {
        if self.goes_on {
            if info::status(&self.folder) == Some(Status::Done) && !self.rewinds {
                tracing::warn!(
                    "{} is done: only what the pipeline has more of now is left to do",
                    self.folder.display()
                );
            }
            let lock = Lock::take(&self.folder)?;
            // Another process may have gone on with it and ended since this was decided.
            if self.newest && checkpoint::newest(&self.folder) != self.checkpoint {
                return refused(format!("{} has gone on meanwhile: start again", self.folder.display()));
            }
            match &self.checkpoint {
                Some(checkpoint) if self.rewinds => checkpoint::abandon_others(&self.folder, checkpoint)?,
                Some(checkpoint) if self.again => copy_records(checkpoint, &self.folder)?,
                _ => {}
            }
            return Ok(lock);
        }
        let lock = folders::take_new(&self.folder)?;
        if let Some(checkpoint) = &self.checkpoint {
            copy_records(checkpoint, &self.folder)?;
        }
        Ok(lock)
    }

    /// Whether a new run begins in a folder of its own.
    pub fn is_new(&self) -> bool {
        !self.goes_on
    }

    /// The run that a new one goes on from.
    pub fn fork(&self) -> Option<Fork> {
        let checkpoint = self.checkpoint.as_deref().filter(|_| !self.goes_on || self.again)?;
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Some(Fork { run: run_of(checkpoint).to_owned(), checkpoint: name, step: checkpoint::step_of(checkpoint) })
    }
}

/// Copies what a run had recorded when a checkpoint was made, so that the charts of its fork are whole.
pub(crate) fn copy_records(checkpoint: &Path, folder: &Path) -> Result<()> {
    let state: Value =
        fs::read(checkpoint.join(STATE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let from = run_of(checkpoint).join("records.jsonl");
    let lengths = serde_json::from_value(state["history"].clone()).ok();
    history::copy(run_of(checkpoint), folder, lengths.as_ref())?;
    let (Some(length), true) = (state["records"].as_u64(), from.exists()) else {
        tracing::warn!("{} has no records of its run; the new run's begin here", checkpoint.display());
        return Ok(());
    };
    let to = folder.join("records.jsonl");
    let copy = || std::io::copy(&mut File::open(&from)?.take(length), &mut File::create(&to)?);
    copy().map(drop).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))
}

const STATE: &str = "state.json";

fn refused<T>(message: String) -> Result<T> {
    Err(Refused(message).into())
}

fn is_fork(run: &Path) -> bool {
    info::read(run).get("forked_from").is_some_and(|fork| !fork.is_null())
}

/// The checkpoint that a fork began from, where it is there still.
fn origin(run: &Path) -> Option<PathBuf> {
    let info = info::read(run);
    let fork = info.get("forked_from")?;
    let path = Path::new(fork.get("run")?.as_str()?).join("checkpoints").join(fork.get("checkpoint")?.as_str()?);
    checkpoint::step_of(&path).map(|_| path)
}

/// Why a run has nothing to go on from.
fn nothing_in(run: &Path) -> String {
    let damaged = info::checkpoints(&run.join("checkpoints"));
    match damaged.is_empty() {
        true if info::status(run) == Some(Status::Running) => "none was saved yet".into(),
        true => "it ended before one was saved".into(),
        false => format!("none of {} is whole", damaged.join(", ")),
    }
}

fn described(run: &Found) -> String {
    format!("{} ({})", run.folder.display(), run.status)
}

impl Wish<'_> {
    fn new_run(&self) -> Result<Start> {
        self.new_from(None)
    }

    fn new_from(&self, checkpoint: Option<PathBuf>) -> Result<Start> {
        let folder = match self.out {
            Some(out) => out.to_owned(),
            None => folders::new_folder(self.root, self.name)?,
        };
        Ok(Start { folder, checkpoint, goes_on: false, newest: false, rewinds: false, again: false })
    }

    /// Goes on with a run, in its folder, or in that of `--out` as a fork.
    fn from(&self, run: &Path, checkpoint: PathBuf) -> Result<Start> {
        match self.out {
            Some(out) if !same(out, run) => self.new_from(Some(checkpoint)),
            _ => Ok(Start::going_on(run, Some(checkpoint))),
        }
    }

    /// The runs that are meant where none is named, the newest first.
    fn candidates(&self) -> Result<Vec<Found>> {
        match self.run {
            Some(run) => Ok(folders::find(run).into_iter().collect()),
            None => folders::runs(self.root, self.name),
        }
    }

    /// One command for every life of a job: starts where there is nothing to go on from, else goes on.
    fn auto(&self) -> Result<Start> {
        let run = match self.out {
            Some(out) => folders::find(out),
            None => self.candidates()?.into_iter().find(|run| run.status != Status::Done),
        };
        let Some(run) = run else {
            tracing::info!("there is no run to go on with: a new one begins");
            return self.new_run();
        };
        let checkpoint = checkpoint::newest(&run.folder);
        if checkpoint.is_none() && is_fork(&run.folder) {
            return Start::again(&run.folder);
        }
        if checkpoint.is_none() && !info::checkpoints(&run.folder.join("checkpoints")).is_empty() {
            return refused(format!("{} has no checkpoint: {}", described(&run), nothing_in(&run.folder)));
        }
        match &checkpoint {
            // Its lock will say so.
            _ if run.status == Status::Running => {}
            Some(_) => tracing::info!("going on with {}", described(&run)),
            None => tracing::info!("{} has no checkpoint: it begins again", described(&run)),
        }
        Ok(Start::going_on(&run.folder, checkpoint))
    }

    /// The newest run, and no other.
    fn latest(&self) -> Result<Start> {
        let runs = self.candidates()?;
        let Some((newest, older)) = runs.split_first() else {
            return refused(format!("there is no run of `{}` under {}", self.name, self.root.display()));
        };
        if let Some(checkpoint) = checkpoint::newest(&newest.folder) {
            return self.from(&newest.folder, checkpoint);
        }
        let older = older.iter().find_map(|run| Some((run, checkpoint::step_of(&checkpoint::newest(&run.folder)?)?)));
        let way = match older {
            Some((run, step)) => format!(
                "the next older one is {} at step {step}; `--resume {}` goes on with it",
                described(run),
                run.folder.display()
            ),
            None => "no older one has any; leave `--resume` out to begin".into(),
        };
        refused(format!(
            "the newest run, {}, has no checkpoint: {}; {way}",
            described(newest),
            nothing_in(&newest.folder)
        ))
    }

    /// A run's folder, or a checkpoint's.
    fn named(&self, path: &Path) -> Result<Start> {
        if !path.join(STATE).exists() {
            return match checkpoint::newest(path) {
                Some(checkpoint) => self.from(path, checkpoint),
                None if self.out.is_none() && is_fork(path) => Start::again(path),
                None if path.exists() => refused(format!("{} has no checkpoint: {}", path.display(), nothing_in(path))),
                None => refused(format!("there is no run at {}", path.display())),
            };
        }
        let run = run_of(path);
        let checkpoint = path.to_owned();
        match (self.in_place, self.out) {
            (true, None) if info::status(run).is_some() => {
                let newest = checkpoint::newest(run).as_ref() == Some(&checkpoint);
                Ok(Start { newest: false, rewinds: !newest, ..Start::going_on(run, Some(checkpoint)) })
            }
            (true, None) => refused(format!("{} lies in no run that could go back to it", path.display())),
            (true, Some(_)) => refused("`--in-place` goes back in the run's own folder: leave `--out` out".into()),
            (false, Some(out)) if same(out, run) => {
                refused(format!("`--in-place` in place of `--out` takes the run back to {}", path.display()))
            }
            (false, _) => self.new_from(Some(checkpoint)),
        }
    }
}

/// Whether two paths lead to one folder.
fn same(a: &Path, b: &Path) -> bool {
    a == b || fs::canonicalize(a).ok().zip(fs::canonicalize(b).ok()).is_some_and(|(a, b)| a == b)
}
