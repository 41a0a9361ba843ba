//! A run from its beginning to its end: build, resume, drive the engines, say how it ended.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use pipe_core::busy::Busy;
use pipe_core::checkpoints::found;
use pipe_core::{
    Clock, Engine, EngineEvent, Frame, Instance, Kind, NodeId, RecordValue, Requests, RunContext, RunFolder,
    Subscription, Summary,
};
use pipe_history::Lengths;
use pipe_plan::{Plan, PlanNode};
use pipe_vocab::Catalog;
use tch::Device;

use crate::captured::Captured;
use crate::graph::Graph;
use crate::info::Info;
use crate::options::RunOptions;
use crate::versions::{Entry, Versions};
use crate::{build, checkpoint, labels};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every engine reached its end.
    Done,
    /// Ctrl-C; a checkpoint was written.
    Interrupted,
}

/// What a resumed run was.
#[derive(Serialize, Deserialize)]
struct Resumed {
    /// Whether its former life had reached its end.
    done: bool,
    /// Whether the pipeline is what it was then.
    same_pipeline: bool,
}

/// A built run.
pub struct Running {
    /// The built nodes, joined.
    pub graph: Rc<Graph>,
    /// What this life of the run continues from.
    resumed: Option<Resumed>,
    /// What this life is asked from outside.
    pub requests: Requests,
    started: Instant,
    info: Info,
    /// Ends with the run.
    _captured: Option<Captured>,
}

impl Running {
    /// Opens the device and builds every node.
    ///
    /// # Errors
    /// When the device is not there, a node cannot be built, or the checkpoint cannot be read.
    pub fn start(plan: &Plan, catalog: Rc<Catalog>, options: &RunOptions, requests: Requests) -> Result<Running> {
        pipe_native::init()?;
        let wanted = options.device.as_deref().unwrap_or(&plan.pipeline.device);
        let (device, why) = pipe_native::choose_device(wanted)?;
        if !options.quiet {
            tell_device(wanted, device, &why);
        }
        pipe_native::generator::seed_all(plan.pipeline.seed)?;
        // Also back: one process may run several pipelines.
        pipe_native::numeric::set_deterministic(plan.pipeline.deterministic, false)?;
        let folder = RunFolder::open(&options.ranks.folder(&options.folder))?;
        let own = || {
            options.resume.as_ref().map(|_| Resumed {
                done: !options.rewinds && folder.read_info().get("status") == Some(&json!("done")),
                same_pipeline: std::fs::read_to_string(folder.path().join("pipeline.toml"))
                    .is_ok_and(|text| text == options.pipeline_text),
            })
        };
        // Before its file says that the run is at work.
        let told = options.ranks.told(|| Ok(serde_json::to_vec(&own())?))?;
        let resumed: Option<Resumed> = serde_json::from_slice(&told)?;
        if options.resume.is_none() || !options.ranks.is_first() {
            // Of a life that left nothing to go on from.
            folder.cut_records(0, Some(&Lengths::default()))?;
        }
        let info = Info::start(&folder, plan, &catalog, options, &why)?;
        let busy = Busy::default();
        let (precision, seed) = (plan.pipeline.precision, plan.pipeline.seed);
        let mut context = RunContext::new(device, precision, seed, folder, requests.interrupt.clone());
        context.timings.busy = busy.clone();
        context.checkpoint_wanted = requests.checkpoint.clone();
        context.ranks = options.ranks.clone();
        context.ranks.set_joint(plan.pipeline.sync_batch_norm);
        context.ranks.set_joint_counts(plan.pipeline.sync_loss_counts);
        let measured = (busy, context.throughput.clone());
        let captures = |secrets| Captured::start(context.folder.path(), secrets, measured, info.changed);
        let captured = options.captures.as_deref().map(captures);
        let context = Rc::new(context);
        context.json_log.set(options.json_log);
        let graph = Graph::new(context, catalog);
        let running = Running { graph, resumed, requests, started: Instant::now(), info, _captured: captured };
        running.assemble(plan, options).inspect_err(|error| running.note("failed", Some(format!("{error:#}"))))?;
        Ok(running)
    }

    /// What everything running shares.
    pub fn context(&self) -> &Rc<RunContext> {
        &self.graph.run
    }

