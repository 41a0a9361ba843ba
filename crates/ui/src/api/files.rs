//! The files of a run: listed, downloaded, and the console as far as one looks at it.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Address, Query, State as Shared};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::inside;
use crate::problem::{Answer, Problem, aside};
use crate::state::State;

/// So many files are listed, and folders are looked into so deep.
const MOST_FILES: usize = 5000;
const DEEPEST: usize = 8;

/// So much of the console comes at once, and of a file to be downloaded.
const MUCH: u64 = 256 << 10;

/// The files of a run, by path.
pub async fn list(Shared(state): Shared<Arc<State>>, Address(id): Address<String>) -> Answer<Json<Value>> {
    aside(move || {
        let run = state.run(&id)?;
        let mut files = Vec::new();
        below(&run.folder, "", 0, &mut files);
        let more = files.len() > MOST_FILES;
        files.truncate(MOST_FILES);
        let each = files.iter().map(|(path, bytes, time)| json!({ "path": path, "bytes": bytes, "time": time }));
        Ok(Json(json!({ "folder": run.folder, "files": each.collect::<Vec<_>>(), "more": more })))
    })
    .await
}

fn below(folder: &Path, before: &str, depth: usize, files: &mut Vec<(String, u64, f64)>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        if files.len() > MOST_FILES {
            return;
        }
        // A name that is no text cannot be asked for.
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (path, Ok(meta)) = (format!("{before}{name}"), entry.metadata()) else { continue };
        if meta.is_dir() && depth < DEEPEST {
            below(&entry.path(), &format!("{path}/"), depth + 1, files);
        } else if meta.is_file() {
            let time = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            files.push((path, meta.len(), time.unwrap_or_default().as_secs_f64()));
        }
    }
}

/// Which file.
#[derive(Deserialize)]
pub struct Meant {
    path: String,
}

/// A file, to be kept and not to be shown: nothing in it becomes a page.
pub async fn download(
    Shared(state): Shared<Arc<State>>,
    Address(id): Address<String>,
    Query(meant): Query<Meant>,
) -> Answer<Response> {
    aside(move || {
        let run = state.run(&id)?;
        let file = inside::open(&run.folder, &meant.path)?;
        let length = file.metadata().context("cannot read the file")?.len();
        let last = meant.path.rsplit('/').next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-+=@ ".contains(c);
        let name: String = last.chars().map(|c| if plain(c) { c } else { '_' }).collect();
        let headers = [
            (CONTENT_TYPE, "application/octet-stream".to_owned()),
            (CONTENT_LENGTH, length.to_string()),
            (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        ];
        let pieces = futures_util::stream::try_unfold((file, length), piece);
        Ok((headers, Body::from_stream(pieces)).into_response())
    })
    .await
}

/// The next piece of a file, which ends where it did when it was asked for.
async fn piece((mut file, left): (File, u64)) -> std::io::Result<Option<(Bytes, (File, u64))>> {
    let read = move || {
        let mut bytes = Vec::new();
        let read = (&mut file).take(left.min(MUCH)).read_to_end(&mut bytes)? as u64;
        Ok((read > 0).then(|| (Bytes::from(bytes), (file, left - read))))
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|_| Err(std::io::Error::other("the reader met a fault")))
}

/// From where on; without it, the end of the console.
#[derive(Deserialize)]
pub struct From {
    from: Option<u64>,
    /// What the run's job said, in place of the run.
    #[serde(default)]
    job: bool,
}

/// What the run or its job said, on from a byte. A console that is shorter than that was begun anew, and comes from its end.
pub async fn console(
    Shared(state): Shared<Arc<State>>,
    Address(id): Address<String>,
    Query(wanted): Query<From>,
) -> Answer<Json<Value>> {
    aside(move || {
        let run = state.run(&id)?;
        let log = run.job.as_ref().and_then(|job| job.receipt.log());
        let name = if wanted.job {
            log.ok_or_else(|| Problem::absent("the run has no job that says anything"))?
        } else {
            CONSOLE.into()
        };
        part(&run.folder, &name, wanted.from).map(Json)
    })
    .await
}

/// What the run said.
const CONSOLE: &str = "console.log";

/// What a run said, at once.
pub fn said(state: &State, id: &str) -> Answer<Value> {
    part(&state.run(id)?.folder, CONSOLE, None)
}

fn part(folder: &Path, name: &str, from: Option<u64>) -> Answer<Value> {
    let Ok(mut file) = inside::open(folder, name) else {
        return Ok(json!({ "from": 0, "to": 0, "length": 0, "text": "" }));
    };
    let length = file.metadata().with_context(|| format!("cannot read {name}"))?.len();
    let from = from.filter(|from| *from <= length).unwrap_or(length.saturating_sub(MUCH));
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(from)).and_then(|_| file.take(MUCH).read_to_end(&mut bytes));
    read.map_err(|error| Problem::from(anyhow::anyhow!("cannot read {name}: {error}")))?;
    // Whole characters only, while it may be being written.
    let whole = match std::str::from_utf8(&bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    let text = String::from_utf8_lossy(&bytes[..whole]);
    Ok(json!({ "from": from, "to": from + whole as u64, "length": length, "text": text }))
}
