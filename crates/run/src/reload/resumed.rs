//! What was edited between the two lives of a run.

use std::path::Path;

use super::difference::{What, difference};
use crate::load::{Loaded, PipelineSource};
use crate::versions::Versions;

/// How a pipeline differs from the latest version that a run kept: one line per change; nothing where they are the same or the
/// run kept none. `base` is the folder that relative paths start from.
pub fn since(run: &Path, now: &Loaded, base: &Path) -> Vec<String> {
    let versions = Versions::of(run);
    let (Some((name, text)), Some(document), Some(plan)) = (versions.newest(), &now.document, &now.plan) else {
        return Vec::new();
    };
    if document.to_toml() == text {
        return Vec::new();
    }
    let file = versions.folder().join(&name);
    let source = PipelineSource {
        file,
        profile: None,
        sets: Vec::new(),
        base: Some(base.to_owned()),
        accept: Vec::new(),
        texts: None,
    };
    let Some(former) = source.load().plan else {
        return vec![format!("it differs from pipelines/{name}, which is no longer a valid pipeline")];
    };
    let secret = |what: &What| matches!(what, What::Option { to: Some(to), .. } if to == "<secret>");
    difference(&former, plan)
        .into_iter()
        .map(|change| change.masked(None, now.document.as_ref()))
        .filter(|change| !secret(&change.what))
        .map(|change| format!("{}  {}: {}", change.place(now), change.name(), change.describe()))
        .collect()
}