    fn assemble(&self, plan: &Plan, options: &RunOptions) -> Result<()> {
        build::build(plan, &self.graph)?;
        labels::check(plan, &self.graph.nodes.borrow())?;
        labels::check_initial(plan, &self.graph)?;
        labels::remember(plan, &self.graph);
        self.info.data(&self.graph, plan)?;
        if !options.quiet && wants_console(plan) {
            add_console(&self.graph, Vec::new())?;
        }
        if let Some(from) = &options.resume {
            let restored = checkpoint::load(&self.graph, from, &plan.pipeline.accept)?;
            for warning in restored.warnings {
                tracing::warn!("{warning}");
            }
            // What was measured behind the checkpoint will be measured again, but for a run that is at its end.
            let cut = restored.records.filter(|_| self.anything_left() && self.context().ranks.is_first());
            if let Some((length, history)) = cut {
                self.context().folder.cut_records(length, history.as_ref())?;
                self.info.went_back(&self.context().folder)?;
            }
            let step = self.context().clock.get().step;
            tracing::info!("resuming from step {step} of {}", from.display());
        }
        self.graph.alike()?;
        self.keep_version(options)?;
        // A run that goes on has them among its records already.
        if self.resumed.is_none() {
            for (node, report) in self.graph.dataset_reports() {
                self.context().emit(&node, format!("dataset/{}", node.name), RecordValue::Text(report))?;
            }
        }
        Ok(())
    }

    /// Whether an engine of a resumed run has anything to do.
    fn anything_left(&self) -> bool {
        let roots = self.graph.roots.borrow().clone();
        let mut engines = self.graph.engines().into_iter().filter(|engine| roots.contains(&engine.id));
        self.resumed.as_ref().is_none_or(|former| engines.any(|engine| !self.nothing_left(&engine, former)))
    }

    /// Whether a resumed engine has nothing to do: no iteration is left, nor an event that was cut off.
    fn nothing_left(&self, engine: &Engine, former: &Resumed) -> bool {
        let (state, limits) = (engine.current(), engine.limits());
        let frame = self.context().place.resumed(&engine.id);
        // What the last events did after the checkpoint was done when the run ended.
        let at = frame.as_ref().and_then(Frame::of_engine);
        let last = at == Some(EngineEvent::EpochCompleted) && limits.max_epochs.is_some_and(|max| state.epoch >= max);
        frame.is_none() && (state.ended == Some(limits) || !state.goes_on(limits))
            || former.done && (former.same_pipeline || last || state.at_limit(limits))
    }

    /// Keeps the pipeline with which this life of the run begins.
    fn keep_version(&self, options: &RunOptions) -> Result<()> {
        if options.pipeline_text.is_empty() {
            return Ok(());
        }
        let versions = Versions::of(self.context().folder.path());
        let clock = self.context().clock.get();
        let version = versions.keep(&options.pipeline_text, clock.step)?;
        versions.keep_origins(&options.origins)?;
        versions.log(&Entry::started(version, clock))
    }

