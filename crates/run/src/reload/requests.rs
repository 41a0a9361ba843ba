//! Requests in the run's folder on their way to the training thread, and what that does of them beside edits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use pipe_core::RunContext;
use pipe_history::requests::{Answer, Ask, Request, Requests, Stage};

use super::inbox::{Asked, Inbox};
use super::report::{Outcome, Report};
use crate::info;
use crate::load::{Loaded, PipelineSource, Snapshot};
use crate::versions::Versions;

/// How often is looked for requests.
const EVERY: Duration = Duration::from_millis(500);

/// Refuses what an earlier life of the run was asked and has not read.
pub fn refuse_unread(run: &Path) {
    let requests = Requests::of(run);
    for (name, request) in requests.unread() {
        let answer = Answer::to(&request, Stage::Refused, "the run had ended before it read this");
        told(requests.answer(&name, &answer));
    }
}

/// Reads requests on a thread of its own, for as long as there is an inbox for them.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(run: &Path, inbox: &Arc<Inbox>) -> Result<()> {
    let (requests, inbox) = (Requests::of(run), Arc::downgrade(inbox));
    let read = move || {
        while let Some(inbox) = inbox.upgrade() {
            for (name, request) in requests.unread() {
                let answer = Answer::to(&request, Stage::Read, "the run has read it, and acts when its step is done");
                // One that cannot be taken away would be done again and again.
                match requests.answer(&name, &answer) {
                    Ok(()) => inbox.ask(Asked { name, request }),
                    Err(error) => tracing::warn!("a request is left alone: {error:#}"),
                }
            }
            drop(inbox);
            std::thread::sleep(EVERY);
        }
    };
    std::thread::Builder::new().name("requests".into()).spawn(read).context("cannot read requests").map(drop)
}

/// The pipeline of a run in its folder with another text, as the run itself would go on with it.
pub fn load(run: &Path, text: &str, accept: &[String]) -> Loaded {
    let file = run.join("pipeline.toml");
    let base = info::read(run).get("pipeline_folder").and_then(|folder| folder.as_str().map(PathBuf::from));
    let base = base.or_else(|| Some(run.to_owned()));
    let source = PipelineSource {
        file: file.clone(),
        profile: None,
        sets: Vec::new(),
        base,
        accept: accept.to_vec(),
        texts: None,
    };
    let files = [(file, Ok(text.to_owned()))].into();
    source.load_snapshot(&Snapshot { files, ..Snapshot::default() }).refusing_missing_secrets()
}

/// Why an edit cannot be applied that was made of another version than the run has by now.
pub fn outdated(request: &Request, versions: &Versions) -> Option<String> {
    let (of, (now, _)) = (request.version.as_ref()?, versions.newest()?);
    (*of != now).then(|| {
        format!("the pipeline has been edited meanwhile: the run has pipelines/{now}, and this was made of {of}; make it anew")
    })
}

/// What was asked for and is not done yet.
#[derive(Default)]
pub struct Pending {
    stops: Vec<Asked>,
    checkpoints: Vec<Asked>,
}

impl Pending {
    /// Passes on what is no edit.
    pub fn begin(&mut self, asked: Asked, run: &RunContext) {
        let (by, step) = (asked.by(), run.clock.get().step);
        match asked.request.ask {
            Ask::Stop => {
                tracing::info!("asked to stop after step {step}{by}: the run saves a checkpoint and ends");
                run.interrupt.store(true, Ordering::Relaxed);
                self.stops.push(asked);
            }
            Ask::Checkpoint => {
                tracing::info!("asked for a checkpoint after step {step}{by}");
                run.checkpoint_wanted.store(true, Ordering::Relaxed);
                self.checkpoints.push(asked);
            }
            Ask::Edit => {}
        }
    }

    /// Answers those that are done.
    pub fn look(&mut self, run: &RunContext) {
        if self.checkpoints.is_empty() || run.is_asked_for_checkpoint() {
            return;
        }
        let (stage, said) = match run.asked() {
            Some(path) => (Stage::Done, format!("checkpoint {} was saved", name_of(&path))),
            None => (Stage::Refused, "the checkpoint could not be saved: the run's console says why".to_owned()),
        };
        self.checkpoints.drain(..).for_each(|asked| answer(run, &asked, stage, said.clone()));
    }

    /// Answers the rest, as the run has ended.
    pub fn end(&mut self, run: &RunContext) {
        let last = run.last_checkpoint().map(|path| name_of(&path));
        let said = match last {
            _ if run.complete.get() => "the run had come to its end".to_owned(),
            Some(name) => format!("the run has ended; its latest checkpoint is {name}"),
            None => "the run has ended, without a checkpoint".to_owned(),
        };
        self.stops.drain(..).for_each(|asked| answer(run, &asked, Stage::Done, said.clone()));
        self.checkpoints.drain(..).for_each(|asked| answer(run, &asked, Stage::Refused, said.clone()));
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Answers a request.
pub fn answer(run: &RunContext, asked: &Asked, stage: Stage, said: String) {
    told(Requests::of(run.folder.path()).answer(&asked.name, &Answer::to(&asked.request, stage, said)));
}

/// Answers the request for an edit by what came of it.
pub fn answer_edit(run: &RunContext, asked: &Asked, report: &Report) {
    let stage = match report.outcome {
        Outcome::Applied | Outcome::Completed | Outcome::Unchanged => Stage::Done,
        Outcome::Refused | Outcome::Invalid | Outcome::Superseded | Outcome::TooLate => Stage::Refused,
    };
    let mut answer = Answer::to(&asked.request, stage, report.text());
    answer.report = serde_json::to_value(report).unwrap_or_default();
    answer.diagnostics = report.diagnostics.clone();
    told(Requests::of(run.folder.path()).answer(&asked.name, &answer));
}

/// An answer that cannot be written must not stop the run.
fn told(result: Result<()>) {
    if let Err(error) = result {
        tracing::warn!("a request was not answered: {error:#}");
    }
}
