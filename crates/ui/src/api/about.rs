//! What the owners of a run say of it, changed from the page.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as Address, State as Shared};
use pipe_runs::About;
use pipe_runs::about::check_word;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::{Answer, Problem, aside};
use crate::state::State;

/// A note is no longer.
const LONGEST_NOTE: usize = 100_000;

/// A change; what is left out stays.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The name; an empty one gives the generated one back.
    name: Option<String>,
    /// The group; an empty one is none.
    group: Option<String>,
    note: Option<String>,
    /// Tags to add.
    #[serde(default)]
    tag: Vec<String>,
    /// Tags to remove.
    #[serde(default)]
    untag: Vec<String>,
}

/// Changes what is said of a run.
pub async fn edit(
    Shared(state): Shared<Arc<State>>,
    Address(id): Address<String>,
    Json(change): Json<Change>,
) -> Answer<Json<Value>> {
    aside(move || {
        let snapshot = state.runs()?;
        let run = snapshot.find(&id)?;
        let wrong = |error: anyhow::Error| Problem::wrong(format!("{error:#}"));
        let named = change.name.as_deref().map(str::trim).filter(|name| !name.is_empty());
        if let Some(name) = named {
            check_word("name", name).map_err(wrong)?;
            if let Some(other) = snapshot.runs.iter().find(|other| other.name == name && other.folder != run.folder) {
                return Err(Problem::wrong(format!("{} is called `{name}` already", other.folder.display())));
            }
        }
        let group = change.group.as_deref().map(str::trim);
        group.filter(|group| !group.is_empty()).map_or(Ok(()), |group| check_word("group", group)).map_err(wrong)?;
        change.tag.iter().try_for_each(|tag| check_word("tag", tag)).map_err(wrong)?;
        if change.note.as_ref().is_some_and(|note| note.len() > LONGEST_NOTE) {
            return Err(Problem::wrong(format!("a note has at most {LONGEST_NOTE} bytes")));
        }
        let about = About::edit(&run.folder, |about| {
            if change.name.is_some() {
                about.name = named.map(str::to_owned);
            }
            if let Some(group) = group {
                about.group = Some(group.to_owned()).filter(|group| !group.is_empty());
            }
            if let Some(note) = &change.note {
                about.note = note.trim().to_owned();
            }
            about.tags.extend(change.tag.iter().cloned());
            about.tags.retain(|tag| !change.untag.contains(tag));
            Ok(())
        })?;
        state.forget();
        Ok(Json(json!({ "name": about.name, "group": about.group, "note": about.note, "tags": about.tags })))
    })
    .await
}