    /// Runs every engine that no event runs, in the order of the file, and says how it ended.
    ///
    /// # Errors
    /// The first engine's error, after sinks were told of it.
    pub fn drive(&self) -> Result<Ending> {
        let result = self.drive_engines();
        if let Err(error) = &result {
            self.context().ranks.say_last_words(error);
        }
        self.context().complete.set(matches!(result, Ok(Ending::Done)));
        let ended = self.graph.finish_handlers().and_then(|()| self.context().folder.flush_records());
        self.graph.settle();
        self.drop_asked();
        let (status, error) = status_of(&result, ended.as_ref().err());
        let summary = Summary {
            status: status.into(),
            folder: self.context().folder.path().to_owned(),
            elapsed: self.started.elapsed(),
            values: self.context().values(),
            checkpoint: self.context().last_checkpoint(),
            best: found::bests(self.context().folder.path()),
            error,
        };
        let told = self.context().finish(&summary);
        // What the last handlers and sinks could not do is how the run ended, too.
        let problem = match (ended, told) {
            (Err(error), Ok(())) | (Ok(()), Err(error)) => Some(error),
            (Err(error), Err(other)) if format!("{error:#}") == format!("{other:#}") => Some(error),
            (Err(error), Err(other)) => Some(error.context(format!("and {other:#}"))),
            (Ok(()), Ok(())) => None,
        };
        let (status, error) = status_of(&result, problem.as_ref());
        self.note(status, error);
        match (result, problem) {
            (Ok(ending), None) => Ok(ending),
            (Ok(_), Some(problem)) => Err(problem),
            (Err(error), Some(problem)) => {
                tracing::error!("while the run ended: {problem:#}");
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// What a signal has asked for is of no use to a run that has come to its end, if there is another checkpoint.
    fn drop_asked(&self) {
        let context = self.context();
        let Some(asked) = context.take_asked().filter(|_| context.complete.get()) else { return };
        let other = checkpoint::newest_of(context.folder.path(), |path, _| path != asked);
        if other.is_some()
            && let Err(error) = checkpoint::remove(&asked)
        {
            tracing::warn!("{error:#}");
        }
    }

    fn drive_engines(&self) -> Result<Ending> {
        let ending = self.advance()?;
        if ending == Ending::Interrupted {
            checkpoint::save(&self.graph, &self.context().signals_checkpoint())
                .context("interrupted, and the checkpoint could not be written")?;
        }
        Ok(ending)
    }

    /// Runs the engines, until an interruption at most: nothing is saved and nobody told.
    ///
    /// # Errors
    /// The first engine's error.
    pub fn advance(&self) -> Result<Ending> {
        let mut done = BTreeSet::new();
        let mut before: Option<Rc<Engine>> = None;
        // Asked again each time: an edit may have added an engine.
        let next = |done: &BTreeSet<NodeId>| self.graph.roots.borrow().iter().find(|id| !done.contains(*id)).cloned();
        while let Some(root) = next(&done) {
            done.insert(root.clone());
            let Instance::Engine(engine) = self.graph.node(&root)? else { continue };
            // Steps count on from one engine to the next, so that no two checkpoints have the same name.
            if let Some(before) = before.replace(engine.clone()) {
                let (base, ran) = (self.context().clock_base.get(), before.current());
                self.context().clock_base.set(Clock { step: base.step + ran.iteration, epoch: base.epoch + ran.epoch });
            }
            if self.resumed.as_ref().is_some_and(|former| self.nothing_left(&engine, former)) {
                let epochs = engine.current().epoch;
                tracing::warn!(
                    "{root} had already finished ({epochs} epochs); raise `max_epochs` to continue training"
                );
                continue;
            }
            if self.graph.drive(&engine)?.is_break() {
                return Ok(Ending::Interrupted);
            }
        }
        Ok(Ending::Done)
    }

    /// Says that the run does not begin, and why.
    pub fn refuse(&self, why: &str) {
        self.note("failed", Some(why.to_owned()));
    }

    /// Writes how the run ended into `run.json`.
    fn note(&self, status: &str, error: Option<String>) {
        self.info.note(&self.graph, status, error);
    }
}

/// The status of `run.json`, and the error.
fn status_of(result: &Result<Ending>, problem: Option<&anyhow::Error>) -> (&'static str, Option<String>) {
    match (result, problem) {
        (Err(error), _) => ("failed", Some(format!("{error:#}"))),
        (Ok(_), Some(problem)) => ("failed", Some(format!("{problem:#}"))),
        (Ok(Ending::Done), None) => ("done", None),
        (Ok(Ending::Interrupted), None) => ("interrupted", None),
    }
}

/// Says which device was chosen, and why; not where there is no other and none was asked for.
pub fn tell_device(wanted: &str, device: Device, why: &str) {
    if wanted != "auto" || pipe_native::is_accelerator(device) || pipe_native::has_gpu() {
        tracing::info!("{why}");
    }
}

/// Whether a pipeline has no console sink of its own.
pub fn wants_console(plan: &Plan) -> bool {
    let is_console = |node: &PlanNode| node.id.kind == Kind::Sink && node.descriptor.name == CONSOLE;
    !plan.nodes.values().any(is_console)
}

/// A pipeline without a console sink still speaks to the one who started it: of the records of `inputs`, of all where it is empty.
///
/// # Errors
/// When the console cannot be created.
pub fn add_console(graph: &Graph, inputs: Vec<NodeId>) -> Result<()> {
    let node = NodeId::new(Kind::Sink, CONSOLE);
    if let Instance::Sink(sink) = build::build_extra(graph, &node, CONSOLE, json!({}))? {
        graph.run.subscribe(Subscription { node, inputs, sink });
    }
    Ok(())
}

/// The sink of pipelines that have no console of their own.
const CONSOLE: &str = "console";
