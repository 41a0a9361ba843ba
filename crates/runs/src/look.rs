//! The runs that there are.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
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
    let names = unique_names(&runs);
    runs.iter_mut().zip(names).for_each(|(run, name)| run.name = name);
    Ok(runs)
}

/// What runs are called beside each other: of those that have the same name all but the oldest get a number. The runs come newest first.
pub fn unique_names<R: Borrow<Run>>(runs: &[R]) -> Vec<String> {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    // The number that the next of a name gets: thousands may have the same.
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut names: Vec<String> = Vec::with_capacity(runs.len());
    for run in runs.iter().rev().map(R::borrow) {
        let mut name = run.name.clone();
        while !taken.insert(name.clone()) {
            let number = numbers.entry(&run.name).or_insert(2);
            name = format!("{}-{number}", run.name);
            *number += 1;
        }
        names.push(name);
    }
    names.reverse();
    names
}
