//! What the page asks for, as JSON: one file a view's data.
//!
//! Keys that are also those of `pipe runs … --format json` mean the same. A run is called by its `id`, which says nothing of its folder.

pub mod about;
pub mod compare;
pub mod files;
pub mod media;
pub mod run;
pub mod runs;
pub mod series;
pub mod steer;
pub mod study;

use std::sync::Arc;

use pipe_runs::Run;

use crate::problem::{Answer, Problem};
use crate::state::Snapshot;

/// No such address.
pub async fn unknown() -> Problem {
    Problem::absent("the server has no such address")
}

/// More runs are not looked at at once.
const MOST_RUNS: usize = 100;

/// The runs of a list with commas.
fn several(snapshot: &Snapshot, ids: &str) -> Answer<Vec<(String, Arc<Run>)>> {
    let ids: Vec<&str> = ids.split(',').filter(|id| !id.is_empty()).collect();
    if ids.is_empty() || ids.len() > MOST_RUNS {
        return Err(Problem::wrong(format!("between one and {MOST_RUNS} runs can be looked at at once")));
    }
    ids.into_iter().map(|id| Ok((id.to_owned(), snapshot.find(id)?))).collect()
}
