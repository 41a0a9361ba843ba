//! What a run does between two iterations when an edit, or what else it is asked, has come.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use super::difference::{Change, What, difference};
use super::inbox::{Asked, Inbox, What as Arrived};
use super::report::{self, Meaning, Outcome, Report};
use super::requests::{self, Pending};
use super::swap::{Waiting, prepare};
use super::together;
use crate::graph::{Between, Graph};
use crate::load::{Loaded, PipelineSource, Snapshot};
use crate::versions::{Entry, Versions};
use pipe_core::{Boundary, Clock, NodeId, Record, RecordValue, Reload, RunContext, now};
use pipe_document::Document;
use pipe_document::diagnostic::plain;
use pipe_history::requests::Ask;
use pipe_plan::Plan;

/// Takes edits out of an [`Inbox`] and applies them to a run, or says why not.
pub struct Reloader {
    /// The graph holds the reloader.
    graph: Weak<Graph>,
    source: PipelineSource,
    inbox: Arc<Inbox>,
    versions: Versions,
    quiet: bool,
    state: RefCell<State>,
}

struct State {
    /// The running plan, but for what waits.
    plan: Rc<Plan>,
    /// The document that it was made of; knows which values must not be shown.
    document: Option<Document>,
    /// What the files say, whatever `--set` says; nothing without a `--set`.
    files: Option<Document>,
    /// What waits for the end of the epoch, and the edit that it came with.
    waiting: Waiting,
    waiting_edit: u64,
    /// Who asked for that edit.
    waiting_asked: Option<Asked>,
    /// A good edit for which it was not yet the time.
    ready: Option<Ready>,
    /// Edits so far.
    edits: u64,
    /// What else was asked for.
    pending: Pending,
}

struct Ready {
    edit: u64,
    loaded: Loaded,
    plan: Plan,
    read: Instant,
    /// Edits of values that `--set` has.
    notes: Vec<String>,
    /// Who asked for it.
    asked: Option<Asked>,
}

impl Reloader {
    /// A reloader for a run that was built from `plan`, which was made of `document`; `source` is where that came from.
    pub fn new(
        graph: &Rc<Graph>,
        source: PipelineSource,
        (plan, document): (Plan, Option<Document>),
        inbox: Arc<Inbox>,
        quiet: bool,
    ) -> Reloader {
        let state = State {
            plan: Rc::new(plan),
            document,
            files: None,
            waiting: Waiting::default(),
            waiting_edit: 0,
            waiting_asked: None,
            ready: None,
            edits: 0,
            pending: Pending::default(),
        };
        Reloader {
            graph: Rc::downgrade(graph),
            source,
            inbox,
            versions: Versions::of(graph.run.folder.path()),
            quiet,
            state: RefCell::new(state),
        }
    }

    /// That says which edits `--set` hides, by the files as they were read when the run was built: they may have been edited since.
    #[must_use]
    pub fn of_files(self, snapshot: &Snapshot) -> Reloader {
        if !self.source.sets.is_empty() {
            self.state.borrow_mut().files = self.source.without_sets(snapshot);
        }
        self
    }

    /// The running plan. Data of it may wait for the end of the epoch.
    pub fn plan(&self) -> Rc<Plan> {
        self.state.borrow().plan.clone()
    }

    /// The nodes of that plan that wait for the end of the epoch.
    pub fn waiting(&self) -> BTreeSet<NodeId> {
        self.state.borrow().waiting.ids()
    }

    /// Applies a pipeline to a run that is not at work, all of it at once, and says what came of it.
    pub fn apply(&self, loaded: Loaded) -> Report {
        let mut state = self.state.borrow_mut();
        let Some(graph) = self.graph.upgrade() else { return Report::new(0, Outcome::TooLate, Default::default()) };
        let report = match self.receive(&mut state, loaded, Instant::now(), None) {
            Err(report) => *report,
            Ok(ready) => {
                let mut report = self.swap(&mut state, &graph, None, ready);
                std::mem::take(&mut state.waiting).finish(&graph, &state.plan, self.quiet);
                report.waiting.clear();
                let waited = report.changes.iter_mut().filter(|line| line.meaning == Meaning::NextEpoch);
                waited.for_each(|line| line.meaning = Meaning::Rebuilt);
                report
            }
        };
        self.report(&report, None);
        report
    }

