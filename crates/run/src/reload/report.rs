//! What a run says of an edit: to people, and as a line of `pipelines/index.jsonl`.

use std::fmt::Write;

use serde::Serialize;
use serde_json::Value as Json;

use super::affected::{Affected, Cause};
use super::carry::Weights;
use super::difference::{Change, What};
use super::loads::Loaded;
use crate::load;
use pipe_core::{Clock, Kind, NodeId, Reload};
use pipe_document::Document;
use pipe_history::requests::by;

/// How an edit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is in effect, but for what waits for the end of the epoch.
    Applied,
    /// What waited for the end of the epoch is in effect.
    Completed,
    /// It is a right pipeline, but this run cannot take it. Nothing changed.
    Refused,
    /// It is not a right pipeline. Nothing changed.
    Invalid,
    /// It changes nothing.
    Unchanged,
    /// A later edit came before this one could be applied.
    Superseded,
    /// The run ended before it could be applied.
    TooLate,
}

/// What a change meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Meaning {
    /// Applied now.
    Now,
    /// Applied now, by rebuilding the node.
    Rebuilt,
    /// Applied at the end of the epoch.
    NextEpoch,
    /// Refused.
    Refused,
}

impl Meaning {
    /// In words.
    fn as_str(self) -> &'static str {
        match self {
            Meaning::Now => "applied now",
            Meaning::Rebuilt => "applied now, rebuilt",
            Meaning::NextEpoch => "at the next epoch",
            Meaning::Refused => "refused",
        }
    }
}

/// A change in a report.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// What differs: `optimizer.sgd.lr`.
    pub name: String,
    /// Where it is written: `tiny.toml:31`.
    pub place: String,
    /// How: `0.05 → 0.01`.
    pub change: String,
    /// The value before, of an option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Json>,
    /// The value now, of an option.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Json>,
    /// The class of the option.
    pub class: Reload,
    /// What it meant.
    pub meaning: Meaning,
}

/// What a run says of an edit.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Edits are counted from 1; 0 is the version that the run started with.
    pub edit: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// The step after which it happened.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Whether that was behind the handlers of an epoch's end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_epoch_end: bool,
    /// The file under `pipelines` that is in effect afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Line>,
    /// Nodes that were rebuilt without a change of their own, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rebuilt: Vec<String>,
    /// What happened to the models' tensors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<Weights>,
    /// What was loaded into models that stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<Loaded>,
    /// Optimizers whose state (momentum, averages) is gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reset: Vec<String>,
    /// Nodes that wait for the end of the epoch, or no longer do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<String>,
    /// What else is to be said: of values that `--set` has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Why it was not applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asked for it, where that was by a request.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// And why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// What is wrong with it, as `pipe check --format json` says it.
    #[serde(skip)]
    pub diagnostics: Json,
    /// Seconds from the reading of the edit to its end.
    pub seconds: f64,
    /// Seconds since 1970.
    pub time: f64,
}

impl Report {
    /// A report without details.
    pub fn new(edit: u64, outcome: Outcome, clock: Clock) -> Report {
        Report {
            edit,
            outcome,
            step: clock.step,
            epoch: clock.epoch,
            at_epoch_end: false,
            version: None,
            changes: Vec::new(),
            rebuilt: Vec::new(),
            weights: Vec::new(),
            loaded: Vec::new(),
            reset: Vec::new(),
            waiting: Vec::new(),
            notes: Vec::new(),
            reason: None,
            author: String::new(),
            why: String::new(),
            diagnostics: Json::Null,
            seconds: 0.0,
            time: pipe_core::now(),
        }
    }

