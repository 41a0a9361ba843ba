//! `pipe runs list`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use pipe_runs::about::ARCHIVED;
use pipe_runs::filter::{Filter, order, text_of};
use pipe_runs::{Key, Run};

use super::table::{cell, table};
use super::which::roots;
use crate::output::{Status, print, say};

/// Arguments of `pipe runs list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Folders in which runs are looked for.
    roots: Vec<PathBuf>,
    /// Which runs: `metric.accuracy > 0.9 and optimizer.sgd.lr < 0.1 and tag:baseline and not status = failed`.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// A column to sort by; with `-` before it the largest come first.
    #[arg(long, value_name = "[-]KEY", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Columns, with commas between them: fields, options, tags of curves, `min(train/loss)`.
    #[arg(long, value_name = "KEYS")]
    columns: Option<String>,
    /// Also those with the tag `archived`.
    #[arg(long)]
    all: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// Everything that is known of the runs.
    Json,
    /// The columns.
    Csv,
}

/// Columns that are shown whatever there is.
const COLUMNS: [&str; 6] = ["name", "pipeline", "status", "created", "steps", "tags"];

/// Lists runs.
///
/// # Errors
/// A folder that is not there, an expression that is wrong.
pub fn list(args: &ListArgs) -> Result<Status> {
    let roots = if args.roots.is_empty() { roots() } else { args.roots.clone() };
    if args.roots.is_empty() && !roots[0].is_dir() {
        say!("there are no runs yet: {} is not there", roots[0].display());
        return print(if args.format == Format::Json { "[]\n" } else { "" });
    }
    let mut runs = pipe_runs::look(&roots)?;
    choose(&mut runs, args.filter.as_deref(), args.all)?;
    if let Some(sort) = &args.sort {
        sorted(&mut runs, sort)?;
    }
    let keys = match &args.columns {
        Some(columns) => Key::list(columns),
        None => COLUMNS.iter().map(|name| Key::of(name)).chain(common_metrics(&runs)).collect(),
    };
    for key in keys.iter().filter(|_| !runs.is_empty()) {
        known(key, &runs)?;
    }
    print(&match args.format {
        Format::Text => text(&runs, &keys),
        Format::Json => serde_json::to_string_pretty(&runs)? + "\n",
        Format::Csv => csv(&runs, &keys),
    })
}

/// Leaves the runs that an expression means; without `all` none that is archived, unless it asks for these.
///
/// # Errors
/// An expression that is wrong.
pub fn choose(runs: &mut Vec<Run>, expression: Option<&str>, all: bool) -> Result<()> {
    let filter = expression.map(|text| Ok::<_, anyhow::Error>((text, Filter::parse(text)?))).transpose()?;
    if let Some((text, filter)) = &filter {
        filter.check(text, runs)?;
    }
    let archived = all || filter.as_ref().is_some_and(|(_, filter)| filter.names_tag(ARCHIVED));
    runs.retain(|run| archived || !run.tags.iter().any(|tag| tag == ARCHIVED));
    runs.retain(|run| filter.as_ref().is_none_or(|(_, filter)| filter.takes(run)));
    Ok(())
}

fn sorted(runs: &mut [Run], sort: &str) -> Result<()> {
    let (key, down) = sort.strip_prefix('-').map_or((sort, false), |key| (key, true));
    let key = Key::of(key);
    if !runs.is_empty() {
        known(&key, runs)?;
    }
    runs.sort_by(|a, b| {
        let (a, b) = (key.value(a), key.value(b));
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
pub fn known(key: &Key, runs: &[Run]) -> Result<()> {
    match key.known(runs) {
        Ok(()) => Ok(()),
        Err(near) if near.is_empty() => bail!("no run has `{}`", key.name),
        Err(near) => bail!("no run has `{}`; there is `{}`", key.name, near.join("`, `")),
    }
}

/// Of the values that metrics measured the three that most runs have.
fn common_metrics(runs: &[Run]) -> Vec<Key> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        let measured = run.metrics.iter().filter(|(_, metric)| metric.node.starts_with("metric."));
        measured.for_each(|(tag, _)| *counts.entry(tag).or_default() += 1);
    }
    let mut tags: Vec<(&str, usize)> = counts.into_iter().collect();
    tags.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    tags.into_iter().take(3).map(|(tag, _)| Key::of(tag)).collect()
}

fn text(runs: &[Run], keys: &[Key]) -> String {
    if runs.is_empty() {
        return "no runs\n".into();
    }
    let heading = keys.iter().map(|key| super::table::clipped(&key.text)).collect();
    let rows = runs.iter().map(|run| keys.iter().map(|key| cell(run, key)).collect());
    table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>())
}

fn csv(runs: &[Run], keys: &[Key]) -> String {
    let quoted = |text: String| match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    };
    let line = |cells: Vec<String>| cells.into_iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
    let mut text = line(keys.iter().map(|key| key.text.clone()).collect());
    for run in runs {
        let value = |key: &Key| key.value(run).map(|value| text_of(&value)).unwrap_or_default();
        text.push_str(&line(keys.iter().map(value).collect()));
    }
    text
}
