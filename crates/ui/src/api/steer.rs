//! What changes a run at work: it is asked by way of its folder, and answers there; and who has the job of one that was submitted. All of this
//! needs the token but the reading of answers.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path as Address, State as Shared};
use axum::http::StatusCode;
use pipe_history::requests::{LONGEST, Request, Requests};
use pipe_history::standing::Status;
use pipe_runs::Run;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inside;
use crate::problem::{Answer, Problem, aside};
use crate::state::State;

/// So many requests are told, the latest.
const MOST: usize = 50;

/// A text of a pipeline.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Text {
    text: String,
}

/// What another text of its pipeline would mean to a run.
pub async fn check(
    Shared(state): Shared<Arc<State>>,
    Address(id): Address<String>,
    Json(Text { text }): Json<Text>,
) -> Answer<Json<Value>> {
    aside(move || {
        let run = state.run(&id)?;
        let checker = state.checker.as_ref().ok_or_else(|| {
            Problem::refused(StatusCode::NOT_IMPLEMENTED, "this server does not know how to check a pipeline")
        })?;
        Ok(Json(checker.check(&run.folder, &text)))
    })
    .await
}

/// Asks a run at work.
pub async fn ask(
    Shared(state): Shared<Arc<State>>,
    Address(id): Address<String>,
    Json(request): Json<Request>,
) -> Answer<Json<Value>> {
    aside(move || {
        let run = state.run(&id)?;
        request.check().map_err(|error| Problem::wrong(format!("{error:#}")))?;
        if pipe_history::standing::status(&run.folder) != Some(Status::Running) {
            return Err(Problem::changed("the run is not at work, so there is nobody to do it"));
        }
        let name = Requests::of(&run.folder).put(&request)?;
        Ok(Json(json!({ "name": name })))
    })
    .await
}

/// What is asked of who has a run's job.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Act {
    /// Take it out of the queue.
    Stop,
    /// Put it back into the queue.
    Requeue,
}

/// What is to be done to a job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    ask: Act,
}

/// Asks who has a run's job.
pub async fn job(
    Shared(state): Shared<Arc<State>>,
    Address(id): Address<String>,
    Json(Wish { ask }): Json<Wish>,
) -> Answer<Json<Value>> {
    aside(move || {
        let run = state.run(&id)?;
        let Some(job) = &run.job else { return Err(Problem::changed("the run was not submitted")) };
        if ask == Act::Stop && pipe_history::standing::status(&run.folder) == Some(Status::Running) {
            return Err(Problem::changed("the run is at work: stop the run itself, so that it saves a checkpoint"));
        }
        let done = match ask {
            Act::Stop => pipe_submit::cancel(&job.receipt),
            Act::Requeue => pipe_submit::requeue(&job.receipt),
        };
        state.jobs.forget(&job.receipt);
        done.map_err(|error| Problem::changed(format!("{error:#}")))?;
        Ok(Json(json!({ "job": job.receipt.job })))
    })
    .await
}

/// What a run was asked and has answered, the latest first.
pub async fn list(Shared(state): Shared<Arc<State>>, Address(id): Address<String>) -> Answer<Json<Value>> {
    aside(move || Ok(Json(told(&*state.run(&id)?)))).await
}

/// The same, at once.
pub fn told(run: &Run) -> Value {
    let all = Requests::of(&run.folder).all();
    let each = all.iter().rev().take(MOST).filter_map(|(name, answered)| one(&run.folder, name, *answered));
    Value::Array(each.collect())
}

fn one(run: &Path, name: &str, answered: bool) -> Option<Value> {
    let mut text = String::new();
    let file = inside::open(run, &Requests::file(name, answered)).ok()?;
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let mut told: Value = serde_json::from_str(&text).ok()?;
    let fields = told.as_object_mut()?;
    if !answered {
        fields.retain(|key, _| matches!(key.as_str(), "ask" | "author" | "why"));
        fields.insert("stage".into(), "asked".into());
    }
    fields.insert("name".into(), name.into());
    Some(told)
}
