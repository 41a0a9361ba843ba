//! The run that a word means.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pipe_history::standing::Status;

use crate::job::Job;
use crate::look::look;
use crate::run::Run;

/// The run that is meant: a folder, `latest`, a name or how one begins, or how the folder's name below the root begins.
///
/// # Errors
/// When there is none, or more than one.
pub fn one(word: &str, roots: &[PathBuf]) -> Result<Run> {
    let path = Path::new(word);
    if path.join("run.json").is_file() || Job::is_in(path) {
        let folder = path.canonicalize()?;
        // Among the others, so that it is called the same everywhere.
        let all = look(&existing(roots))?;
        let known = all.into_iter().find(|run| run.folder == folder);
        return known.or_else(|| Run::of(&folder)).ok_or_else(|| anyhow::anyhow!("{word} is no run that can be read"));
    }
    let mut runs = look(&existing(roots))?;
    if word == "latest" {
        // One that waits in a queue has nothing to show.
        let begun = runs.into_iter().find(|run| run.status != Status::Submitted);
        return begun.with_context(|| format!("there is no run in {}", shown(roots)));
    }
    let place = |run: &Run| -> Vec<String> {
        let below = roots.iter().filter_map(|root| root.canonicalize().ok());
        let place = below.filter_map(|root| Some(run.folder.strip_prefix(root).ok()?.display().to_string()));
        let last = run.folder.file_name().map(|name| name.to_string_lossy().into_owned());
        place.chain(last).collect()
    };
    let matches = |fits: &dyn Fn(&str) -> bool| -> Vec<usize> {
        let meant = |run: &Run| fits(&run.name) || place(run).iter().any(|place| fits(place));
        (0..runs.len()).filter(|at| meant(&runs[*at])).collect()
    };
    let exact = matches(&|name| name == word);
    let found = if exact.is_empty() { matches(&|name| name.starts_with(word)) } else { exact };
    match found[..] {
        [at] => Ok(runs.swap_remove(at)),
        [] if path.is_dir() => {
            bail!("{word} is a folder, but no run's own: `pipe runs list {word}` shows those below it")
        }
        [] => {
            let near = |run: &&Run| strsim::jaro_winkler(&run.name, word) > 0.85;
            let near: Vec<&str> = runs.iter().filter(near).take(3).map(|run| run.name.as_str()).collect();
            let hint = if near.is_empty() { "`pipe runs list` shows them".into() } else { near.join(", ") + "?" };
            bail!("there is no run `{word}` in {}: {hint}", shown(roots))
        }
        _ => {
            let some = found.iter().take(5).map(|at| format!("{} ({})", runs[*at].name, runs[*at].folder.display()));
            bail!("`{word}` may be any of {} runs: {}", found.len(), some.collect::<Vec<_>>().join(", "))
        }
    }
}

fn existing(roots: &[PathBuf]) -> Vec<PathBuf> {
    roots.iter().filter(|root| root.is_dir()).cloned().collect()
}

fn shown(roots: &[PathBuf]) -> String {
    roots.iter().map(|root| root.display().to_string()).collect::<Vec<_>>().join(", ")
}
