//! What a run does between two iterations when an edit has come.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context;

use super::difference::{Change, What, difference};
use super::inbox::Inbox;
use super::report::{self, Meaning, Outcome, Report};
use super::swap::{Waiting, prepare};
use crate::graph::{Between, Graph};
use crate::load::{Loaded, PipelineSource, Snapshot};
use crate::versions::Versions;
use pipe_core::{Boundary, NodeId, Record, RecordValue, Reload, RunContext};
use pipe_document::Document;
use pipe_document::diagnostic::plain;
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
    /// A good edit for which it was not yet the time.
    ready: Option<Ready>,
    /// Edits so far.
    edits: u64,
}

struct Ready {
    edit: u64,
    loaded: Loaded,
    plan: Plan,
    read: Instant,
    /// Edits of values that `--set` has.
    notes: Vec<String>,
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
            ready: None,
            edits: 0,
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
        let report = match self.receive(&mut state, loaded, Instant::now()) {
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
        self.report(&report);
        report
    }

    /// Applies a pipeline between two iterations of `engine`, at once, and says what came of it.
    pub fn apply_between(&self, graph: &Graph, engine: &NodeId, loaded: Loaded) -> Report {
        let mut state = self.state.borrow_mut();
        let report = match self.receive(&mut state, loaded, Instant::now()) {
            Err(report) => *report,
            Ok(ready) => self.swap(&mut state, graph, Some(engine), ready),
        };
        self.report(&report);
        report
    }

    /// Says which edits came too late for a run that has ended.
    pub fn end(&self) {
        let mut state = self.state.borrow_mut();
        let Some(graph) = self.graph.upgrade() else { return };
        let unfinished = std::mem::take(&mut state.waiting);
        let mut late = Vec::new();
        if !unfinished.is_empty() {
            late.push(state.waiting_edit);
        }
        late.extend(state.ready.take().map(|ready| ready.edit));
        for _ in self.inbox.take() {
            state.edits += 1;
            late.push(state.edits);
        }
        for edit in late {
            self.report(&Report::new(edit, Outcome::TooLate, graph.run.clock.get()));
        }
    }

