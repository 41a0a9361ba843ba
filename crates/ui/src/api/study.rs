//! The study that runs are trials of, and how much its parameters matter.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use axum::Json;
use axum::extract::{Query, State as Shared};
use pipe_runs::Run;
use pipe_sweep::{Replay, State as Stand, Study, importances};
use serde::Deserialize;
use serde_json::{Value, json};

use super::several;
use crate::inside;
use crate::problem::{Answer, aside};
use crate::state::State;

/// The name of a study's file, beside the folders of its trials.
const JOURNAL: &str = "journal.log";

/// A journal that is larger is not read.
const LARGEST: u64 = 64 << 20;

/// Which runs.
#[derive(Deserialize)]
pub struct Wanted {
    runs: String,
}

/// The study of some runs.
pub async fn study(Shared(state): Shared<Arc<State>>, Query(wanted): Query<Wanted>) -> Answer<Json<Value>> {
    aside(move || Ok(Json(told(&several(&*state.runs()?, &wanted.runs)?)))).await
}

/// The study that all of these runs are of: of its parameters their shares of what mattered, or why these are not known. `null` where the runs
/// are of no study, or of several.
pub fn told(runs: &[(String, Arc<Run>)]) -> Value {
    let Some(folder) = runs.first().and_then(|(_, run)| run.folder.parent()) else { return Value::Null };
    if runs.iter().any(|(_, run)| run.folder.parent() != Some(folder)) || inside::open(folder, JOURNAL).is_err() {
        return Value::Null;
    }
    let replay = match read(folder) {
        Ok(replay) => replay,
        Err(error) => return json!({ "name": null, "trials": 0, "importances": [], "why": format!("{error:#}") }),
    };
    let Some(study) = chosen(&replay, runs) else { return Value::Null };
    let trials = study.in_state(Stand::Complete).count();
    let (shares, why) = match importances(study) {
        Ok(shares) => (shares, None),
        Err(why) => (Vec::new(), Some(why.to_string())),
    };
    json!({ "name": study.name, "trials": trials, "importances": shares, "why": why })
}

fn read(folder: &Path) -> Result<Replay> {
    let file = inside::open(folder, JOURNAL).map_err(crate::problem::Problem::into_error)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| format!("cannot read {JOURNAL}"))?;
    ensure!(bytes.len() as u64 <= LARGEST, "{JOURNAL} is larger than {} MiB", LARGEST >> 20);
    Replay::of(&bytes, &JOURNAL)
}

/// The only study of a journal, or the one whose name is the runs' group, as `pipe sweep` has it.
fn chosen<'r>(replay: &'r Replay, runs: &[(String, Arc<Run>)]) -> Option<&'r Study> {
    let names = replay.names();
    let group = runs[0].1.group.as_deref();
    let of_all = runs.iter().all(|(_, run)| run.group.as_deref() == group);
    replay.study(if let [only] = names[..] { only } else { group.filter(|_| of_all)? })
}
