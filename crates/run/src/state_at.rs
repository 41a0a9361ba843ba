//! A run as it was at a step: from the newest checkpoint before it, the steps between trained again, recorded nowhere. Whoever wants to
//! know what happened in that step looks on ([`Witness`]).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail, ensure};
use pipe_core::{
    Boundary, EngineEvent, EventContext, Filter, Handler, Kind, NodeId, Record, Requests, Shared, Sink, Stateful,
    Subscription,
};
use pipe_document::diagnostic::plain;
use pipe_plan::Plan;
use pipe_vocab::refusal::CODES;

use crate::events::{EventTable, Target, TargetAction, Wire};
use crate::graph::{Between, Graph};
use crate::load::{Loaded, PipelineSource};
use crate::reload::{Inbox, Outcome, Reloader};
use crate::versions::{Turn, Versions};
use crate::{Ending, RunOptions, Running, checkpoint, info, resume};

/// Who looks on while a step is made again.
pub trait Witness {
    /// The iteration has its batch, or is completed with what came of it: `iteration_started` and `iteration_completed`, before all
    /// other targets.
    ///
    /// # Errors
    /// What it has to say against it; the replay ends.
    fn sees(&self, graph: &Graph, ctx: &EventContext<'_>) -> Result<()>;

    /// What is recorded meanwhile.
    fn hears(&self, record: &Record);
}

/// A run that stands at a step. Its folder is a temporary one, which goes with it.
pub struct StateAt {
    /// The run: built, and as it was. A checkpoint of it goes on from there.
    pub running: Running,
    /// Its plan then, without sinks.
    pub plan: Rc<Plan>,
    /// The checkpoint that it was taken from; nothing where that was the run's beginning.
    pub checkpoint: Option<PathBuf>,
    /// How many steps lay between and were trained again.
    pub before: u64,
    _folder: tempfile::TempDir,
}

/// The run in `folder` as it was after `step` steps: models, optimizers, data, random numbers, metrics.
///
/// It goes on from the newest whole checkpoint at or before that step, or from its beginning, without its sinks; its edits are
/// applied at their steps. After a step means: behind the handlers of its iteration, before those of an epoch that it completes; at a
/// step of which there is a checkpoint, where that was taken. `device` is used in place of the pipeline's own.
///
/// # Errors
/// When the folder is no run, or one that did not come so far; when a pipeline of it cannot be read or built any more, or an edit
/// cannot be applied.
pub fn state_at(folder: &Path, step: u64, device: Option<&str>, requests: Requests) -> Result<StateAt> {
    stands_at(folder, step, None, device, requests, false)
}

/// A checkpoint of a run as it was after `step` steps, with what it had recorded by then, as in [`state_at`].
///
/// # Errors
/// As [`state_at`].
pub fn checkpoint_at(folder: &Path, step: u64, device: Option<&str>) -> Result<MadeAgain> {
    let requests = Requests::default();
    let at = stands_at(folder, step, None, device, requests, true)?;
    let checkpoint = at.save()?;
    at.running.context().folder.flush_records()?;
    Ok(MadeAgain { checkpoint, _folder: at._folder })
}

/// A checkpoint in a temporary folder, which goes with it.
pub struct MadeAgain {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    _folder: tempfile::TempDir,
}

/// As [`state_at`]; the step itself is always made again, before a witness.
///
/// # Errors
/// As [`state_at`], and those of the witness.
pub fn replay(
    folder: &Path,
    step: u64,
    witness: Rc<dyn Witness>,
    device: Option<&str>,
    requests: Requests,
) -> Result<StateAt> {
    ensure!(step > 0, "steps are counted from 1");
    stands_at(folder, step, Some(witness), device, requests, false)
}

fn stands_at(
    folder: &Path,
    step: u64,
    witness: Option<Rc<dyn Witness>>,
    device: Option<&str>,
    requests: Requests,
    records: bool,
) -> Result<StateAt> {
    let latest = if witness.is_some() { step - 1 } else { step };
    let turns = Versions::of(folder).turns()?;
    let checkpoint = checkpoint::newest_of(folder, |path, at| {
        let text = pipeline_of(path).unwrap_or_default();
        at <= latest && !turns.iter().any(|turn| turn.waits_at(at, &text))
    });
    let from = checkpoint.as_deref().and_then(checkpoint::step_of).unwrap_or_default();
    let (first, edits) = split(turns, checkpoint.as_deref(), from, step)?;
    let load = |version: &str| load(folder, version);
    let mut loaded = load(&first)?;
    let plan = loaded.plan.as_ref().context("a pipeline without errors has a plan")?;
    tracing::info!(
        "step {step} of {}: from {}, {} steps before",
        folder.display(),
        checkpoint.as_ref().map_or_else(|| "its beginning".into(), |path| path.display().to_string()),
        step - from
    );
    let temporary = tempfile::Builder::new().prefix("pipe-state-").tempdir().context("a temporary folder")?;
    if let Some(checkpoint) = checkpoint.as_deref().filter(|_| records) {
        resume::copy_records(checkpoint, temporary.path())?;
    }
    let options = RunOptions {
        folder: temporary.path().to_owned(),
        device: device.map(str::to_owned),
        resume: checkpoint.clone(),
        quiet: true,
        origins: loaded.origins(),
        pipeline_text: loaded.document.as_ref().map(|document| document.to_toml()).unwrap_or_default(),
        ..RunOptions::default()
    };
    let running = Running::start(plan, loaded.catalog.clone(), &options, requests)?;
    let plan = match from < step {
        true => go_on(&running, (loaded, edits), &load, (step, witness))?,
        false => Rc::new(loaded.plan.take().context("a pipeline without errors has a plan")?),
    };
    Ok(StateAt { running, plan, checkpoint, before: step - from, _folder: temporary })
}

impl StateAt {
    /// A checkpoint of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self) -> Result<PathBuf> {
        checkpoint::save(&self.running.graph, &self.running.context().signals_checkpoint())
    }
}