    /// Looks at an edit: either it is ready to be applied, or there is nothing more to do.
    fn receive(&self, state: &mut State, mut loaded: Loaded, read: Instant) -> Result<Ready, Box<Report>> {
        state.edits += 1;
        let edit = state.edits;
        match loaded.plan.take() {
            Some(plan) => {
                let notes = self.shadowed(state, &loaded);
                Ok(Ready { edit, loaded, plan, read, notes })
            }
            None => {
                let clock = self.graph.upgrade().map(|graph| graph.run.clock.get()).unwrap_or_default();
                let reason = loaded.diagnostics.render_text(&loaded.sources, false);
                Err(Box::new(Report { reason: Some(reason), ..Report::new(edit, Outcome::Invalid, clock) }))
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
        let Ready { edit, loaded, plan, read, notes } = ready;
        let changes = difference(&state.plan, &plan);
        let mut report = Report { notes, ..Report::new(edit, Outcome::Unchanged, graph.run.clock.get()) };
        if changes.is_empty() {
            report.seconds = read.elapsed().as_secs_f64();
            return report;
        }
        if let Some((fixed, reason)) = fixed(&changes) {
            (report.outcome, report.reason) = (Outcome::Refused, Some(reason));
            report.changes = report::refused(&fixed, state.document.as_ref(), &loaded);
            report.seconds = read.elapsed().as_secs_f64();
            return report;
        }
        // Handlers that are built anew look at what lies in the folder.
        graph.settle();
        match prepare(graph, &loaded.catalog, &state.plan, &plan, &changes, &state.waiting, at_work) {
            Err(error) => {
                (report.outcome, report.reason) = (Outcome::Refused, Some(plain(&format!("{error:#}"))));
                report.changes = report::refused(&changes, state.document.as_ref(), &loaded);
            }
            Ok(prepared) => {
                report.outcome = Outcome::Applied;
                report.changes = report::lines(&changes, &prepared.affected, state.document.as_ref(), &loaded);
                report.rebuilt = report::rebuilt(&prepared.affected);
                report.weights = prepared.weights();
                report.reset = prepared.reset();
                prepared.commit(graph, &state.plan, &plan, &mut state.waiting, self.quiet);
                report.waiting = state.waiting.names();
                if state.waiting.has_events() {
                    let events = report.changes.iter_mut().zip(&changes).filter(|(_, change)| change.is_event());
                    events.for_each(|(line, _)| line.meaning = Meaning::NextEpoch);
                }
                state.waiting_edit = edit;
                state.plan = Rc::new(plan);
                report.version = self.keep(&loaded, &graph.run);
                state.document = loaded.document;
            }
        }
        report.seconds = read.elapsed().as_secs_f64();
        report
    }

    /// Keeps the version that is in effect now. A full disk must not stop the run.
    fn keep(&self, loaded: &Loaded, run: &RunContext) -> Option<String> {
        let text = loaded.document.as_ref()?.to_toml();
        let kept = self.versions.keep(&text, run.clock.get().step);
        match kept.and_then(|name| self.versions.keep_origins(&loaded.origins()).map(|()| name)) {
            Ok(name) => Some(name),
            Err(error) => {
                tracing::warn!("this version of the pipeline was not saved: {error:#}");
                None
            }
        }
    }

    /// Tells people, the index of versions and the records.
    fn report(&self, report: &Report) {
        let text = report.text();
        match report.outcome {
            Outcome::Refused | Outcome::Invalid => tracing::error!("{text}"),
            Outcome::TooLate => tracing::warn!("{text}"),
            _ => tracing::info!("{text}"),
        }
        let recorded = self.versions.log(report).and_then(|()| {
            let graph = self.graph.upgrade().context("the run has ended")?;
            let Some(node) = graph.roots.borrow().first().cloned() else { return Ok(()) };
            graph.run.folder.append_record(&Record {
                tag: "pipeline/edit".into(),
                value: RecordValue::Text(text),
                step: report.step,
                epoch: report.epoch,
                node,
                time: report.time,
            })
        });
        if let Err(error) = recorded {
            tracing::warn!("the edit was not recorded: {error:#}");
        }
    }
}

impl Between for Reloader {
    fn between(&self, graph: &Graph, engine: &NodeId, boundary: Boundary) {
        // An engine that is run while an edit is applied would find it half done.
        let Ok(mut state) = self.state.try_borrow_mut() else { return };
        let run = &graph.run;
        for edit in self.inbox.take() {
            match self.receive(&mut state, self.source.load_snapshot(&edit.snapshot), edit.read) {
                Err(report) => self.report(&report),
                Ok(ready) => {
                    if run.depth.get() > 1 {
                        tracing::info!("edit {} was read; it is applied when {engine} has finished", ready.edit);
                    }
                    if let Some(earlier) = state.ready.replace(ready) {
                        self.report(&Report::new(earlier.edit, Outcome::Superseded, run.clock.get()));
                    }
                }
            }
        }
        if boundary == Boundary::Inner {
            return;
        }
        if let Some(ready) = state.ready.take() {
            let report = self.swap(&mut state, graph, Some(engine), ready);
            self.report(&Report { at_epoch_end: boundary == Boundary::Epoch, ..report });
        }
        if boundary == Boundary::Epoch && !state.waiting.is_empty() {
            let waiting = std::mem::take(&mut state.waiting);
            let names = waiting.names();
            waiting.finish(graph, &state.plan, self.quiet);
            let report = Report::new(state.waiting_edit, Outcome::Completed, run.clock.get());
            self.report(&Report { waiting: names, ..report });
        }
    }
}

/// The changes that no run can take, and why.
fn fixed(changes: &[Change]) -> Option<(Vec<Change>, String)> {
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
