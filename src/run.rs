//! `pipe run FILE`.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::signal::unix::SignalKind;

use crate::called::Called;
use crate::output::{Format, Status};
use crate::preflight;
use crate::ranks::{self, Joined};
use crate::signals::{self, Signals, Words};
use crate::source::{PipelineArgs, log, plan_or_log, plan_or_tell, runs_folder, shown, tell_of, without_secrets};
use pipe_core::{Ranks, terminal};
use pipe_document::Document;
use pipe_plan::Plan;
use pipe_run::checks::data_of;
use pipe_run::load::{Loaded, Snapshot};
use pipe_run::options::{Fork, run_of};
use pipe_run::reload::watch::WatchOptions;
use pipe_run::reload::{Inbox, Reloader, requests, resumed, watch};
use pipe_run::resume::{Start, Wish};
use pipe_run::told::Told;
use pipe_run::{Ending, RunOptions, Running, folders, info};

/// Arguments of `pipe run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub pipeline: PipelineArgs,
    /// Device, instead of the pipeline's: auto, cpu, cuda, cuda:N.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// One process on each of these devices, which share the batches: `0,1` or `all` for GPUs, `cpu:2` for two on the CPU.
    #[arg(long, value_name = "DEVICES", conflicts_with = "device")]
    pub devices: Option<String>,
    /// Go on from a checkpoint: `auto` starts where there is nothing to go on from, else goes on; `latest` is the newest run;
    /// a run's folder is its last checkpoint; a checkpoint's folder begins a new run there.
    #[arg(long, value_name = "auto|latest|RUN")]
    pub resume: Option<String>,
    /// With a checkpoint's folder, take its own run back to it, in place of a new run.
    #[arg(long, requires = "resume")]
    pub in_place: bool,
    /// The run's folder; default `runs/<name>/<time>`.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// What the run is called, which no other is; default two words and a number, made up.
    #[arg(long)]
    pub name: Option<String>,
    /// What runs it belongs to, such as those of one experiment with several seeds.
    #[arg(long)]
    pub group: Option<String>,
    /// Hot reload: apply edits of the file and its parents while the run continues. SIGHUP also reads them.
    #[arg(long)]
    pub watch: bool,
    /// With --watch, poll the files at this interval instead of using file system notifications: for network file systems.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds, requires = "watch")]
    pub watch_poll: Option<Duration>,
    /// Print warnings and errors only, and on standard output the run's folder.
    #[arg(long)]
    pub quiet: bool,
    /// Format of log lines.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
    /// The run whose pipeline is run once more as a new one.
    #[arg(skip)]
    pub again: Option<Again>,
}

/// What a run that is begun from another one has of it.
#[derive(Debug, Clone)]
pub struct Again {
    /// Its name, where its pipeline has none.
    pub name: String,
    /// Where the new one comes from, if it goes on from there.
    pub fork: Option<Fork>,
    /// Its folder, where the new one is to be as it was.
    pub as_was: Option<PathBuf>,
}

impl Again {
    /// Of this run its name alone.
    pub fn of(run: &pipe_runs::Run) -> Again {
        Again { name: run.pipeline.clone(), fork: None, as_was: None }
    }
}

impl RunArgs {
    /// A new run of another's pipeline, from a checkpoint if there is one.
    pub fn again(
        pipeline: PipelineArgs,
        resume: Option<&Path>,
        out: Option<PathBuf>,
        device: Option<String>,
        again: Again,
    ) -> RunArgs {
        RunArgs {
            pipeline,
            device,
            resume: resume.map(|path| path.display().to_string()),
            in_place: false,
            out,
            name: None,
            group: None,
            watch: false,
            watch_poll: None,
            quiet: false,
            log_format: Format::default(),
            again: Some(again),
            devices: None,
        }
    }
}

/// What is said when a signal has come.
const WORDS: Words = Words {
    first: Some("finishing this step, then saving a checkpoint; press Ctrl-C again to stop immediately"),
    still: "the step is still running, or its checkpoint being written",
    json: false,
};

