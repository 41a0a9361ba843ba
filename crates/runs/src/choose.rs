//! Some of the runs in some order, as a table shows them.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use anyhow::{Result, anyhow, bail, ensure};

use crate::about::ARCHIVED;
use crate::filter::{Filter, Wrong, order};
use crate::key::{Key, unknown};
use crate::run::Run;

/// Leaves the runs that an expression means; without `all` none that is archived, unless it asks for these.
///
/// # Errors
/// An expression that is wrong.
pub fn choose<R: Borrow<Run>>(runs: &mut Vec<R>, expression: Option<&str>, all: bool) -> Result<()> {
    let filter = expression.map(|text| Ok::<_, anyhow::Error>((text, Filter::parse(text)?))).transpose()?;
    if let Some((text, filter)) = &filter {
        filter.check(text, runs)?;
    }
    let archived = all || filter.as_ref().is_some_and(|(_, filter)| filter.names_tag(ARCHIVED));
    runs.retain(|run| archived || !run.borrow().tags.iter().any(|tag| tag == ARCHIVED));
    runs.retain(|run| filter.as_ref().is_none_or(|(_, filter)| filter.takes(run.borrow())));
    Ok(())
}

/// Sorts runs by a column; with `-` before it the largest come first. Those that do not have it are last.
///
/// # Errors
/// When no run has it.
pub fn sort<R: Borrow<Run>>(runs: &mut [R], by: &str) -> Result<()> {
    let (key, down) = by.strip_prefix('-').map_or((by, false), |key| (key, true));
    let key = Key::of(key);
    if !runs.is_empty() {
        known(&key, runs)?;
    }
    runs.sort_by(|a, b| {
        let (a, b) = (key.value(a.borrow()), key.value(b.borrow()));
        match down && a.is_some() && b.is_some() {
            true => order(b.as_ref(), a.as_ref()),
            false => order(a.as_ref(), b.as_ref()),
        }
    });
    Ok(())
}

/// Checks that a run has the key.
///
/// # Errors
/// With what it may have been meant for.
pub fn known<R: Borrow<Run>>(key: &Key, runs: &[R]) -> Result<()> {
    key.known(runs).map_err(|near| anyhow!(unknown(key, &near)))
}

/// Reads columns with commas between them, each of which a run must have.
///
/// # Errors
/// With the place of one that none has, and what it may have been meant for.
pub fn columns<R: Borrow<Run>>(text: &str, runs: &[R]) -> Result<Vec<Key>> {
    let (mut keys, mut at) = (Vec::new(), 0);
    for part in text.split(',') {
        let key = Key::of(part);
        if !key.text.is_empty() {
            if let Err(near) = key.known(runs)
                && !runs.is_empty()
            {
                let start = at + part.len() - part.trim_start().len();
                bail!(Wrong::at(text, start..start + key.text.len(), unknown(&key, &near)));
            }
            keys.push(key);
        }
        at += part.len() + 1;
    }
    ensure!(!keys.is_empty(), "no columns are named: write keys with commas between them");
    Ok(keys)
}

/// Of the values that metrics measured the three that most runs have.
pub fn common_metrics<R: Borrow<Run>>(runs: &[R]) -> Vec<Key> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        let measured = run.borrow().metrics.iter().filter(|(_, metric)| metric.node.starts_with("metric."));
        measured.for_each(|(tag, _)| *counts.entry(tag).or_default() += 1);
    }
    let mut tags: Vec<(&str, usize)> = counts.into_iter().collect();
    tags.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    tags.into_iter().take(3).map(|(tag, _)| Key::of(tag)).collect()
}
