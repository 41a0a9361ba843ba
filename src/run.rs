//! `pipe run FILE`.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Format, Status};
use crate::source::{PipelineArgs, plan_or_log, plan_or_tell, runs_folder, shown, without_secrets};
use pipe_core::terminal;
use pipe_document::Document;
use pipe_plan::Plan;
use pipe_run::load::Snapshot;
use pipe_run::reload::watch::{Trigger, WatchOptions};
use pipe_run::reload::{Inbox, Reloader, resumed, watch};
use pipe_run::{Ending, RunOptions, Running, checkpoint, folders};

/// Arguments of `pipe run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Device, instead of the pipeline's: auto, cpu, cuda, cuda:N.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Resume from the last checkpoint of a run: its folder, a checkpoint's folder, or `latest`.
    #[arg(long, value_name = "RUN")]
    resume: Option<String>,
    /// The run's folder; default `runs/<name>/<time>`.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Hot reload: apply edits of the file and its parents while the run continues. SIGHUP also reads them.
    #[arg(long)]
    watch: bool,
    /// With --watch, poll the files at this interval instead of using file system notifications: for network file systems.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds, requires = "watch")]
    watch_poll: Option<Duration>,
    /// Print errors only.
    #[arg(long)]
    pub quiet: bool,
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
}

/// Runs a pipeline.
///
/// # Errors
/// What stops the run.
pub fn run(args: RunArgs) -> Result<Status> {
    let mut loaded = args.pipeline.load();
    let json = args.log_format == Format::Json;
    let plan = if json { plan_or_log(&loaded) } else { plan_or_tell(&loaded)? };
    let Some(plan) = plan else { return Ok(Status::Wrong) };
    if let Some(device) = &args.device
        && !pipe_plan::pipeline::is_device(device)
    {
        eprintln!("error: `{device}` is not a device; write auto, cpu, cuda or cuda:N");
        return Ok(Status::Wrong);
    }
    let name = plan.pipeline.name.clone().unwrap_or_else(|| args.pipeline.stem());
    let resume = args.resume.as_deref().map(|from| resume_point(from, &name)).transpose()?;
    let folder = match (&args.out, &resume) {
        (Some(out), _) => out.clone(),
        (None, Some((run, _))) => run.clone(),
        (None, None) => folders::new_folder(&runs_folder(), &name)?,
    };
    let base = loaded.document.as_ref().map(|document| document.folder(&loaded.sources).to_owned()).unwrap_or_default();
    if resume.is_some() {
        for line in resumed::since(&folder, &loaded, &base) {
            tracing::info!("changed since the last run: {line}");
        }
    }
    let options = RunOptions {
        folder,
        device: args.device.clone(),
        resume: resume.map(|(_, checkpoint)| checkpoint),
        quiet: args.quiet,
        json_log: json,
        pipeline_text: loaded.document.as_ref().map(|d| d.to_toml()).unwrap_or_default(),
        pipeline_folder: std::env::current_dir()?.join(base),
        command: without_secrets(&loaded, std::env::args()),
    };
    let running = Running::start(plan, loaded.catalog.clone(), &options, interrupt_flag(json)?)?;
    let reloader = match loaded.plan.take().filter(|_| args.watch) {
        Some(plan) => {
            let document = loaded.document.clone();
            Some(watch(&args, (plan, document), std::mem::take(&mut loaded.snapshot), &running)?)
        }
        None => None,
    };
    let ending = running.drive();
    if let Some(reloader) = reloader {
        reloader.end();
    }
    match ending? {
        Ending::Done => Ok(Status::Done),
        Ending::Interrupted => {
            let profile = args.pipeline.profile.as_ref().map(|name| format!(" --profile {name}")).unwrap_or_default();
            let sets = without_secrets(&loaded, args.pipeline.sets.iter().cloned());
            let sets: String = sets.iter().map(|set| format!(" --set '{set}'")).collect();
            let (file, run) = (args.pipeline.file.display(), shown(&options.folder));
            let text = format!("interrupted; resume with: pipe run {file}{profile}{sets} --resume {run}");
            if json {
                tracing::warn!("{text}")
            } else {
                terminal::line(&text)
            }
            Ok(Status::Interrupted)
        }
    }
}

/// Applies edits from now on.
fn watch(
    args: &RunArgs,
    plan: (Plan, Option<Document>),
    snapshot: Snapshot,
    running: &Running,
) -> Result<Rc<Reloader>> {
    let (source, inbox) = (args.pipeline.source(), Arc::new(Inbox::default()));
    let options = WatchOptions { poll: args.watch_poll };
    let trigger = watch::start(source.clone(), snapshot, options, inbox.clone())?;
    reload_on_hangup(trigger)?;
    let reloader = Rc::new(Reloader::new(&running.graph, source, plan, inbox, args.quiet));
    running.graph.set_between(reloader.clone());
    tracing::info!("watching {}: edits are applied while the run continues", args.pipeline.file.display());
    Ok(reloader)
}

/// Reads the pipeline on SIGHUP.
fn reload_on_hangup(trigger: Trigger) -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot listen for SIGHUP")?;
    let guard = runtime.enter();
    let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
    drop(guard);
    std::thread::Builder::new().name("sighup".into()).spawn(move || {
        runtime.block_on(async move {
            while hangups.recv().await.is_some() {
                trigger.reload();
            }
        });
    })?;
    Ok(())
}

/// Reads a number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration >= Duration::from_millis(10));
    duration.ok_or_else(|| "write a number of seconds, 0.01 or more".to_owned())
}

/// The run's folder and the checkpoint that `--resume` means.
fn resume_point(from: &str, name: &str) -> Result<(PathBuf, PathBuf)> {
    if from == "latest" {
        let root = runs_folder();
        let run = folders::latest_folder(&root, name)
            .with_context(|| format!("there is no run of `{name}` with a checkpoint under {}", root.display()))?;
        let checkpoint = checkpoint::latest(&run).context("the latest run has no checkpoint")?;
        return Ok((run, checkpoint));
    }
    let path = Path::new(from);
    if path.join("state.json").exists() {
        let run = path.parent().and_then(Path::parent).unwrap_or(path);
        return Ok((run.to_owned(), path.to_owned()));
    }
    match checkpoint::latest(path) {
        Some(checkpoint) => Ok((path.to_owned(), checkpoint)),
        None if path.exists() => bail!("{from} has no checkpoint: nothing was saved before the run ended"),
        None => bail!("there is no run at {from}"),
    }
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process immediately.
pub fn interrupt_flag(json: bool) -> Result<Arc<AtomicBool>> {
    interrupt_flag_saying("finishing this step, then saving a checkpoint; press Ctrl-C again to stop immediately", json)
}

/// As [`interrupt_flag`], with what is said on the first Ctrl-C.
pub fn interrupt_flag_saying(words: &'static str, json: bool) -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot listen for Ctrl-C")?;
    std::thread::Builder::new().name("ctrl-c".into()).spawn(move || {
        runtime.block_on(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                if set.swap(true, Ordering::Relaxed) {
                    std::process::exit(130);
                }
                // After the `^C` that the terminal shows.
                if json { tracing::warn!("{words}") } else { terminal::line(&format!("\n{words}")) }
            }
        });
    })?;
    Ok(flag)
}
