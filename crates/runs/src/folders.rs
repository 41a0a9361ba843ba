//! The folders of runs below others.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};

use crate::job::Job;

/// Runs lie no deeper below a root.
const DEEPEST: usize = 6;

/// The folders of runs, begun or submitted, at or below the roots, in order. Nothing is looked for inside of one, nor in hidden folders.
///
/// # Errors
/// When a root is not there.
pub fn below_all(roots: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for root in roots {
        ensure!(root.is_dir(), "there is no folder {}", root.display());
        below(&root.canonicalize().unwrap_or_else(|_| root.clone()), 0, &mut found);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    if folder.join("run.json").is_file() || Job::is_in(folder) {
        found.push(folder.to_owned());
        return;
    }
    if depth == DEEPEST {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // Links are not followed: they may lead round in a circle.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !entry.file_name().to_string_lossy().starts_with('.') {
            below(&entry.path(), depth + 1, found);
        }
    }
}
