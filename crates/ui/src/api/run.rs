//! One run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use axum::Json;
use axum::extract::{Path as Address, State as Shared};
use pipe_history::{Scalars, standing};
use pipe_runs::{Run, options};
use pipe_vocab::files;
use serde_json::{Map, Value, json};

use crate::problem::{Answer, aside};
use crate::state::State;

/// Of the edits of a run so many are told, the latest.
const MOST_EDITS: usize = 2000;

/// So many values of the machine's are of a minute.
const MINUTE: u64 = 12;

/// What is known of a run but for its curves' points and what it shows.
pub async fn run(Shared(state): Shared<Arc<State>>, Address(id): Address<String>) -> Answer<Json<Value>> {
    aside(move || known(&state, &id).map(Json)).await
}

/// The same, at once.
pub fn known(state: &State, id: &str) -> Answer<Value> {
    let run = state.with_jobs(vec![state.run(id)?]).remove(0);
    let log = run.job.as_ref().and_then(|job| job.receipt.log());
    let machine = state.with_curves(&run.folder.join("machine"), |curves| Ok((tags(curves), shares(curves)?)));
    let (machine, shares) = machine.unwrap_or_default();
    Ok(json!({
        "id": id, "run": *run, "info": standing::read(&run.folder), "origins": options::origins(&run.folder),
        "edits": edits(&run.folder), "checkpoints": checkpoints(&run.folder), "steps_per_epoch": steps_per_epoch(&run),
        "machine": machine, "shares": shares, "log": log, "pipeline": text(&run.folder, "pipeline.toml"),
    }))
}

fn tags(curves: &Scalars) -> Vec<String> {
    curves.tags().map(str::to_owned).collect()
}

/// The parts of the training thread's time in percent, over the last minute that was measured; `null` where nothing was.
fn shares(curves: &Scalars) -> Result<Option<Value>> {
    let (mut parts, mut until) = (Map::new(), f64::NEG_INFINITY);
    for tag in curves.tags().filter(|tag| tag.starts_with("share/")) {
        let count = curves.count(tag);
        let points = curves.points(tag, count.saturating_sub(MINUTE)..count)?;
        let Some(last) = points.last() else { continue };
        until = until.max(last.time);
        let mean = points.iter().map(|point| point.value).sum::<f64>() / points.len() as f64;
        parts.insert(tag["share/".len()..].to_owned(), json!({ "mean": mean, "last": last.value }));
    }
    Ok((!parts.is_empty()).then(|| json!({ "until": until, "parts": parts })))
}

fn text(folder: &Path, name: &str) -> Option<String> {
    files::read_text(&folder.join(name), 16 << 20).ok()
}

/// How many steps an epoch has, as far as the curves tell; none where a run has no epochs.
pub fn steps_per_epoch(run: &Run) -> Option<f64> {
    let points = run.metrics.values().flat_map(|metric| [Some(metric.last), metric.min, metric.max]).flatten();
    let each = points.filter(|point| point.epoch > 0).map(|point| point.step as f64 / point.epoch as f64);
    each.reduce(f64::max).filter(|steps| *steps > 0.0)
}

/// The lines of `pipelines/index.jsonl`: the beginnings of the run's lives, its edits, refused ones among them.
fn edits(folder: &Path) -> Vec<Value> {
    let text = files::read_text(&folder.join("pipelines/index.jsonl"), 64 << 20).unwrap_or_default();
    let mut lines: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    lines.drain(..lines.len().saturating_sub(MOST_EDITS));
    lines
}

/// The whole checkpoints, with what `best.json` says of the best.
fn checkpoints(folder: &Path) -> Value {
    let folder = folder.join("checkpoints");
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let Ok(text) = files::read_text(&path.join("complete.json"), 1 << 20) else { continue };
        let step = name.strip_prefix("step_").and_then(|rest| rest.split('.').next()?.parse::<u64>().ok());
        let time = std::fs::metadata(path.join("complete.json")).and_then(|meta| meta.modified());
        let time = time.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let bytes: u64 = std::fs::read_dir(&path)
            .into_iter()
            .flatten()
            .flatten()
            .map(|file| file.metadata().map_or(0, |meta| meta.len()))
            .sum();
        found.insert(
            name.clone(),
            json!({
                "name": name, "step": step, "bytes": bytes, "time": time.map(|time| time.as_secs_f64()),
                "complete": serde_json::from_str::<Value>(&text).unwrap_or_default(),
            }),
        );
    }
    let best = files::read_text(&folder.join("best.json"), 1 << 20).unwrap_or_default();
    json!({
        "all": found.into_values().collect::<Vec<_>>(),
        "best": serde_json::from_str::<Value>(&best).unwrap_or_default(),
    })
}
