//! What differs between runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State as Shared};
use pipe_runs::Run;
use serde::Deserialize;
use serde_json::{Value, json};

use super::run::steps_per_epoch;
use super::several;
use crate::problem::{Answer, aside};
use crate::state::State;

/// Which runs.
#[derive(Deserialize)]
pub struct Wanted {
    runs: String,
    /// Also options that are the same in all of them.
    #[serde(default)]
    same: bool,
}

/// As `pipe runs compare --format json`, with what the page says of each run.
pub async fn compare(Shared(state): Shared<Arc<State>>, Query(wanted): Query<Wanted>) -> Answer<Json<Value>> {
    aside(move || compared(&several(&*state.runs()?, &wanted.runs)?, wanted.same).map(Json)).await
}

/// The same of some runs, with what is the same in all of them where that is wanted.
pub fn compared(chosen: &[(String, Arc<Run>)], same: bool) -> Answer<Value> {
    let runs: Vec<Run> = chosen.iter().map(|(_, run)| Run::clone(run)).collect();
    let about = chosen.iter().map(|(id, run)| {
        json!({
            "id": id, "name": run.name, "pipeline": run.pipeline, "status": run.status, "created": run.created,
            "seconds": run.seconds, "steps": run.steps, "epochs": run.epochs, "tags": run.tags, "group": run.group,
            "note": run.note, "steps_per_epoch": steps_per_epoch(run), "forked_from": run.forked_from,
        })
    });
    let about: Vec<Value> = about.collect();
    let mut answer = serde_json::to_value(pipe_runs::compare::compare(&runs)).map_err(anyhow::Error::from)?;
    answer["about"] = about.into();
    if same {
        let first = &runs[0].options;
        let same = first.iter().filter(|(key, value)| runs.iter().all(|run| run.options.get(*key) == Some(value)));
        answer["same"] = same.map(|(key, value)| json!({ "key": key, "value": value })).collect();
    }
    Ok(answer)
}