    /// As people read it.
    pub fn text(&self) -> String {
        let Report { step, epoch, .. } = self;
        let edit = format!("{}{}", self.edit, by(&self.author, &self.why));
        let at = format!("step {step} (epoch {epoch})");
        let mut text = match self.outcome {
            Outcome::Applied => format!("edit {edit}, applied after {at}:"),
            Outcome::Completed => format!("edit {edit}, the rest applied after {at}: {}", self.waiting.join(", ")),
            Outcome::Refused => format!("edit {edit}, refused at {at}, nothing changed: {}", self.reason_text()),
            Outcome::Invalid => format!("edit {edit} has errors, nothing changed at {at}:\n{}", self.reason_text()),
            Outcome::Unchanged => format!("edit {edit}: no changes"),
            Outcome::Superseded => format!("edit {edit} was superseded by another before it could be applied"),
            Outcome::TooLate => format!("edit {edit} was not applied in full: the run ended at {at}"),
        };
        let width = self.changes.iter().map(|line| line.place.chars().count()).max().unwrap_or(0);
        for line in &self.changes {
            let Line { name, place, change, meaning, .. } = line;
            let _ = write!(text, "\n  {place:width$}  {name}: {change}: {}", meaning.as_str());
        }
        if !self.rebuilt.is_empty() {
            let _ = write!(text, "\n  rebuilt with them: {}", self.rebuilt.join(", "));
        }
        for weights in &self.weights {
            let _ = write!(text, "\n  {}: {}", weights.model, weights.describe());
        }
        for loaded in &self.loaded {
            let _ = write!(text, "\n  {}", loaded.describe());
        }
        for optimizer in &self.reset {
            let _ = write!(text, "\n  {optimizer}: its state (momentum, averages of gradients) is gone");
        }
        for note in &self.notes {
            let _ = write!(text, "\n  {note}");
        }
        text
    }

    fn reason_text(&self) -> &str {
        self.reason.as_deref().unwrap_or_default().trim_end()
    }
}

/// The lines of an edit that can be applied.
pub fn lines(changes: &[Change], affected: &Affected, old: Option<&Document>, new: &load::Loaded) -> Vec<Line> {
    changes.iter().map(|change| line(change, meaning(change, affected), old, new)).collect()
}

/// The lines of an edit that is refused: of all changes, or of those alone that cannot be.
pub fn refused(changes: &[Change], old: Option<&Document>, new: &load::Loaded) -> Vec<Line> {
    changes.iter().map(|change| line(change, Meaning::Refused, old, new)).collect()
}

fn line(change: &Change, meaning: Meaning, old: Option<&Document>, new: &load::Loaded) -> Line {
    let masked = change.clone().masked(old, new.document.as_ref());
    let (from, to) = match &masked.what {
        What::Option { from, to, .. } => (from.clone(), to.clone()),
        _ => (None, None),
    };
    let (name, place, change, class) = (masked.name(), masked.place(new), masked.describe(), masked.class());
    Line { name, place, change, from, to, class, meaning }
}

fn meaning(change: &Change, affected: &Affected) -> Meaning {
    let Some(node) = &change.node else { return Meaning::Now };
    // An engine asks its loader for batches epoch by epoch.
    let is_loader = |value: &Option<Json>| {
        let named = value.as_ref().and_then(Json::as_str).and_then(|text| text.parse::<NodeId>().ok());
        named.is_some_and(|id| id.kind == Kind::Loader)
    };
    let new_loader = match &change.what {
        What::Option { path, to, .. } => node.kind == Kind::Engine && path.len() == 1 && is_loader(to),
        _ => false,
    };
    if new_loader || affected.later.contains(node) {
        Meaning::NextEpoch
    } else if change.class() == Reload::Rebuild {
        Meaning::Rebuilt
    } else {
        Meaning::Now
    }
}

/// Nodes that are rebuilt only because of others, each with the reason.
pub fn rebuilt(affected: &Affected) -> Vec<String> {
    let text = |(id, cause): (_, &Cause)| match cause {
        Cause::Own => None,
        Cause::Holds(other) => Some(format!("{id} (holds {other})")),
        Cause::Scheduled(other) => Some(format!("{id} (driven by {other})")),
    };
    affected.build.iter().filter_map(text).collect()
}