/// Runs a pipeline.
///
/// # Errors
/// What stops the run.
pub fn run(mut args: RunArgs) -> Result<Status> {
    if let Some(devices) = args.devices.as_ref().filter(|_| !ranks::is_one()) {
        return ranks::start(devices);
    }
    let json = args.log_format == Format::Json;
    let mut loaded = args.pipeline.load();
    // Refused by itself where it is wrong.
    let of_file = loaded.plan.as_ref().and_then(|plan| plan.pipeline.devices.clone());
    if let Some(devices) = of_file.filter(|_| args.device.is_none() && !ranks::is_one()) {
        return ranks::start(&devices);
    }
    let signals = Signals::listen_for_run(Words { json, ..WORDS }, args.watch)?;
    let plan = if json { plan_or_log(&loaded) } else { plan_or_tell(&loaded)? };
    let Some(plan) = plan else { return Ok(Status::Wrong) };
    if let Some(device) = &args.device
        && !pipe_plan::pipeline::is_device(device)
    {
        terminal::line(&format!("error: `{device}` is not a device; write auto, cpu, cuda or cuda:N"));
        return Ok(Status::Wrong);
    }
    let Joined { ranks, device, beats: _beats } = ranks::join()?;
    args.device = args.device.or(device);
    if !ranks.is_first() {
        return follow(&args, &mut loaded, ranks, &signals);
    }
    let (name, start) = beginning(&args, plan)?;
    if ranks.is_alone() {
        let (device, from) = (args.device.as_deref(), start.checkpoint.as_deref());
        preflight::choose_batch_sizes(&mut args.pipeline, &mut loaded, device, from)?;
    }
    let Some(plan) = &loaded.plan else { return Ok(Status::Wrong) };
    let text = loaded.document.as_ref().map(|document| document.to_toml()).unwrap_or_default();
    if start.is_finished(&text) {
        terminal::line(&format!(
            "{} is done, and its pipeline is the same: nothing is left to do",
            start.folder.display()
        ));
        Told::nothing().tell(&ranks)?;
        return Ok(Status::Done);
    }
    let folder = start.folder.clone();
    let called = Called::new(&folder, args.name.clone(), args.group.clone());
    let called = called.inspect_err(|_| {
        // That of a new run was made to have its name; any other is not empty.
        let _kept = std::fs::remove_dir(&folder);
    })?;
    let _lock = start.take()?;
    requests::refuse_unread(&folder);
    signals.before_it_begins({
        let (folder, new) = (folder.clone(), start.is_new());
        move || info::broken_off(&folder, new)
    });
    terminal::keep_in(&folder.join("console.log"))?;
    let options = options(&args, &loaded, name, start, ranks)?;
    Told::of(&options).tell(&options.ranks)?;
    let running = Running::start(plan, loaded.catalog.clone(), &options, signals.requests.clone())?;
    if options.resume.is_none() && breaks_rules(&loaded, &running, json)? {
        running.refuse("the data break rules");
        return Ok(Status::Wrong);
    }
    // Of several processes each would have to try the same batches.
    if let Err(error) = preflight::tell(&running, plan.pipeline.preflight && options.ranks.is_alone()) {
        running.refuse(&format!("{error:#}"));
        return Err(error);
    }
    called.write(&folder)?;
    signals.begun();
    if args.quiet {
        terminal::result(&shown(&folder));
    }
    let reloader = match loaded.plan.take() {
        Some(plan) => {
            let document = loaded.document.clone();
            Some(listen(&args, (plan, document), std::mem::take(&mut loaded.snapshot), &running)?)
        }
        None => None,
    };
    let ending = running.drive();
    pipe_native::moments::write_counts();
    if let Some(reloader) = reloader {
        reloader.end();
    }
    match ending? {
        Ending::Done => Ok(Status::Done),
        Ending::Interrupted => {
            let text = format!("interrupted; resume with: {}", hint(&args, &loaded, &options.folder));
            if json {
                tracing::warn!("{text}")
            } else {
                terminal::line(&text)
            }
            Ok(Status::Signalled(signals.status()))
        }
    }
}

/// What a rank does that is not the first: it goes the way that the first has told, with a folder of its own inside the run's.
fn follow(args: &RunArgs, loaded: &mut Loaded, ranks: Rc<Ranks>, signals: &Signals) -> Result<Status> {
    let Some(plan) = &loaded.plan else { return Ok(Status::Wrong) };
    let told = Told::heard(&ranks)?;
    let Some(folder) = told.folder else { return Ok(Status::Done) };
    let text = loaded.document.as_ref().map(|document| document.to_toml()).unwrap_or_default();
    ensure!(
        text == told.pipeline,
        "{ranks} reads another pipeline than the first: do all see the same files and variables?"
    );
    let own = ranks.folder(&folder);
    std::fs::create_dir_all(&own).with_context(|| format!("cannot create {}", own.display()))?;
    terminal::keep_in(&own.join("console.log"))?;
    let options = RunOptions {
        device: args.device.clone(),
        ranks,
        rewinds: told.rewinds,
        folder,
        resume: told.resume,
        quiet: true,
        pipeline_text: text,
        ..RunOptions::default()
    };
    let running = Running::start(plan, loaded.catalog.clone(), &options, signals.requests.clone())?;
    if options.resume.is_none() && breaks_rules(loaded, &running, false)? {
        return Ok(Status::Wrong);
    }
    signals.begun();
    // Edits are told by the first.
    let document = loaded.document.clone();
    if let Some(plan) = loaded.plan.take() {
        let inbox = Arc::new(Inbox::default());
        let reloader = Reloader::new(&running.graph, args.pipeline.source(), (plan, document), inbox, true);
        running.graph.set_between(Rc::new(reloader));
    }
    Ok(match running.drive()? {
        Ending::Done => Status::Done,
        Ending::Interrupted => Status::Signalled(signals.status()),
    })
}

