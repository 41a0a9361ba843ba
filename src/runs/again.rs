//! `pipe runs clone` and `fork`: a run once more.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use pipe_run::checkpoint;
use pipe_run::info;
use pipe_run::options::Fork;
use pipe_run::state_at::checkpoint_at;
use pipe_run::versions::Versions;
use pipe_runs::Run;
use pipe_runs::about::check_word;
use pipe_runs::compare::edits;
use pipe_vocab::atomic;
use pipe_vocab::shown::shown_name;

use super::which::RunArg;
use crate::output::{Status, say};
use crate::run::{self, Again, RunArgs};
use crate::source::{PipelineArgs, codes, pipeline_folder, plan_or_tell, shown};
use crate::submit;

/// What the new run has otherwise.
#[derive(Debug, Args)]
struct Changes {
    /// Set a value: `--set optimizer.sgd.lr=0.01`. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Let a refusal pass, by its code. May be given several times.
    #[arg(long, value_name = "CODE", value_parser = codes())]
    accept: Vec<String>,
}

impl Changes {
    /// A pipeline with them.
    fn of(self, file: PathBuf, base: Option<PathBuf>) -> PipelineArgs {
        PipelineArgs { file, profile: None, sets: self.sets, accept: self.accept, base }
    }
}

/// Arguments of `pipe runs clone`.
#[derive(Debug, Args)]
pub struct CloneArgs {
    #[command(flatten)]
    run: RunArg,
    #[command(flatten)]
    changes: Changes,
    /// The new file; default `NAME.toml` beside the run's own file, from whose folder its paths start.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["now", "to"])]
    out: Option<PathBuf>,
    /// Run it at once, in place of a file.
    #[arg(long = "run")]
    now: bool,
    /// Run it at once as it was: the pipeline that it began with, on its device. What is no longer as it was is said, nothing is checked out.
    #[arg(long, conflicts_with_all = ["out", "now", "sets"])]
    as_was: bool,
    /// Submit it, in place of a file, as `pipe submit` does: a profile `[submit.NAME]` of the file that the run was started from. `slurm` and `local` need
    /// none.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["now", "as_was"])]
    to: Option<String>,
    /// With --to, another file that has the profile.
    #[arg(long, value_name = "FILE", requires = "to")]
    profiles: Option<PathBuf>,
}

impl CloneArgs {
    /// Whether it is run at once.
    pub fn trains(&self) -> bool {
        self.now || self.as_was
    }
}

/// Arguments of `pipe runs fork`.
#[derive(Debug, Args)]
pub struct ForkArgs {
    #[command(flatten)]
    run: RunArg,
    /// The step: the new run goes on from the newest checkpoint at or before it.
    #[arg(long, value_name = "STEP")]
    at: u64,
    /// Train the steps between that checkpoint and the step again, so that it goes on from the step itself.
    #[arg(long)]
    rerun: bool,
    #[command(flatten)]
    changes: Changes,
    /// The new run's folder; default `runs/<name>/<time>`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Device, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Print warnings and errors only, and on standard output the run's folder.
    #[arg(long)]
    pub quiet: bool,
}

/// Writes a run's pipeline as a new file, or runs it.
///
/// # Errors
/// When there is no such run, the file is there already, or the new run fails.
pub fn clone(args: CloneArgs) -> Result<Status> {
    let run = args.run.find()?;
    let base = pipeline_folder(&run.folder);
    if args.as_was {
        return as_was(&run, args.changes);
    }
    let pipeline = args.changes.of(run.folder.clone(), None);
    if args.now {
        return run::run(RunArgs::again(pipeline, None, None, None, Again::of(&run)));
    }
    if let Some(to) = &args.to {
        let started = info::read(&run.folder).get("pipeline_file").and_then(|file| Some(PathBuf::from(file.as_str()?)));
        let profiles = args.profiles.or_else(|| started.filter(|file| file.is_file()));
        return submit::Again { pipeline, name: run.pipeline, to, profiles }.submit();
    }
    let base = base.with_context(|| format!("{} does not say where its pipeline lay", run.folder.display()))?;
    let file = match args.out {
        Some(file) => file,
        None => {
            // Anyone may have written what it is called.
            check_word("file", &run.name)?;
            base.join(format!("{}.toml", run.name))
        }
    };
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let same = folder.canonicalize().ok().zip(base.canonicalize().ok()).is_some_and(|(a, b)| a == b);
    ensure!(same, "the paths in that pipeline start from {}: write the file there", base.display());
    ensure!(!file.exists(), "{} is there already: give another with `--out`", file.display());
    let loaded = pipeline.load();
    if plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    let text = loaded.document.as_ref().map(|document| document.to_toml()).unwrap_or_default();
    let heading = format!("# Cloned from the run {} ({})", shown_name(&run.name), shown(&run.folder));
    atomic::write(&file, format!("{heading}\n{text}").as_bytes())?;
    say!("{} is written: `pipe run {0}`", shown(&file));
    Ok(Status::Done)
}

