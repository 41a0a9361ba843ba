//! A run from its beginning to its end: build, resume, drive the engines, say how it ended.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::context::Subscription;
use super::{Clock, Instance, RecordValue, RunContext, RunFolder, Summary, build, checkpoint};
use crate::components::sink::console::ConsoleConfig;
use crate::engine::{Engine, Outcome};
use crate::plan::{Plan, PlanNode};
use crate::registry::{Component, Kind, NodeId};
use crate::reload::{Outcome as EditOutcome, Report};
use crate::run::BuildContext;
use crate::run::versions::Versions;

/// What the command line says of a run, beyond the pipeline.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The run's folder.
    pub folder: PathBuf,
    /// `--device`, before the pipeline's own.
    pub device: Option<String>,
    /// A checkpoint to go on from.
    pub resume: Option<PathBuf>,
    /// No console output but errors.
    pub quiet: bool,
    /// The console speaks JSON.
    pub json_log: bool,
    /// The resolved pipeline, kept in the run's folder.
    pub pipeline_text: String,
    /// The folder that its relative paths start from.
    pub pipeline_folder: PathBuf,
    /// The command line, kept in `run.json`.
    pub command: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every engine reached its end.
    Done,
    /// Ctrl-C; a checkpoint was written.
    Interrupted,
}

/// A built run.
pub struct Running {
    /// What everything running shares.
    pub context: Rc<RunContext>,
    resumed: bool,
    started: Instant,
    info: Map<String, Value>,
}

impl Running {
    /// Opens the device and builds every node.
    ///
    /// # Errors
    /// When the device is not there, a node cannot be built, or the checkpoint cannot be read.
    pub fn start(plan: &Plan, options: &RunOptions, interrupt: Arc<AtomicBool>) -> Result<Running> {
        pipe_native::init()?;
        let wanted = options.device.as_deref().unwrap_or(&plan.pipeline.device);
        let (device, why) = pipe_native::choose_device(wanted)?;
        if !options.quiet {
            tracing::info!("{why}");
        }
        pipe_native::generator::seed_all(plan.pipeline.seed)?;
        if plan.pipeline.deterministic {
            pipe_native::numeric::set_deterministic(true, false)?;
        }
        let folder = RunFolder::open(&options.folder)?;
        let info = start_info(&folder, plan, options, &why);
        folder.write_info(&info)?;
        let (precision, seed) = (plan.pipeline.precision, plan.pipeline.seed);
        let context = Rc::new(RunContext::new(device, precision, seed, folder, interrupt));
        context.json_log.set(options.json_log);
        let resumed = options.resume.is_some();
        let running = Running { context, resumed, started: Instant::now(), info };
        running.assemble(plan, options).inspect_err(|error| running.note("failed", Some(format!("{error:#}"))))?;
        Ok(running)
    }

    fn assemble(&self, plan: &Plan, options: &RunOptions) -> Result<()> {
        build::build(plan, &self.context)?;
        if !options.quiet && wants_console(plan) {
            add_console(&self.context)?;
        }
        if let Some(from) = &options.resume {
            for said in checkpoint::load(&self.context, from)? {
                tracing::warn!("{said}");
            }
            let step = self.context.clock.get().step;
            tracing::info!("going on from step {step} of {}", from.display());
        }
        self.keep_version(options)?;
        for (node, report) in build::dataset_reports(&self.context) {
            self.context.emit(&node, format!("{}/audit", node.name), RecordValue::Text(report))?;
        }
        Ok(())
    }

    /// Keeps the pipeline with which this life of the run begins.
    fn keep_version(&self, options: &RunOptions) -> Result<()> {
        if options.pipeline_text.is_empty() {
            return Ok(());
        }
        let versions = Versions::of(self.context.folder.path());
        let clock = self.context.clock.get();
        let version = versions.keep(&options.pipeline_text, clock.step)?;
        versions.log(&Report { version: Some(version), ..Report::new(0, EditOutcome::Started, clock) })
    }

    /// Runs every engine that no event runs, in the order of the file, and says how it ended.
    ///
    /// # Errors
    /// The first engine's error, after sinks were told of it.
    pub fn drive(&self) -> Result<Ending> {
        let result = self.drive_engines();
        let ended = crate::components::handler::finish_all(&self.context);
        let (status, error) = match &result {
            Ok(Ending::Done) => ("done", None),
            Ok(Ending::Interrupted) => ("interrupted", None),
            Err(error) => ("failed", Some(format!("{error:#}"))),
        };
        self.note(status, error.clone());
        let summary = Summary {
            status: status.into(),
            folder: self.context.folder.path().to_owned(),
            elapsed: self.started.elapsed(),
            values: self.context.values(),
            checkpoint: self.context.last_checkpoint(),
            error,
        };
        let told = self.context.finish(&summary);
        let ending = result?;
        ended?;
        told?;
        Ok(ending)
    }

