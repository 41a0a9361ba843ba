//! `pipe runs jobs`, `stop` and `requeue`: runs that were submitted, and how they stand with who has them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pipe_history::requests::{Ask, Request, Requests};
use pipe_history::standing::{self, Status as Standing};
use pipe_runs::queue;
use pipe_submit::{Receipt, States};
use serde_json::json;

use super::list::PATIENCE;
use super::table::table;
use super::which::{one, roots};
use crate::output::{Format, Status, say};
use crate::source::shown;

/// Arguments of `pipe runs jobs`.
#[derive(Debug, Args)]
pub struct JobsArgs {
    /// Those that have ended as well.
    #[arg(long)]
    all: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Arguments of `pipe runs stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The run: a folder, a name or how one begins, or `latest`; or the folder of an array for all its runs.
    run: String,
}

/// Arguments of `pipe runs requeue`.
#[derive(Debug, Args)]
pub struct RequeueArgs {
    /// The run: a folder, a name or how one begins; or the folder of an array for all its runs.
    run: String,
}

/// Lists the jobs of submitted runs.
///
/// # Errors
/// When the output cannot be written.
pub fn jobs(args: &JobsArgs) -> Result<Status> {
    let roots: Vec<PathBuf> = roots().into_iter().filter(|root| root.is_dir()).collect();
    let mut runs = pipe_runs::look(&roots)?;
    runs.retain(|run| run.job.is_some() && (args.all || run.status != Standing::Done));
    runs.sort_by(|a, b| a.folder.cmp(&b.folder));
    queue::tell(&mut runs, |jobs| States::default().within(PATIENCE, jobs));
    let mut rows = vec![["run", "engine", "job", "state", "status"].map(str::to_owned).to_vec()];
    let mut list = Vec::new();
    for (run, job) in runs.iter().filter_map(|run| Some((run, run.job.as_ref()?))) {
        let (engine, number) = (job.receipt.engine.as_str(), &job.receipt.job);
        let (state, status) = (job.state.as_deref(), run.status.to_string());
        list.push(json!({ "folder": run.folder, "engine": engine, "job": number, "state": state, "status": status }));
        let state = state.unwrap_or(if run.status == Standing::Done { "-" } else { "unknown" });
        rows.push(vec![shown(&run.folder), engine.to_owned(), number.clone(), state.to_owned(), status]);
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&list)?),
        Format::Text if list.is_empty() => say!("no submitted run is left to be done; --all lists those that are"),
        Format::Text => print!("{}", table(&rows)),
    }
    Ok(Status::Done)
}

/// The folder that a word means: a run's, or that of an array's runs, and the job.
fn meant(word: &str) -> Result<(PathBuf, Option<Receipt>)> {
    let folder = Path::new(word);
    if let Some(array) = Receipt::read_array(folder) {
        return Ok((folder.to_owned(), Some(array)));
    }
    let folder = if Receipt::read(folder).is_some() { folder.to_owned() } else { one(word)?.folder };
    let job = Receipt::read(&folder);
    Ok((folder, job))
}

/// Has a run end with a checkpoint, wherever it is at work; one that waits in a queue is taken out of it.
///
/// # Errors
/// When there is no such run, or nothing of it to stop.
pub fn stop(args: &StopArgs) -> Result<Status> {
    let (folder, job) = meant(&args.run)?;
    if standing::status(&folder) == Some(Standing::Running) {
        let author = std::env::var("USER").unwrap_or_default();
        let request = Request { ask: Ask::Stop, author, why: String::new(), text: None, version: None };
        Requests::of(&folder).put(&request)?;
        say!("{} was asked to save a checkpoint and end", shown(&folder));
        return Ok(Status::Done);
    }
    let Some(job) = job else { bail!("{} is not at work", shown(&folder)) };
    pipe_submit::cancel(&job)
        .with_context(|| format!("{} is not at work, and its job cannot be ended", shown(&folder)))?;
    say!("job {} is ended", job.job);
    Ok(Status::Done)
}

/// Has SLURM put a run's job back into its queue, from where it goes on at its last checkpoint.
///
/// # Errors
/// When there is no such run, or SLURM does not have its job.
pub fn requeue(args: &RequeueArgs) -> Result<Status> {
    let (folder, job) = meant(&args.run)?;
    let Some(job) = job else { bail!("{} was not submitted", shown(&folder)) };
    pipe_submit::requeue(&job).with_context(|| format!("{} cannot be put back into the queue", shown(&folder)))?;
    say!("job {} is in the queue again", job.job);
    Ok(Status::Done)
}
