//! What has changed, as it does. The page hears which part of which run did, and asks for what it shows of it anew: so it holds no more
//! after a day than after a minute, and a run that went back is nothing special.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State as Shared};
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use pipe_history::standing::{self, Status};
use pipe_submit::{Receipt, receipt};
use serde::Deserialize;
use serde_json::json;

use crate::problem::{Answer, aside};
use crate::state::State;

/// How often is looked.
const EVERY: Duration = Duration::from_millis(500);

/// How often the table's runs are looked for: there may be thousands.
const TABLE: u32 = 4;

/// More runs are not watched by one page.
const MOST: usize = 100;

/// The parts of a run and the files that tell of them.
const PARTS: [(&str, &[&str]); 8] = [
    ("curves", &["scalars/open.log", "records.jsonl"]),
    ("machine", &["machine/scalars/open.log"]),
    ("media", &["media.jsonl"]),
    ("console", &["console.log"]),
    ("requests", &["requests"]),
    ("edits", &["pipelines/index.jsonl", "pipeline.toml"]),
    ("run", &["run.json", "about.json", "checkpoints"]),
    // With what the job says and how it stands.
    ("job", &[receipt::FILE]),
];

/// What a page watches.
#[derive(Deserialize)]
pub struct Wanted {
    /// Runs, with commas between them.
    #[serde(default)]
    runs: String,
    /// Also which runs there are, and what of them a table shows.
    #[serde(default)]
    table: bool,
}

struct Watch {
    state: Arc<State>,
    runs: Vec<(String, PathBuf, Vec<String>)>,
    /// Which table was seen; none where none is watched.
    table: Option<(u64, String)>,
    turn: u32,
}

/// Events `run` (`run`, `changed`: parts of it) and `table`.
pub async fn live(
    Shared(state): Shared<Arc<State>>,
    Query(wanted): Query<Wanted>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let watch = aside(move || {
        let snapshot = state.runs()?;
        let ids = wanted.runs.split(',').filter(|id| !id.is_empty()).take(MOST);
        let runs = ids.map(|id| {
            let folder = snapshot.find(id)?.folder.clone();
            let stamps = stamps(&state, &folder);
            Ok((id.to_owned(), folder, stamps))
        });
        let runs = runs.collect::<Answer<Vec<_>>>()?;
        let table = wanted.table.then(|| state.stand().map(|stand| (snapshot.revision, stand))).transpose()?;
        Ok(Watch { state, runs, table, turn: 0 })
    })
    .await?;
    let hello = Event::default().event("hello").data("{}");
    let events = stream::unfold((watch, vec![hello]), |(mut watch, mut waiting)| async move {
        while waiting.is_empty() {
            tokio::time::sleep(EVERY).await;
            (watch, waiting) = aside(move || Ok(watch.look())).await.ok()?;
        }
        let event = waiting.remove(0);
        Some((Ok(event), (watch, waiting)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

impl Watch {
    /// What has changed since the last look.
    fn look(mut self) -> (Watch, Vec<Event>) {
        let mut events = Vec::new();
        for (id, folder, seen) in &mut self.runs {
            let now = stamps(&self.state, folder);
            let pairs = PARTS.iter().zip(seen.iter().zip(&now));
            let changed: Vec<&str> = pairs.filter(|(_, (seen, now))| seen != now).map(|((name, _), _)| *name).collect();
            if !changed.is_empty() {
                events.push(Event::default().event("run").data(json!({ "run": id, "changed": changed }).to_string()));
                *seen = now;
            }
        }
        self.turn += 1;
        if let Some(seen) = &self.table
            && self.turn.is_multiple_of(TABLE)
            && let (Ok(snapshot), Ok(stand)) = (self.state.runs(), self.state.stand())
            && (snapshot.revision, &stand) != (seen.0, &seen.1)
        {
            self.table = Some((snapshot.revision, stand));
            events.push(Event::default().event("table").data(snapshot.revision.to_string()));
        }
        (self, events)
    }
}

/// What changes with each part of a run.
fn stamps(state: &State, folder: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let of = |name: &str| match std::fs::metadata(folder.join(name)) {
        Ok(meta) => format!("{}:{}.{:09} ", meta.len(), meta.mtime(), meta.mtime_nsec()),
        Err(_) => "- ".into(),
    };
    let mut stamps: Vec<String> = PARTS.iter().map(|(_, files)| files.iter().map(|name| of(name)).collect()).collect();
    let job = Receipt::read(folder).filter(|_| standing::status(folder) != Some(Status::Done));
    if let (Some(job), Some(last)) = (job, stamps.last_mut()) {
        last.extend(job.log().map(|log| of(&log)));
        last.extend(state.jobs.of(&[job]).remove(0));
    }
    stamps
}
