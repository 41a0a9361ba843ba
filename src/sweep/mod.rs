//! `pipe sweep FILE`: many runs of a pipeline that differ as its `[sweep]` says.
//!
//! - [`settings`]: what the section and the command line say, as a space, a sampler, a pruner
//! - [`values`]: whether the pipeline takes every value, before the first trial
//! - [`driver`]: who begins trials, follows them and keeps the study's journal
//! - [`population`]: which trials at work go on from which others, and how they are asked to
//! - [`exchange`]: such an edit, as the journal has it
//! - [`worker`]: a trial at work: its processes, one after the other
//! - [`process`]: such a process, of this machine or a job that was submitted
//! - [`measured`]: what a run has measured
//! - [`report`]: what is said of it all

mod driver;
mod exchange;
mod measured;
mod population;
mod process;
mod report;
mod settings;
pub mod values;
mod worker;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pipe_core::terminal;
use pipe_plan::{Plan, SweepConfig};

use crate::output::{Format, Status};
use crate::signals::{Signals, Words};
use crate::source::{PipelineArgs, plan_or_tell, shown, tell_of};
use crate::submit::profile_of;
use driver::Driver;
use process::To;
use settings::{Settings, Wish};

/// Arguments of `pipe sweep`.
#[derive(Debug, Args)]
#[command(after_help = "The section [sweep] is described in docs/sweeps.md. Called again, it goes on with the study.")]
pub struct SweepArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// How many trials the study is to have, instead of what `[sweep]` says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    trials: Option<u64>,
    /// How many trials are at work at a time; where there are several GPUs, each on the next of them.
    /// Default 1; a population is all at work together.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: Option<u64>,
    /// How many runs with seeds of their own make a trial, instead of what `[sweep]` says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: Option<u64>,
    /// The study's folder, with a folder for each trial and `journal.log`, which Optuna reads and goes on with; default
    /// `runs/sweeps/<study>`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Device, instead of the pipeline's: auto, cpu, cuda, cuda:N.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Submit each trial, as `pipe submit` does: a profile `[submit.NAME]` of the file. `slurm` and `local` need none. With --jobs, how many of them
    /// wait or are at work at a time.
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
}

/// What is said when a signal has come.
const WORDS: Words = Words {
    first: Some("trials save a checkpoint and end; press Ctrl-C again to stop immediately"),
    still: "trials are still at work",
    json: false,
};

/// The same where trials are jobs.
const LEAVING: Words = Words { first: Some("jobs are left at work"), ..WORDS };

/// Runs trials until the study has as many as it is to have.
///
/// # Errors
/// When the study is another's, or its journal cannot be written.
pub fn sweep(args: &SweepArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    let Some(plan) = plan_or_tell(&loaded)? else { return Ok(Status::Wrong) };
    let Some(config) = &plan.sweep else {
        let file = shown(&args.pipeline.file);
        terminal::line(&format!(
            "error: {file} has no section [sweep], which says what is to be tried: docs/sweeps.md"
        ));
        return Ok(Status::Wrong);
    };
    let found = values::check(&args.pipeline, &loaded, config);
    if found.has_errors() {
        tell_of(&found, &loaded, Format::Text)?;
        return Ok(Status::Wrong);
    }
    let settings = match settings_of(args, plan, config) {
        Ok(settings) => settings,
        Err(said) => {
            terminal::line(&format!("error: {said}"));
            return Ok(Status::Wrong);
        }
    };
    let signals = Signals::listen(if settings.to.is_some() { LEAVING } else { WORDS })?;
    Driver::start(&args.pipeline, &settings, signals)?.drive()
}

/// What is to be done; what of it does not go together.
fn settings_of(args: &SweepArgs, plan: &Plan, config: &SweepConfig) -> Result<Settings, String> {
    let profile = args.to.as_ref().map(|name| profile_of(plan, name)).transpose()?;
    let device = args.device.iter().flat_map(|device| ["--device".to_owned(), device.clone()]);
    let to = profile.map(|profile| To { profile, more: device.collect() });
    let (out, device) = (args.out.clone(), args.device.clone());
    let (trials, jobs, seeds) = (args.trials, args.jobs, args.seeds);
    let settings = Settings::of(Wish { pipeline: &args.pipeline, trials, jobs, seeds, out, device, to }, plan, config);
    if settings.seeds.len() > 1 && settings.space.get("pipeline.seed").is_some() {
        return Err(
            "`pipeline.seed` is a parameter, and each trial has several seeds: leave one of the two away".into()
        );
    }
    if settings.population.is_some() {
        if settings.to.is_some() {
            return Err("the members of a population are processes of one machine: leave `--to` away".into());
        }
        if (settings.jobs as u64) < settings.trials {
            return Err(format!(
                "the {0} members of a population are all at work together: `--jobs {0}`, or fewer members (`trials`)",
                settings.trials
            ));
        }
    }
    Ok(settings)
}