    fn drive_engines(&self) -> Result<Ending> {
        let mut done = BTreeSet::new();
        let mut before: Option<Rc<Engine>> = None;
        // Asked anew each time: an edit may have added an engine.
        let next = |done: &BTreeSet<NodeId>| self.context.roots.borrow().iter().find(|id| !done.contains(*id)).cloned();
        while let Some(root) = next(&done) {
            done.insert(root.clone());
            let Instance::Engine(engine) = self.context.node(&root)? else { continue };
            // Steps count on from one engine to the next, so that no two checkpoints have the same name.
            if let Some(before) = before.replace(engine.clone()) {
                let (base, ran) = (self.context.clock_base.get(), before.current());
                self.context.clock_base.set(Clock { step: base.step + ran.iteration, epoch: base.epoch + ran.epoch });
            }
            if self.resumed && engine.current().finished(engine.limits()) {
                let epochs = engine.current().epoch;
                tracing::warn!("{root} had reached its end ({epochs} epochs); raise `max_epochs` to train on");
                continue;
            }
            if engine.run(&self.context)? == Outcome::Interrupted {
                let step = self.context.clock.get().step;
                checkpoint::save(&self.context, &format!("step_{step:06}"), &[])
                    .context("interrupted, and the checkpoint could not be written")?;
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Done)
    }

    /// Writes how the run ended into `run.json`; a disk that is full must not hide the error itself.
    fn note(&self, status: &str, error: Option<String>) {
        let mut info = self.info.clone();
        info.insert("status".into(), json!(status));
        info.insert("ended".into(), json!(super::context::now()));
        info.insert("seconds".into(), json!(self.started.elapsed().as_secs_f64()));
        info.insert("error".into(), json!(error));
        info.insert(
            "values".into(),
            self.context.values().into_iter().map(|(k, v)| (k, super::record::number(v))).collect(),
        );
        if let Err(problem) = self.context.folder.write_info(&info) {
            tracing::error!("run.json: {problem:#}");
        }
    }
}

/// Whether a pipeline has no console sink of its own.
pub fn wants_console(plan: &Plan) -> bool {
    let is_console = |node: &PlanNode| node.id.kind == Kind::Sink && node.descriptor.name == ConsoleConfig::TYPE;
    !plan.nodes.values().any(is_console)
}

/// A pipeline without a console sink still speaks to the one who started it.
///
/// # Errors
/// When the console cannot be made.
pub fn add_console(run: &Rc<RunContext>) -> Result<()> {
    let node = NodeId::new(Kind::Sink, "console");
    let built = ConsoleConfig::default().build(&mut BuildContext { run, node: &node })?;
    if let Instance::Sink(sink) = built {
        run.subscribe(Subscription { node, inputs: Vec::new(), sink });
    }
    Ok(())
}

fn start_info(folder: &RunFolder, plan: &Plan, options: &RunOptions, device: &str) -> Map<String, Value> {
    let former = folder.read_info();
    let mut info = Map::new();
    let versions = pipe_native::version();
    info.insert("format".into(), json!(1));
    info.insert("status".into(), json!("running"));
    info.insert("name".into(), json!(plan.pipeline.name));
    info.insert("started".into(), json!(super::context::now()));
    info.insert("device".into(), json!(device));
    info.insert("seed".into(), json!(plan.pipeline.seed));
    info.insert("command".into(), json!(options.command));
    info.insert("resumed_from".into(), json!(options.resume.as_ref().map(|path| path.display().to_string())));
    info.insert("pipeline_folder".into(), json!(options.pipeline_folder));
    info.insert("process".into(), json!(std::process::id()));
    let pipe = env!("CARGO_PKG_VERSION");
    info.insert(
        "versions".into(),
        json!({
            "pipe": pipe, "libtorch": versions.libtorch, "torchvision": versions.torchvision,
            "plugins": crate::registry::plugins::versions(),
        }),
    );
    info.insert("git".into(), git());
    info.insert("machine".into(), machine());
    if !former.is_empty() {
        let mut earlier = former.get("earlier").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut last = former.clone();
        last.shift_remove("earlier");
        earlier.push(Value::Object(last));
        info.insert("earlier".into(), Value::Array(earlier));
    }
    info
}

fn git() -> Value {
    let ask = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = ask(&["rev-parse", "HEAD"]) else { return Value::Null };
    let dirty = ask(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    json!({ "commit": commit, "branch": ask(&["rev-parse", "--abbrev-ref", "HEAD"]), "dirty": dirty })
}

fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
    let processor = read("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    json!({ "host": read("/proc/sys/kernel/hostname"), "cores": cores, "processor": processor, "os": std::env::consts::OS })
}

/// A new folder for a run of the pipeline `name` under `root`: `<root>/<name>/<date>_<time>`, counted up where it is taken.
///
/// # Errors
/// When the folder cannot be made.
pub fn new_folder(root: &Path, name: &str) -> Result<PathBuf> {
    let base = root.join(name);
    std::fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    let stamp = stamp(SystemTime::now());
    for attempt in 0u32.. {
        let candidate = base.join(if attempt == 0 { stamp.clone() } else { format!("{stamp}_{attempt}") });
        match std::fs::create_dir(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", candidate.display())),
        }
    }
    unreachable!("the loop ends only by returning")
}

/// `20261123_184500`, in UTC. Days to dates after Howard Hinnant's `civil_from_days`.
fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}_{:02}{:02}{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

/// The newest run's folder under `root` for the pipeline `name`.
pub fn latest_folder(root: &Path, name: &str) -> Option<PathBuf> {
    let runs = std::fs::read_dir(root.join(name)).ok()?;
    runs.flatten().map(|entry| entry.path()).filter(|path| checkpoint::latest(path).is_some()).max()
}