    /// Applies a pipeline between two iterations of `engine`, at once, and says what came of it.
    pub fn apply_between(&self, graph: &Graph, engine: &NodeId, loaded: Loaded) -> Report {
        let mut state = self.state.borrow_mut();
        let report = match self.receive(&mut state, loaded, Instant::now(), None) {
            Err(report) => *report,
            Ok(ready) => self.swap(&mut state, graph, Some(engine), ready),
        };
        self.report(&report, None);
        report
    }

    /// Says which edits came too late for a run that has ended, and answers what else was asked for.
    pub fn end(&self) {
        let mut state = self.state.borrow_mut();
        let Some(graph) = self.graph.upgrade() else { return };
        let unfinished = std::mem::take(&mut state.waiting);
        let mut late = Vec::new();
        if !unfinished.is_empty() {
            late.push((state.waiting_edit, state.waiting_asked.take()));
        }
        late.extend(state.ready.take().map(|ready| (ready.edit, ready.asked)));
        for arrival in self.inbox.take() {
            let asked = match arrival.what {
                Arrived::Asked(asked) if asked.request.ask != Ask::Edit => {
                    state.pending.begin(asked, &graph.run);
                    continue;
                }
                Arrived::Asked(asked) => Some(asked),
                Arrived::Files(_) => None,
            };
            state.edits += 1;
            late.push((state.edits, asked));
        }
        for (edit, asked) in late {
            self.report(&Report::new(edit, Outcome::TooLate, graph.run.clock.get()), asked.as_ref());
        }
        state.pending.end(&graph.run);
    }

    /// Looks at an edit: either it is ready to be applied, or there is nothing more to do.
    fn receive(
        &self,
        state: &mut State,
        mut loaded: Loaded,
        read: Instant,
        asked: Option<Asked>,
    ) -> Result<Ready, Box<Report>> {
        state.edits += 1;
        let edit = state.edits;
        match loaded.plan.take() {
            Some(plan) => {
                let notes = if asked.is_some() { Vec::new() } else { self.shadowed(state, &loaded) };
                Ok(Ready { edit, loaded, plan, read, notes, asked })
            }
            None => {
                let clock = self.graph.upgrade().map(|graph| graph.run.clock.get()).unwrap_or_default();
                let reason = loaded.diagnostics.render_text(&loaded.sources, false);
                let diagnostics = loaded.diagnostics.render_json(&loaded.sources);
                Err(Box::new(Report {
                    reason: Some(reason),
                    diagnostics,
                    ..Report::new(edit, Outcome::Invalid, clock)
                }))
            }
        }
    }

    /// Which values of the files were edited though `--set` has another.
    fn shadowed(&self, state: &mut State, loaded: &Loaded) -> Vec<String> {
        let Some(old) = state.files.take() else { return Vec::new() };
        let new = self.source.without_sets(&loaded.snapshot);
        let value = |document: Option<&Document>, key: &str| document?.get_key(key).map(|node| node.to_json());
        let keys = self.source.sets.iter().filter_map(|set| Some(set.split_once('=')?.0.trim()));
        let edited = keys.filter(|key| value(Some(&old), key) != value(new.as_ref(), key));
        let notes = edited.map(|key| format!("{key} is set by --set; the file's value is not used")).collect();
        state.files = new.or(Some(old));
        notes
    }

