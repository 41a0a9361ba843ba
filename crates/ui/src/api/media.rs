//! What a run shows beside curves.

use std::io::Read;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path as Address, Query, State as Shared};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use indexmap::IndexMap;
use pipe_runs::Run;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inside;
use crate::problem::{Answer, Problem, aside};
use crate::state::State;

/// No image is larger.
const LARGEST: u64 = 256 << 20;

/// What there is, by tag: of each the items, by number, step, epoch and time.
pub async fn list(Shared(state): Shared<Arc<State>>, Address(id): Address<String>) -> Answer<Json<Value>> {
    aside(move || listed(&state, &id).map(Json)).await
}

/// The same, at once.
pub fn listed(state: &State, id: &str) -> Answer<Value> {
    let run = state.run(id)?;
    let tags = state.with_media(&run.folder, |media| {
        let mut tags: IndexMap<(&str, &str), (&str, Vec<Value>)> = IndexMap::new();
        for (at, item) in media.items.iter().enumerate() {
            let (_, items) = tags.entry((&item.kind, &item.tag)).or_insert((&item.node, Vec::new()));
            items.push(json!([at, item.step, item.epoch, item.time]));
        }
        let each = tags
            .into_iter()
            .map(|((kind, tag), (node, items))| json!({ "kind": kind, "tag": tag, "node": node, "items": items }));
        Ok(each.collect::<Vec<_>>())
    })?;
    Ok(json!({ "generation": run.generation, "tags": tags }))
}

/// Which item is meant: the run may have gone back, and another have its number.
#[derive(Deserialize)]
pub struct Meant {
    tag: String,
    step: u64,
}

/// What an item is like.
pub async fn value(
    Shared(state): Shared<Arc<State>>,
    Address((id, at)): Address<(String, usize)>,
    Query(meant): Query<Meant>,
) -> Answer<Json<Value>> {
    aside(move || {
        let run = state.run(&id)?;
        let value = state.with_media(&run.folder, |media| {
            let item = media.items.get(at).filter(|item| item.tag == meant.tag && item.step == meant.step);
            item.map(|item| media.value(item)).transpose()
        });
        match value {
            Ok(Some(value)) => Ok(Json(value)),
            _ => Err(Problem::changed("the run went back behind this")),
        }
    })
    .await
}

/// An image, by the name of its file, which is that of its content.
pub async fn image(
    Shared(state): Shared<Arc<State>>,
    Address((id, name)): Address<(String, String)>,
) -> Answer<Response> {
    aside(move || {
        let run = state.run(&id)?;
        let file = format!("images/{name}");
        let bytes = pixels(&state, &run, &file)?;
        let headers = [(CONTENT_TYPE, "image/png"), (CACHE_CONTROL, "private, max-age=31536000, immutable")];
        Ok((headers, Body::from(bytes)).into_response())
    })
    .await
}

/// The bytes of an image that a run names.
pub fn pixels(state: &State, run: &Run, file: &str) -> Answer<Vec<u8>> {
    let path = state.with_media(&run.folder, |media| Ok(media.image(file)))?;
    path.ok_or_else(|| Problem::absent("the run has no such image"))?;
    let mut bytes = Vec::new();
    let read = inside::open(&run.folder, file)?.take(LARGEST).read_to_end(&mut bytes);
    read.map_err(|error| anyhow::anyhow!("cannot read {file}: {error}"))?;
    Ok(bytes)
}
