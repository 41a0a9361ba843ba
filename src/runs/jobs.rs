//! `pipe runs jobs` and `pipe runs stop`: runs that were submitted, and how they stand with who has them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use pipe_history::requests::{Ask, Request, Requests};
use pipe_history::standing::{self, Status as Standing};
use pipe_submit::Receipt;
use serde_json::json;

use super::table::table;
use super::which::{one, roots};
use crate::output::{Format, Status, say};
use crate::source::shown;

/// How deep below the folder of all runs one is looked for: a study's or an array's lie in a folder of their own.
const DEEP: usize = 4;

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
    /// The run: a folder, a name or how one begins, or `latest`; of one that waits in a queue the folder.
    run: String,
}

/// Lists the jobs of submitted runs.
///
/// # Errors
/// When the output cannot be written.
pub fn jobs(args: &JobsArgs) -> Result<Status> {
    let mut found = Vec::new();
    roots().iter().for_each(|root| below(root, DEEP, &mut found));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let mut rows = vec![["run", "engine", "job", "state", "status"].map(str::to_owned).to_vec()];
    let mut list = Vec::new();
    for (folder, receipt) in found {
        let status = standing::status(&folder);
        if status == Some(Standing::Done) && !args.all {
            continue;
        }
        let state = pipe_submit::state(&receipt).unwrap_or_else(|_| "unknown".into());
        let status = status.map(|status| status.to_string());
        let engine = format!("{:?}", receipt.engine).to_lowercase();
        list.push(json!({ "folder": folder, "engine": engine, "job": receipt.job, "state": state, "status": status }));
        rows.push(vec![shown(&folder), engine, receipt.job, state, status.unwrap_or_else(|| "-".into())]);
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&list)?),
        Format::Text if list.is_empty() => say!("no submitted run is left to be done; --all lists those that are"),
        Format::Text => print!("{}", table(&rows)),
    }
    Ok(Status::Done)
}

fn below(folder: &Path, deep: usize, found: &mut Vec<(PathBuf, Receipt)>) {
    found.extend(Receipt::read(folder).map(|receipt| (folder.to_owned(), receipt)));
    if deep == 0 || standing::status(folder).is_some() {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            below(&entry.path(), deep - 1, found);
        }
    }
}

/// Has a run end with a checkpoint, wherever it is at work; one that waits in a queue is taken out of it.
///
/// # Errors
/// When there is no such run, or nothing of it to stop.
pub fn stop(args: &StopArgs) -> Result<Status> {
    let folder = Path::new(&args.run);
    let folder = if Receipt::read(folder).is_some() { folder.to_owned() } else { one(&args.run)?.folder };
    if standing::status(&folder) == Some(Standing::Running) {
        let author = std::env::var("USER").unwrap_or_default();
        let request = Request { ask: Ask::Stop, author, why: String::new(), text: None, version: None };
        Requests::of(&folder).put(&request)?;
        say!("{} was asked to save a checkpoint and end", shown(&folder));
        return Ok(Status::Done);
    }
    let Some(receipt) = Receipt::read(&folder) else { bail!("{} is not at work", shown(&folder)) };
    pipe_submit::cancel(&receipt)
        .with_context(|| format!("{} is not at work, and its job cannot be ended", shown(&folder)))?;
    say!("job {} is ended", receipt.job);
    Ok(Status::Done)
}
