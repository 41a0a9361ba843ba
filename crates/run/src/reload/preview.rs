//! What an edit would mean to a run, before it is asked for. Nothing is built, so a run may still refuse what it cannot take.

use std::path::Path;

use serde::Serialize;
use serde_json::Value as Json;

use super::affected::Affected;
use super::difference::difference;
use super::reloader::fixed;
use super::report::{self, Line};
use super::requests;
use super::swap::rebuilding;
use crate::versions::Versions;

/// What an edit would mean.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// The version that it is compared with.
    pub version: Option<String>,
    /// What is wrong with it, as `pipe check --format json` says it.
    pub diagnostics: Json,
    /// Whether it can be asked for.
    pub valid: bool,
    /// What differs, and what that means.
    pub changes: Vec<Line>,
    /// Nodes that would be rebuilt with them, each with the reason.
    pub rebuilt: Vec<String>,
    /// Why a run at work would refuse it.
    pub reason: Option<String>,
}

/// What another text of its pipeline would mean to the run in a folder.
pub fn preview(run: &Path, text: &str) -> Preview {
    let new = requests::load(run, text, &[]);
    let newest = Versions::of(run).newest();
    let mut preview = Preview {
        version: newest.as_ref().map(|(name, _)| name.clone()),
        diagnostics: new.diagnostics.render_json(&new.sources),
        valid: new.plan.is_some(),
        changes: Vec::new(),
        rebuilt: Vec::new(),
        reason: None,
    };
    let old = newest.map(|(_, former)| requests::load(run, &former, &[]));
    let Some((old, plan)) = old.as_ref().zip(new.plan.as_ref()) else { return preview };
    let Some(former) = &old.plan else {
        preview.reason = Some("the pipeline that the run has now cannot be read here".into());
        return preview;
    };
    let changes = difference(former, plan);
    if let Some((fixed, reason)) = fixed(&changes) {
        preview.changes = report::refused(&fixed, old.document.as_ref(), &new);
        preview.reason = Some(reason);
    } else {
        let affected = Affected::of(&rebuilding(&changes, true), former, plan, &Default::default());
        preview.changes = report::lines(&changes, &affected, old.document.as_ref(), &new);
        preview.rebuilt = report::rebuilt(&affected);
    }
    preview
}