/// The version with which the run stood at the checkpoint, and those that came before `step`.
fn split(turns: Vec<Turn>, checkpoint: Option<&Path>, from: u64, step: u64) -> Result<(String, VecDeque<Turn>)> {
    let text = checkpoint.and_then(pipeline_of);
    let until = turns.iter().take_while(|turn| turn.step <= from).count();
    let same = |turn: &&Turn| text.as_deref() == Some(turn.text.as_str());
    // Of those that took effect at the checkpoint's own step, some may have come after it.
    let at = turns[..until].iter().rposition(|turn| same(&turn)).or(until.checked_sub(1));
    let at = at.context("the run kept no version of its pipeline")?;
    let later = turns[at + 1..].iter().filter(|turn| turn.step < step).cloned().collect();
    Ok((turns[at].version.clone(), later))
}

fn pipeline_of(checkpoint: &Path) -> Option<String> {
    std::fs::read_to_string(checkpoint.join("pipeline.toml")).ok()
}

/// Reads a version of the run's pipeline, less its sinks.
fn load(folder: &Path, version: &str) -> Result<Loaded> {
    let base = info::read(folder).get("pipeline_folder").and_then(|value| value.as_str().map(PathBuf::from));
    let source = PipelineSource {
        file: Versions::of(folder).folder().join(version),
        profile: None,
        sets: Vec::new(),
        base,
        // What it was accepted for was accepted then.
        accept: CODES.iter().map(|code| code.name.to_owned()).collect(),
        texts: None,
    };
    let mut loaded = source.load().refusing_missing_secrets();
    let Some(plan) = &mut loaded.plan else {
        bail!("{}", plain(&loaded.diagnostics.render_text(&loaded.sources, false)));
    };
    without_sinks(plan);
    Ok(loaded)
}

fn without_sinks(plan: &mut Plan) {
    let stays = |id: &NodeId| id.kind != Kind::Sink;
    plan.nodes.retain(|id, _| stays(id));
    plan.order.retain(stays);
    plan.data_edges.retain(|edge| stays(&edge.from) && stays(&edge.to));
    plan.event_edges.iter_mut().for_each(|edge| edge.targets.retain(|target| stays(&target.node)));
    plan.event_edges.retain(|edge| !edge.targets.is_empty());
}

/// Lets a witness see one step.
struct Watch {
    step: u64,
    witness: Rc<dyn Witness>,
    graph: Weak<Graph>,
}

impl Stateful for Watch {}

impl Handler for Watch {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        match self.graph.upgrade().filter(|_| ctx.run.clock.get().step == self.step) {
            Some(graph) => self.witness.sees(&graph, ctx),
            None => Ok(()),
        }
    }
}

impl Sink for Watch {
    fn write(&mut self, record: &Record) -> Result<()> {
        if record.step == self.step {
            self.witness.hears(record);
        }
        Ok(())
    }
}

type Load<'a> = &'a dyn Fn(&str) -> Result<Loaded>;

