//! `pipe runs rm`.

use anyhow::Result;
use clap::Args;
use pipe_runs::trash;

use super::which::{one, roots};
use crate::output::{Status, say};
use crate::source::shown;

/// Arguments of `pipe runs rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The runs: folders, names or how they begin, `latest`.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Remove them for good.
    #[arg(long)]
    forever: bool,
}

/// Removes runs. All are looked for before the first goes.
///
/// # Errors
/// When there is no such run, or it is at work.
pub fn rm(args: &RmArgs) -> Result<Status> {
    let runs = args.runs.iter().map(|word| one(word)).collect::<Result<Vec<_>>>()?;
    for run in runs {
        match args.forever {
            true => {
                trash::remove(&run.folder)?;
                say!("{} is removed", shown(&run.folder));
            }
            false => say!("{} is now {}", shown(&run.folder), shown(&trash::put(&run.folder, &roots())?)),
        }
    }
    Ok(Status::Done)
}
