//! The runs that there are.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Result;

use crate::folders::below_all;
use crate::index::Index;
use crate::run::Run;

/// The runs below these folders, the newest first.
///
/// # Errors
/// When a folder is not there.
pub fn look(roots: &[PathBuf]) -> Result<Vec<Run>> {
    let mut runs = Index::open().look(&below_all(roots)?);
    runs.sort_by(|a, b| b.created.total_cmp(&a.created).then_with(|| b.folder.cmp(&a.folder)));
    make_unique(&mut runs);
    Ok(runs)
}

/// Of runs that have the same name all but the oldest get a number. The runs come newest first.
fn make_unique(runs: &mut [Run]) {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for run in runs.iter_mut().rev() {
        let mut name = run.name.clone();
        let mut number = 2;
        while !taken.insert(name.clone()) {
            name = format!("{}-{number}", run.name);
            number += 1;
        }
        run.name = name;
    }
}