    /// Applies an edit, or refuses it; `at_work` is the engine between whose iterations this happens.
    fn swap(&self, state: &mut State, graph: &Graph, at_work: Option<&NodeId>, ready: Ready) -> Report {
        let Ready { edit, loaded, plan, read, notes, asked } = ready;
        let changes = difference(&state.plan, &plan);
        let mut report = Report { notes, ..Report::new(edit, Outcome::Unchanged, graph.run.clock.get()) };
        let ranks = &graph.run.ranks;
        // What the first rank has told the others, they try.
        if ranks.is_first() {
            let outdated = asked.as_ref().and_then(|asked| requests::outdated(&asked.request, &self.versions));
            let fixed = fixed(&changes);
            if changes.is_empty() || outdated.is_some() || fixed.is_some() {
                together::tell(ranks, None);
                if let Some(reason) = outdated.filter(|_| !changes.is_empty()) {
                    (report.outcome, report.reason) = (Outcome::Refused, Some(reason));
                } else if let Some((fixed, reason)) = fixed {
                    (report.outcome, report.reason) = (Outcome::Refused, Some(reason));
                    report.changes = report::refused(&fixed, state.document.as_ref(), &loaded);
                }
                report.seconds = read.elapsed().as_secs_f64();
                return report;
            }
            together::tell(ranks, Some(&loaded));
        }
        // Handlers that are built anew look at what lies in the folder.
        graph.settle();
        let prepared = prepare(graph, &loaded.catalog, &state.plan, &plan, &changes, &state.waiting, at_work);
        match together::by_all(ranks, prepared) {
            Err(error) => {
                (report.outcome, report.reason) = (Outcome::Refused, Some(plain(&format!("{error:#}"))));
                report.changes = report::refused(&changes, state.document.as_ref(), &loaded);
            }
            Ok(prepared) => {
                report.outcome = Outcome::Applied;
                report.changes = report::lines(&changes, &prepared.affected, state.document.as_ref(), &loaded);
                report.rebuilt = report::rebuilt(&prepared.affected);
                report.weights = prepared.weights();
                report.loaded = prepared.loaded();
                report.reset = prepared.reset();
                prepared.commit(graph, &state.plan, &plan, &mut state.waiting, self.quiet);
                if let Err(error) = graph.alike() {
                    // The next step fails, too, and says so.
                    tracing::error!("the ranks' weights could not be made the same: {error:#}");
                }
                report.waiting = state.waiting.names();
                if state.waiting.has_events() {
                    let events = report.changes.iter_mut().zip(&changes).filter(|(_, change)| change.is_event());
                    events.for_each(|(line, _)| line.meaning = Meaning::NextEpoch);
                }
                state.waiting_edit = edit;
                state.plan = Rc::new(plan);
                let by = asked.as_ref().map(|asked| format!("edit {edit}{}", asked.by()));
                if ranks.is_first() {
                    report.version = self.keep(&loaded, by.as_deref(), state.document.as_ref(), &graph.run);
                }
                state.document = loaded.document;
                state.waiting_asked = asked;
            }
        }
        report.seconds = read.elapsed().as_secs_f64();
        report
    }

    /// Keeps the version that is in effect now; what was asked for comes from there. A full disk must not stop the run.
    fn keep(&self, loaded: &Loaded, by: Option<&str>, old: Option<&Document>, run: &RunContext) -> Option<String> {
        let new = loaded.document.as_ref()?;
        let mut origins = loaded.origins();
        if let Some(by) = by {
            // Those of a text that the run itself has written say nothing.
            let kept = self.versions.origins();
            let value = |document: Option<&Document>, key: &str| document?.get_key(key).map(|node| node.to_json());
            let same = |key: &str| value(Some(new), key) == value(old, key);
            let keys: Vec<String> = new.origins(&loaded.sources).into_keys().collect();
            origins = keys
                .into_iter()
                .map(|key| {
                    let former = kept.get(&key).filter(|_| same(&key)).cloned();
                    (key, former.unwrap_or_else(|| by.to_owned()))
                })
                .collect();
        }
        let kept = self.versions.keep(&new.to_toml(), run.clock.get().step);
        match kept.and_then(|name| self.versions.keep_origins(&origins).map(|()| name)) {
            Ok(name) => Some(name),
            Err(error) => {
                tracing::warn!("this version of the pipeline was not saved: {error:#}");
                None
            }
        }
    }

    /// Tells people, the index of versions and the records, and whoever asked.
    fn report(&self, report: &Report, asked: Option<&Asked>) {
        let mut report = report.clone();
        if let Some(Asked { request, .. }) = asked {
            (report.author, report.why) = (request.author.clone(), request.why.clone());
        }
        let report = &report;
        let text = report.text();
        match report.outcome {
            Outcome::Refused | Outcome::Invalid => tracing::error!("{text}"),
            Outcome::TooLate => tracing::warn!("{text}"),
            _ => tracing::info!("{text}"),
        }
        let graph = self.graph.upgrade();
        if graph.as_ref().is_some_and(|graph| !graph.run.ranks.is_first()) {
            return;
        }
        if let Some((graph, asked)) = graph.as_ref().zip(asked) {
            requests::answer_edit(&graph.run, asked, report);
        }
        let clock = Clock { step: report.step, epoch: report.epoch };
        self.record(graph.as_deref(), report, ("pipeline/edit", text), clock);
    }