/// Runs it once more with the pipeline that it began with.
fn as_was(run: &Run, changes: Changes) -> Result<Status> {
    let versions = Versions::of(&run.folder);
    let first = versions.turns()?.into_iter().next();
    let first = first.with_context(|| format!("{} does not say with which pipeline it began", run.folder.display()))?;
    let edits = edits(&run.folder).len();
    if edits > 0 {
        say!("{} was edited {edits} times while it was at work: the new run is not", run.name);
    }
    let base = Some(pipeline_folder(&run.folder).unwrap_or_default());
    let pipeline = changes.of(versions.folder().join(first.version), base);
    let again = Again { as_was: Some(run.folder.clone()), ..Again::of(run) };
    run::run(RunArgs::again(pipeline, None, None, info::device(&run.folder), again))
}

/// Begins a new run from a step of another.
///
/// # Errors
/// When there is no such run, it did not come so far, or the new run fails.
pub fn fork(args: ForkArgs) -> Result<Status> {
    let run = args.run.find()?;
    let newest = checkpoint::newest_of(&run.folder, |_, step| step <= args.at);
    let last = checkpoint::newest_of(&run.folder, |_, _| true).as_deref().and_then(checkpoint::step_of);
    let last = last.unwrap_or_default().max(run.steps);
    ensure!(args.at <= last, "{} has no step {}: its last is {last}", run.name, args.at);
    let from = newest.as_deref().and_then(checkpoint::step_of);
    let made_again = match (&newest, from) {
        (Some(_), Some(from)) if from == args.at || !args.rerun => None,
        (None, _) if !args.rerun => {
            bail!(
                "{} has no checkpoint at or before step {}: `--rerun` trains it again from its beginning",
                run.name,
                args.at
            )
        }
        _ => Some(checkpoint_at(&run.folder, args.at, args.device.as_deref())?),
    };
    let checkpoint = made_again.as_ref().map(|made| made.checkpoint.clone()).or(newest);
    let checkpoint = checkpoint.context("there is a checkpoint")?;
    let step = checkpoint::step_of(&checkpoint);
    tell(&args, &run, step);
    let name = match &made_again {
        Some(_) => format!("step_{:06} (made again)", args.at),
        None => checkpoint.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let fork = Fork { run: run.folder.clone(), checkpoint: name, step };
    let base = Some(pipeline_folder(&run.folder).unwrap_or_default());
    let pipeline = args.changes.of(checkpoint.join("pipeline.toml"), base);
    let again = Again { fork: Some(fork), ..Again::of(&run) };
    let run = RunArgs::again(pipeline, Some(&checkpoint), args.out, args.device, again);
    run::run(RunArgs { quiet: args.quiet, ..run })
}

/// Says from where the new run goes on, and what it leaves out.
fn tell(args: &ForkArgs, run: &Run, step: Option<u64>) {
    let step = step.unwrap_or_default();
    if step < args.at {
        say!(
            "going on from step {step}, the newest checkpoint before step {}; `--rerun` trains the steps between again",
            args.at
        );
    }
    let later = edits(&run.folder).into_iter().filter(|edit| edit.step >= step).count();
    if later > 0 {
        say!("{} was edited {later} times after that: the new run is not", run.name);
    }
}