/// Trains until `step`, with the edits that came on the way.
fn go_on(
    running: &Running,
    (mut loaded, edits): (Loaded, VecDeque<Turn>),
    load: Load<'_>,
    (step, witness): (u64, Option<Rc<dyn Witness>>),
) -> Result<Rc<Plan>> {
    // All are read before the first step.
    let edits = edits.into_iter().map(|turn| Ok((load(&turn.version)?, turn))).collect::<Result<_>>()?;
    let plan = loaded.plan.take().context("a pipeline without errors has a plan")?;
    let source = PipelineSource {
        file: PathBuf::new(),
        profile: None,
        sets: Vec::new(),
        base: None,
        accept: Vec::new(),
        texts: None,
    };
    let reloader = Reloader::new(&running.graph, source, (plan, loaded.document), Arc::new(Inbox::default()), true);
    let replay = Rc::new(Replay {
        reloader,
        edits: RefCell::new(edits),
        step,
        witness: witness
            .map(|witness| Rc::new(RefCell::new(Watch { step, witness, graph: Rc::downgrade(&running.graph) }))),
        failed: RefCell::default(),
        there: Cell::default(),
    });
    replay.watch(&running.graph);
    running.graph.set_between(replay.clone());
    let ending = running.advance()?;
    if let Some(failed) = replay.failed.take() {
        return Err(failed);
    }
    let stands = running.context().clock.get().step;
    ensure!(replay.there.get() || ending == Ending::Done, "interrupted at step {stands}");
    ensure!(replay.there.get() || stands == step, "the run ended at step {stands}");
    running.context().interrupt.store(false, Ordering::Relaxed);
    Ok(replay.reloader.plan())
}

/// Applies edits at their steps, and stops the run where it is to stand.
struct Replay {
    reloader: Reloader,
    edits: RefCell<VecDeque<(Loaded, Turn)>>,
    step: u64,
    witness: Option<Shared<Watch>>,
    failed: RefCell<Option<anyhow::Error>>,
    /// Whether it stands there.
    there: Cell<bool>,
}

impl Replay {
    /// Puts the witness in its place, if the next step is the one. An edit would have taken it away.
    fn watch(&self, graph: &Graph) {
        let next = graph.run.clock.get().step + 1 == self.step;
        let Some(watch) = self.witness.as_ref().filter(|_| next) else { return };
        // No node of a pipeline has such a name.
        let (handler, sink) = (NodeId::new(Kind::Handler, "(witness)"), NodeId::new(Kind::Sink, "(witness)"));
        let mut events = EventTable::clone(&graph.events.borrow());
        if !events.wires.iter().any(|wire| wire.targets.iter().any(|target| target.node == handler)) {
            let of = |root: &NodeId| {
                [EngineEvent::IterationStarted, EngineEvent::IterationCompleted]
                    .map(|event| (root.clone(), event.name().to_owned()))
            };
            let all = graph.roots.borrow().iter().flat_map(of).collect();
            let target = Target { node: handler, action: TargetAction::Call(watch.clone()) };
            events.wires.insert(0, Wire::new(all, Filter::default(), vec![target]));
            *graph.events.borrow_mut() = Rc::new(events);
        }
        let mut all = graph.run.unsubscribe_all();
        all.retain(|subscription| subscription.node != sink);
        all.push(Subscription { node: sink, inputs: Vec::new(), sink: watch.clone() });
        all.into_iter().for_each(|subscription| graph.run.subscribe(subscription));
    }

    fn apply_due(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) -> Result<()> {
        if boundary == Boundary::Inner {
            return Ok(());
        }
        let step = graph.run.clock.get().step;
        let now = |turn: &Turn| !turn.at_epoch_end || boundary == Boundary::Epoch;
        let due = |turn: &Turn| turn.step < step || turn.step == step && now(turn);
        while self.edits.borrow().front().is_some_and(|(_, turn)| due(turn)) {
            let Some((loaded, turn)) = self.edits.borrow_mut().pop_front() else { break };
            let report = self.reloader.apply_between(graph, engine, loaded);
            let applied = matches!(report.outcome, Outcome::Applied | Outcome::Unchanged);
            ensure!(applied, "pipelines/{} cannot be applied again after step {step}", turn.version);
        }
        self.reloader.between(graph, engine, boundary);
        Ok(())
    }
}

impl Between for Replay {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        // What comes at the very step is not part of it.
        let there = graph.run.depth.get() == 1 && graph.run.clock.get().step >= self.step;
        let failed = if there { None } else { self.apply_due(graph, engine, boundary).err() };
        self.watch(graph);
        if there || failed.is_some() {
            self.there.set(there);
            *self.failed.borrow_mut() = failed;
            graph.run.interrupt.store(true, Ordering::Relaxed);
        }
    }
}