/// Whether the data break rules that must hold; which they break is said once, before the first step.
fn breaks_rules(loaded: &Loaded, running: &Running, json: bool) -> Result<bool> {
    let (Some(plan), Some(document)) = (&loaded.plan, &loaded.document) else { return Ok(false) };
    let found = plan.check_data(document, &data_of(&running.graph), &loaded.diagnostics);
    if json {
        log(&found, loaded)
    } else {
        tell_of(&found, loaded, Format::Text)?
    }
    Ok(found.has_errors())
}

/// What the command line says of the run; what is another than in its last life is said.
fn options(args: &RunArgs, loaded: &Loaded, name: String, start: Start, ranks: Rc<Ranks>) -> Result<RunOptions> {
    let base = loaded.document.as_ref().map(|document| document.folder(&loaded.sources).to_owned()).unwrap_or_default();
    if let Some(checkpoint) = &start.checkpoint {
        for line in resumed::since(run_of(checkpoint), loaded, &base) {
            tracing::info!("changed since the last run: {line}");
        }
    }
    let secrets = loaded.document.as_ref().map(Document::secrets);
    let (source, here) = (args.pipeline.source(), std::env::current_dir()?);
    Ok(RunOptions {
        name: Some(name),
        created: Some(folders::creation(start.folder.parent().unwrap_or(Path::new(".")))),
        device: args.device.clone(),
        ranks,
        fork: args.again.as_ref().and_then(|again| again.fork.clone()).or_else(|| start.fork()),
        as_was: args.again.as_ref().and_then(|again| again.as_was.clone()),
        rewinds: start.rewinds,
        folder: start.folder,
        resume: start.checkpoint,
        quiet: args.quiet,
        json_log: args.log_format == Format::Json,
        pipeline_text: loaded.document.as_ref().map(|d| d.to_toml()).unwrap_or_default(),
        origins: loaded.origins(),
        pipeline_folder: here.join(base),
        pipeline_file: source.base.is_none().then(|| here.join(source.file)),
        command: without_secrets(loaded, std::env::args()),
        captures: Some(secrets.unwrap_or_default().into_iter().map(|(_, text)| text.into()).collect()),
    })
}

/// The run's name, and where it begins.
fn beginning(args: &RunArgs, plan: &Plan) -> Result<(String, Start)> {
    let file = &args.pipeline.file;
    let run = file.is_dir().then_some(file.as_path());
    let again = args.again.as_ref().map(|again| again.name.clone());
    let of_run = || again.or_else(|| Some(info::read(run?).get("name")?.as_str()?.to_owned()));
    let name = plan.pipeline.name.clone().or_else(of_run).unwrap_or_else(|| args.pipeline.stem());
    let (resume, out, root) = (args.resume.as_deref(), args.out.as_deref(), runs_folder());
    let start = Start::of(&Wish { resume, out, in_place: args.in_place, root: &root, name: &name, run })?;
    Ok((name, start))
}

/// Does from now on what is asked in the run's folder, and with `--watch` applies edits of its files.
fn listen(
    args: &RunArgs,
    plan: (Plan, Option<Document>),
    snapshot: Snapshot,
    running: &Running,
) -> Result<Rc<Reloader>> {
    let (source, inbox) = (args.pipeline.source(), Arc::new(Inbox::default()));
    let mut reloader = Reloader::new(&running.graph, source.clone(), plan, inbox.clone(), args.quiet);
    requests::start(running.context().folder.path(), &inbox)?;
    if args.watch {
        reloader = reloader.of_files(&snapshot);
        let trigger = watch::start(source, snapshot, WatchOptions { poll: args.watch_poll }, inbox)?;
        signals::on_signal(SignalKind::hangup(), move || trigger.reload())?;
        tracing::info!("watching {}: edits are applied while the run continues", args.pipeline.file.display());
    }
    let reloader = Rc::new(reloader);
    running.graph.set_between(reloader.clone());
    Ok(reloader)
}

/// The command that goes on with an interrupted run.
fn hint(args: &RunArgs, loaded: &Loaded, run: &Path) -> String {
    if args.again.is_some() {
        // Its own folder has the pipeline as it is.
        let run = quoted(&shown(run));
        return format!("pipe run {run} --resume {run}");
    }
    let mut words = vec!["pipe".to_owned(), "run".to_owned(), args.pipeline.file.display().to_string()];
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    if let Some(profile) = &args.pipeline.profile {
        option("--profile", profile.clone());
    }
    for set in without_secrets(loaded, args.pipeline.sets.iter().cloned()) {
        option("--set", set);
    }
    args.pipeline.accept.iter().for_each(|code| option("--accept", code.clone()));
    if let Some(device) = &args.device {
        option("--device", device.clone());
    }
    option("--resume", shown(run));
    if args.watch {
        words.push("--watch".into());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// Reads a number of seconds.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "write a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| *duration >= Duration::from_millis(10));
    duration.ok_or_else(|| "write a number of seconds, 0.01 or more".to_owned())
}
