//! `pipe run FILE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::source::{PipelineArgs, runs_folder, shown};
use super::{Format, Status};
use crate::run::{Ending, RunOptions, Running, checkpoint, running, terminal};

/// Arguments of `pipe run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Where models run, before the pipeline's own: auto, cpu, cuda, cuda:N.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Go on from the last checkpoint of a run: its folder, a checkpoint's folder, or `latest`.
    #[arg(long, value_name = "RUN")]
    resume: Option<String>,
    /// The run's folder; `runs/<name>/<time>` when left out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print errors only.
    #[arg(long)]
    pub quiet: bool,
    /// How log lines are printed.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
}

/// Runs a pipeline.
///
/// # Errors
/// What stops the run.
pub fn run(args: RunArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    let json = args.log_format == Format::Json;
    let plan = if json { loaded.plan_or_log() } else { loaded.plan_or_tell()? };
    let Some(plan) = plan else { return Ok(Status::Wrong) };
    if let Some(device) = &args.device
        && !crate::plan::pipeline::is_device(device)
    {
        eprintln!("error: `{device}` is not a device; write auto, cpu, cuda or cuda:N");
        return Ok(Status::Wrong);
    }
    let name = plan.pipeline.name.clone().unwrap_or_else(|| args.pipeline.stem());
    let resume = args.resume.as_deref().map(|from| resume_point(from, &name)).transpose()?;
    let folder = match (&args.out, &resume) {
        (Some(out), _) => out.clone(),
        (None, Some((run, _))) => run.clone(),
        (None, None) => running::new_folder(&runs_folder(), &name)?,
    };
    let options = RunOptions {
        folder,
        device: args.device.clone(),
        resume: resume.map(|(_, checkpoint)| checkpoint),
        quiet: args.quiet,
        json_log: json,
        pipeline_text: loaded.document.as_ref().map(|d| d.to_toml()).unwrap_or_default(),
        command: loaded.without_secrets(std::env::args()),
    };
    let running = Running::start(plan, &options, interrupt_flag(json)?)?;
    match running.drive()? {
        Ending::Done => Ok(Status::Done),
        Ending::Interrupted => {
            let profile = args.pipeline.profile.as_ref().map(|name| format!(" --profile {name}")).unwrap_or_default();
            let sets = loaded.without_secrets(args.pipeline.sets.iter().cloned());
            let sets: String = sets.iter().map(|set| format!(" --set '{set}'")).collect();
            let (file, run) = (args.pipeline.file.display(), shown(&options.folder));
            let text = format!("interrupted; go on with: pipe run {file}{profile}{sets} --resume {run}");
            if json {
                tracing::warn!("{text}")
            } else {
                terminal::line(&text)
            }
            Ok(Status::Interrupted)
        }
    }
}

/// The run's folder and the checkpoint that `--resume` means.
fn resume_point(from: &str, name: &str) -> Result<(PathBuf, PathBuf)> {
    if from == "latest" {
        let root = runs_folder();
        let run = running::latest_folder(&root, name)
            .with_context(|| format!("there is no run of `{name}` with a checkpoint under {}", root.display()))?;
        let checkpoint = checkpoint::latest(&run).context("the newest run has no checkpoint")?;
        return Ok((run, checkpoint));
    }
    let path = Path::new(from);
    if path.join("state.json").exists() {
        let run = path.parent().and_then(Path::parent).unwrap_or(path);
        return Ok((run.to_owned(), path.to_owned()));
    }
    match checkpoint::latest(path) {
        Some(checkpoint) => Ok((path.to_owned(), checkpoint)),
        None if path.exists() => bail!("{from} holds no checkpoint: nothing was saved before the run ended"),
        None => bail!("there is no run at {from}"),
    }
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the process at once.
pub fn interrupt_flag(json: bool) -> Result<Arc<AtomicBool>> {
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
                let text = "finishing this step, then a checkpoint; press Ctrl-C again to stop at once";
                // After the `^C` that the terminal shows.
                if json { tracing::warn!("{text}") } else { terminal::line(&format!("\n{text}")) }
            }
        });
    })?;
    Ok(flag)
}
