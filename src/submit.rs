//! `pipe submit FILE --to PROFILE`: a run on other machines, by the engine that people have.

use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use pipe_core::terminal;
use pipe_plan::{Plan, submit};
use pipe_run::folders;
use pipe_run::load::Loaded;
use pipe_run::submitted::Submitted;
use pipe_submit::{Array, Job, Profile, Receipt, states};

use crate::output::{Format, Status};
use crate::source::{PipelineArgs, plan_or_tell, runs_folder, shown, tell_of};

/// Arguments of `pipe submit`.
#[derive(Debug, Args)]
#[command(after_help = "Profiles are described in docs/submit.md.")]
pub struct SubmitArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Where to: a profile `[submit.NAME]` of the file. `slurm` and `local` need none.
    #[arg(long, value_name = "NAME")]
    to: String,
    /// The run's folder, which all machines need to see; default `runs/<name>/<time>`. Of an array the folder of its runs.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// One process on each of these devices, as of `pipe run`.
    #[arg(long, value_name = "DEVICES")]
    devices: Option<String>,
    /// Several runs, one for each value of an option: `--array pipeline.seed=1,2,3`.
    #[arg(long, value_name = "OPTION=VALUES")]
    array: Option<String>,
    /// With --array, how many of them are at work at a time at most.
    #[arg(long, value_name = "N", requires = "array", value_parser = clap::value_parser!(u32).range(1..))]
    at_most: Option<u32>,
    /// Print the job's file, and submit nothing.
    #[arg(long)]
    dry_run: bool,
    /// Show what the run says until it ends; Ctrl-C leaves it at work.
    #[arg(long, conflicts_with_all = ["dry_run", "array"])]
    follow: bool,
}

/// Between two looks at a job.
const TICK: Duration = Duration::from_secs(1);

/// Submits a run.
///
/// # Errors
/// When the job cannot be written or is refused.
pub fn submit(args: &SubmitArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    let Some(plan) = plan_or_tell(&loaded)? else { return Ok(Status::Wrong) };
    let profile = match profile_of(plan, &args.to) {
        Ok(profile) => profile,
        Err(said) => return wrong(&said),
    };
    let array = match args.array.as_deref().map(|text| Array::parse(text, args.at_most)).transpose() {
        Ok(array) => array,
        Err(said) => return wrong(&format!("--array {said}")),
    };
    // What the first machine would refuse is refused here.
    for set in array.iter().flat_map(|array| &array.sets) {
        let mut pipeline = args.pipeline.clone();
        pipeline.sets.push(set.clone());
        if plan_or_tell(&pipeline.load())?.is_none() {
            return Ok(Status::Wrong);
        }
    }
    let name = plan.pipeline.name.clone().unwrap_or_else(|| args.pipeline.stem());
    let folder = match &args.out {
        Some(folder) => absolute(folder)?,
        None if args.dry_run => absolute(runs_folder().join(&name).join("TIME"))?,
        None => absolute(folders::new_folder(&runs_folder(), &name)?)?,
    };
    let mut job = match job_of(&profile, &args.pipeline, &loaded, name, folder)? {
        Ok(job) => job,
        Err(said) => return wrong(&said),
    };
    job.more = args.devices.iter().flat_map(|devices| ["--devices".to_owned(), devices.clone()]).collect();
    job.array = array;
    if args.dry_run {
        print!("{}", pipe_submit::file(&profile, &job)?);
        return Ok(Status::Done);
    }
    let receipt = hand_over(&args.to, &profile, &job)?;
    if args.follow { follow(&job.folder, &receipt) } else { Ok(Status::Done) }
}

/// Where a run goes that is submitted once more.
#[derive(Debug)]
pub struct Again<'a> {
    /// Its pipeline.
    pub pipeline: PipelineArgs,
    /// What it is called where its pipeline has no name.
    pub name: String,
    /// The profile.
    pub to: &'a str,
    /// The file that has it, if one is known.
    pub profiles: Option<PathBuf>,
}

