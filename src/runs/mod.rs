//! `pipe runs`: the runs that there are.
//!
//! - [`list`], [`show`], [`compare`], [`best`]: looking at them; [`table`]: how they are written; [`which`]: the ones that are meant
//! - [`export`]: the page of some as a file
//! - [`about`]: what their owners say of them: `tag`, `note`, `rename`; [`rm`]
//! - [`again`]: `clone` and `fork`; [`bisect`]; [`tensorboard`]
//! - [`jobs`]: those that were submitted; `stop`, `requeue`

mod about;
mod again;
mod best;
mod bisect;
mod compare;
mod export;
mod jobs;
mod list;
mod rm;
mod show;
pub mod table;
mod tensorboard;
mod which;

use anyhow::Result;
use clap::Subcommand;

use crate::output::Status;

/// Looks at many runs. RUN is a folder, a name or how one begins, or `latest`. Runs are looked for in `runs`, or where PIPE_RUNS says.
#[derive(Debug, Subcommand)]
pub enum RunsCommand {
    /// List runs: how they stand and what they came to, the newest first.
    List(list::ListArgs),
    /// Show what is known of a run.
    Show(show::ShowArgs),
    /// Compare runs: the options that differ and where they came from, metrics, data, edits.
    Compare(compare::CompareArgs),
    /// Write runs as a page in one file, which needs no server: to be kept, or sent to someone.
    Export(export::ExportArgs),
    /// Find the run that is best by a curve or a metric.
    Best(best::BestArgs),
    /// Add and remove tags: `+baseline -draft`. Runs with the tag `archived` are listed with `--all` only.
    Tag(about::TagArgs),
    /// Write a note.
    Note(about::NoteArgs),
    /// Give a run another name.
    Rename(about::RenameArgs),
    /// Move runs to the trash, `.trash` beside the others.
    Rm(rm::RmArgs),
    /// List the jobs of submitted runs, as SLURM or whoever has them says they stand.
    Jobs(jobs::JobsArgs),
    /// Have a run save a checkpoint and end, on whatever machine it is at work; or take it out of the queue.
    Stop(jobs::StopArgs),
    /// Have SLURM put a submitted run back into its queue: one at work saves a checkpoint first, from which it goes on.
    Requeue(jobs::RequeueArgs),
    /// Make a new pipeline file of a run's pipeline, or run it once more.
    Clone(again::CloneArgs),
    /// Go on from a step of a run, with other options, as a new run.
    Fork(again::ForkArgs),
    /// Find which of the options that differ makes a run worse than another, by training between them.
    Bisect(bisect::BisectArgs),
    /// Open runs in TensorBoard under their names: those that have event files, by a `[sink.tensorboard]`.
    Tensorboard(tensorboard::TensorboardArgs),
}

impl RunsCommand {
    /// Whether it trains.
    pub fn trains(&self) -> bool {
        match self {
            RunsCommand::Clone(args) => args.trains(),
            RunsCommand::Fork(_) => true,
            _ => false,
        }
    }

    /// Whether it is to say warnings and errors only.
    pub fn is_quiet(&self) -> bool {
        matches!(self, RunsCommand::Fork(args) if args.quiet)
    }
}

/// Runs a subcommand.
///
/// # Errors
/// Those of the subcommand.
pub fn runs(command: RunsCommand) -> Result<Status> {
    match command {
        RunsCommand::List(args) => list::list(&args),
        RunsCommand::Show(args) => show::show(&args),
        RunsCommand::Compare(args) => compare::compare(&args),
        RunsCommand::Export(args) => export::export(&args),
        RunsCommand::Best(args) => best::best(&args),
        RunsCommand::Tag(args) => about::tag(&args),
        RunsCommand::Note(args) => about::note(&args),
        RunsCommand::Rename(args) => about::rename(&args),
        RunsCommand::Rm(args) => rm::rm(&args),
        RunsCommand::Jobs(args) => jobs::jobs(&args),
        RunsCommand::Stop(args) => jobs::stop(&args),
        RunsCommand::Requeue(args) => jobs::requeue(&args),
        RunsCommand::Clone(args) => again::clone(args),
        RunsCommand::Fork(args) => again::fork(args),
        RunsCommand::Bisect(args) => bisect::bisect(&args),
        RunsCommand::Tensorboard(args) => tensorboard::tensorboard(&args),
    }
}