    /// Adds a line to the index of versions and a text to the records.
    fn record(&self, graph: Option<&Graph>, line: &impl Serialize, (tag, text): (&str, String), clock: Clock) {
        let recorded = self.versions.log(line).and_then(|()| {
            let graph = graph.context("the run has ended")?;
            let Some(node) = graph.roots.borrow().first().cloned() else { return Ok(()) };
            let (Clock { step, epoch }, value) = (clock, RecordValue::Text(text));
            graph.run.folder.append_record(&Record { tag: tag.into(), value, step, epoch, node, time: now() })
        });
        if let Err(error) = recorded {
            tracing::warn!("this was not recorded: {error:#}");
        }
    }

    /// Applies the edit that the first rank tells, where it can be applied by all.
    fn follow(&self, state: &mut State, graph: &Graph, engine: &NodeId) {
        let ranks = &graph.run.ranks;
        let Some(loaded) = together::heard(graph, &self.source.accept) else { return };
        let report = match self.receive(state, loaded, Instant::now(), None) {
            Err(report) => {
                together::cannot(ranks, report.reason.as_deref());
                *report
            }
            Ok(ready) => self.swap(state, graph, Some(engine), ready),
        };
        self.report(&report, None);
    }

    /// Passes on what was asked for.
    fn asked(&self, state: &mut State, graph: &Graph, asked: Asked) {
        let (clock, ask) = (graph.run.clock.get(), asked.request.ask);
        let text = format!("asked for a {}{}", ask.as_str(), asked.by());
        self.record(Some(graph), &Entry::asked(&asked.request, clock), ("run/request", text), clock);
        state.pending.begin(asked, &graph.run);
    }
}

impl Between for Reloader {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        // An engine that is run while an edit is applied would find it half done.
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        let run = &graph.run;
        let alone = run.ranks.is_alone();
        for arrival in self.inbox.take() {
            let (loaded, asked) = match arrival.what {
                Arrived::Files(snapshot) => (self.source.load_snapshot(&snapshot), None),
                Arrived::Asked(asked) => match &asked.request.text {
                    Some(text) => (requests::load(run.folder.path(), text, &self.source.accept), Some(asked)),
                    None => {
                        self.asked(&mut state, graph, asked);
                        continue;
                    }
                },
            };
            match self.receive(&mut state, loaded, arrival.read, asked.clone()) {
                Err(report) => self.report(&report, asked.as_ref()),
                Ok(ready) => {
                    if run.depth.get() > 1 {
                        tracing::info!("edit {} was read; it is applied when {engine} has finished", ready.edit);
                    }
                    if let Some(earlier) = state.ready.replace(ready) {
                        let report = Report::new(earlier.edit, Outcome::Superseded, run.clock.get());
                        self.report(&report, earlier.asked.as_ref());
                    }
                }
            }
        }
        state.pending.look(run);
        if state.ready.is_some() {
            run.edit_waits();
        }
        if boundary == Boundary::Inner {
            return;
        }
        let now = alone || run.takes_edit();
        if now && !run.ranks.is_first() {
            self.follow(&mut state, graph, engine);
        }
        if let Some(ready) = state.ready.take_if(|_| now) {
            let asked = ready.asked.clone();
            let report = self.swap(&mut state, graph, Some(engine), ready);
            if !report.loaded.is_empty() {
                // It is in no checkpoint yet, and the file may not be there when it is asked for once more.
                run.checkpoint_wanted.store(true, Ordering::Relaxed);
            }
            self.report(&Report { at_epoch_end: boundary == Boundary::Epoch, ..report }, asked.as_ref());
        }
        if boundary == Boundary::Epoch && !state.waiting.is_empty() {
            let waiting = std::mem::take(&mut state.waiting);
            let names = waiting.names();
            waiting.finish(graph, &state.plan, self.quiet);
            let report = Report::new(state.waiting_edit, Outcome::Completed, run.clock.get());
            let asked = state.waiting_asked.take();
            self.report(&Report { waiting: names, ..report }, asked.as_ref());
        }
    }
}

/// The changes that no run can take, and why.
pub fn fixed(changes: &[Change]) -> Option<(Vec<Change>, String)> {
    let fixed: Vec<Change> = changes.iter().filter(|change| change.class() == Reload::Fixed).cloned().collect();
    let names: Vec<String> = fixed.iter().map(|change| format!("`{}`", change.name())).collect();
    let is_option = |change: &Change| matches!(change.what, What::Option { .. });
    debug_assert!(fixed.iter().all(is_option), "only options can be fixed");
    let reason = format!(
        "{} cannot change in a running process, so nothing of this edit is applied; restart the run, or restore the \
         previous value",
        names.join(" and ")
    );
    (!fixed.is_empty()).then_some((fixed, reason))
}
