//! The table of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Shared};
use pipe_runs::choose::{choose, common_metrics, sort};
use pipe_runs::key::FIELDS;
use pipe_runs::{Key, Run};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::{Answer, Problem, aside};
use crate::state::{Snapshot, State, id};

/// What a table shows.
#[derive(Default, Deserialize)]
pub struct Wanted {
    /// Which runs, as `pipe runs list --where` has it.
    r#where: Option<String>,
    /// A column, with `-` before it from the largest on.
    sort: Option<String>,
    /// Columns beside those of every table, as a JSON array.
    columns: Option<String>,
    /// Also archived ones.
    #[serde(default)]
    all: bool,
}

impl Wanted {
    /// All runs, archived ones too, with the usual columns.
    pub fn all() -> Wanted {
        Wanted { all: true, ..Wanted::default() }
    }
}

/// A table's rows, and which of all runs they are.
pub async fn table(Shared(state): Shared<Arc<State>>, Query(wanted): Query<Wanted>) -> Answer<Json<Value>> {
    aside(move || rows(&state, &wanted).map(Json)).await
}

/// The same, at once.
pub fn rows(state: &State, wanted: &Wanted) -> Answer<Value> {
    let snapshot = state.runs()?;
    let wrong = |error: anyhow::Error| Problem::wrong(format!("{error:#}"));
    let expression = wanted.r#where.as_deref().filter(|text| !text.trim().is_empty());
    let mut runs = state.with_jobs(snapshot.runs.clone());
    choose(&mut runs, expression, wanted.all).map_err(wrong)?;
    let given = wanted.columns.as_deref().map(serde_json::from_str::<Vec<String>>);
    let given = given.transpose().map_err(|_| Problem::wrong("columns are an array of texts"))?;
    let columns = given.unwrap_or_else(|| usual(&runs));
    if let Some(by) = wanted.sort.as_deref().filter(|by| !by.is_empty()) {
        sort(&mut runs, by).map_err(wrong)?;
    }
    let keys: Vec<Key> = columns.iter().map(|column| Key::of(column)).collect();
    let row = |run: &Arc<Run>| {
        let values: Vec<Value> = keys.iter().map(|key| key.value(run).unwrap_or_default()).collect();
        json!({
            "id": id(&run.folder), "name": run.name, "pipeline": run.pipeline, "status": run.status, "created": run.created,
            "seconds": run.seconds, "steps": run.steps, "epochs": run.epochs, "tags": run.tags, "group": run.group,
            "note": run.note, "error": run.error, "job": run.job, "folder": run.folder, "forked_from": run.forked_from, "values": values,
        })
    };
    Ok(json!({
        "revision": snapshot.revision, "total": snapshot.runs.len(), "columns": columns,
        "runs": runs.iter().map(row).collect::<Vec<_>>(),
    }))
}

/// Columns that are shown before anyone has chosen some: metrics, and options by which the runs differ.
fn usual(runs: &[Arc<Run>]) -> Vec<String> {
    let metrics = common_metrics(runs).into_iter().map(|key| key.text);
    let mut values: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for run in runs.iter().take(200) {
        for (key, value) in &run.options {
            values.entry(key).or_default().insert(value.to_string());
        }
    }
    let numbers = |key: &str| runs.iter().any(|run| run.options.get(key).is_some_and(Value::is_number));
    let mut differing: Vec<(usize, &str)> = values
        .into_iter()
        .filter(|(key, values)| values.len() > 1 && numbers(key))
        .map(|(key, values)| (values.len(), key))
        .collect();
    differing.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    metrics.chain(differing.into_iter().take(4).map(|(_, key)| key.to_owned())).collect()
}

/// What columns there can be: fields, options and curves of all runs.
pub async fn keys(Shared(state): Shared<Arc<State>>) -> Answer<Json<Value>> {
    aside(move || Ok(Json(known(&*state.runs()?)))).await
}

/// The same of runs that are known.
pub fn known(snapshot: &Snapshot) -> Value {
    let options: BTreeSet<&String> = snapshot.runs.iter().flat_map(|run| run.options.keys()).collect();
    let curves: BTreeSet<&String> = snapshot.runs.iter().flat_map(|run| run.metrics.keys()).collect();
    let tags: BTreeSet<&String> = snapshot.runs.iter().flat_map(|run| &run.tags).collect();
    json!({ "fields": FIELDS, "options": options, "curves": curves, "tags": tags })
}
