//! Edits of a run on which several ranks work: the first tells them, all try them, and either all make them or none does.

use anyhow::{Result, bail};
use pipe_core::Ranks;

use super::requests;
use super::swap::Prepared;
use crate::graph::Graph;
use crate::load::Loaded;

/// Tells the other ranks of an edit, or that there is none after all.
pub fn tell(ranks: &Ranks, edit: Option<&Loaded>) {
    if ranks.is_alone() {
        return;
    }
    let text = edit.and_then(|loaded| loaded.document.as_ref()).map(|document| document.to_toml()).unwrap_or_default();
    if let Err(error) = ranks.told(|| Ok(text.into_bytes())) {
        gone(&error);
    }
}

/// The edit that the first rank tells, if there is one.
pub fn heard(graph: &Graph, accept: &[String]) -> Option<Loaded> {
    let heard = graph.run.ranks.told(|| Ok(Vec::new())).inspect_err(gone).ok()?;
    // This rank's folder is `ranks/N` in that of the run.
    let run = graph.run.folder.path().ancestors().nth(2)?;
    (!heard.is_empty()).then(|| requests::load(run, &String::from_utf8_lossy(&heard), accept))
}

/// Says to the others that this rank cannot make the edit.
pub fn cannot(ranks: &Ranks, why: Option<&str>) {
    if let Err(error) = ranks.hindered(Some(why.unwrap_or("the pipeline is wrong"))) {
        gone(&error);
    }
}

/// What was prepared, where all ranks could.
///
/// # Errors
/// Why this one could not, or another.
pub fn by_all(ranks: &Ranks, prepared: Result<Prepared>) -> Result<Prepared> {
    let own = prepared.as_ref().err().map(|error| format!("{error:#}"));
    match ranks.hindered(own.as_deref())? {
        Some((rank, why)) if own.is_none() => bail!("rank {rank} cannot make this edit: {why}"),
        _ => prepared,
    }
}

/// The next step fails and ends the run.
fn gone(error: &anyhow::Error) {
    tracing::error!("{error:#}");
}