impl Again<'_> {
    /// Submits it.
    ///
    /// # Errors
    /// When the job cannot be written or is refused.
    pub fn submit(self) -> Result<Status> {
        let profile = match self.profile()? {
            Ok(profile) => profile,
            Err(said) => return wrong(&said),
        };
        let loaded = self.pipeline.load();
        let Some(plan) = plan_or_tell(&loaded)? else { return Ok(Status::Wrong) };
        let name = plan.pipeline.name.clone().unwrap_or(self.name);
        let folder = folders::new_folder(&runs_folder(), &name)?;
        match job_of(&profile, &self.pipeline, &loaded, name, absolute(folder)?)? {
            Ok(job) => hand_over(self.to, &profile, &job).map(|_| Status::Done),
            Err(said) => wrong(&said),
        }
    }

    /// The profile, from its file; one that needs no word in a file from nowhere.
    fn profile(&self) -> Result<Result<Profile, String>> {
        let Some(file) = &self.profiles else {
            let hint = |said: String| format!("{said}; name a file that has it with --profiles");
            return Ok(submit::plain(self.to).map_err(hint));
        };
        let pipeline = PipelineArgs { file: file.clone(), sets: Vec::new(), base: None, ..self.pipeline.clone() };
        let loaded = pipeline.load();
        let Some(document) = &loaded.document else {
            return plan_or_tell(&loaded).map(|_| Err(format!("{} cannot be read", file.display())));
        };
        let (mut profiles, found) = submit::profiles(document, &loaded.sources, &loaded.catalog);
        tell_of(&found, &loaded, Format::Text)?;
        let hint = |said: String| format!("{said}: {}", file.display());
        Ok(profiles.swap_remove(self.to).map_or_else(|| submit::plain(self.to).map_err(hint), Ok))
    }
}

fn wrong(said: &str) -> Result<Status> {
    terminal::line(&format!("error: {said}"));
    Ok(Status::Wrong)
}

/// The profile `[submit.NAME]` of a pipeline; one that needs no word in it.
///
/// # Errors
/// What to tell where there is none.
pub fn profile_of(plan: &Plan, name: &str) -> Result<Profile, String> {
    plan.submit.get(name).cloned().map_or_else(|| submit::plain(name), Ok)
}

/// A run as a job: the pipeline as it was loaded, in this folder.
///
/// # Errors
/// When this program does not know where it is; inside, what keeps the pipeline from being submitted.
pub fn job_of(
    profile: &Profile,
    pipeline: &PipelineArgs,
    loaded: &Loaded,
    name: String,
    folder: PathBuf,
) -> Result<Result<Job, String>> {
    // How this program is called where the job is at work.
    let program = match profile {
        Profile::Slurm(config) => config.program.clone(),
        Profile::Kubernetes(config) => config.program.clone(),
        Profile::Local(_) => std::env::current_exe().context("this program's own path")?.display().to_string(),
    };
    let from = std::env::current_dir().context("the working directory")?;
    let submitted = Submitted::of(&pipeline.source(), loaded, &name);
    let job = |pipeline| Job { name, from, program, pipeline, folder, more: Vec::new(), array: None };
    Ok(submitted.map(|submitted| job(submitted.text())))
}

fn hand_over(to: &str, profile: &Profile, job: &Job) -> Result<Receipt> {
    let receipt = pipe_submit::submit(profile, job)?;
    terminal::line(&format!("submitted to {to}: job {}", receipt.job));
    terminal::result(&shown(&job.folder));
    Ok(receipt)
}

/// Shows the run's log as it grows, until the engine has ended the job.
fn follow(folder: &Path, receipt: &Receipt) -> Result<Status> {
    let (mut shown, mut last) = (0, String::new());
    loop {
        let state = pipe_submit::state(receipt)?;
        let text = std::fs::read(folder.join("console.log")).unwrap_or_default();
        if let Some(more) = text.get(shown..).filter(|more| !more.is_empty()) {
            terminal::line(String::from_utf8_lossy(more).trim_end());
            shown = text.len();
        }
        if state != last {
            terminal::line(&format!("job {}: {state}", receipt.job));
            last = state;
        }
        if states::is_over(&last) {
            return Ok(match pipe_history::standing::status(folder) {
                Some(pipe_history::standing::Status::Done) => Status::Done,
                _ => Status::Failed,
            });
        }
        std::thread::sleep(TICK);
    }
}
