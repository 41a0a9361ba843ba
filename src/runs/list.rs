//! `pipe runs list`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, ValueEnum};
use pipe_runs::choose::{choose, columns, common_metrics, sort};
use pipe_runs::filter::text_of;
use pipe_runs::{Key, Run, queue};
use pipe_submit::States;

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

/// Engines have so long to say how jobs stand.
pub const PATIENCE: Duration = Duration::from_secs(3);

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
    queue::tell(&mut runs, |jobs| States::default().within(PATIENCE, jobs));
    choose(&mut runs, args.filter.as_deref(), args.all)?;
    if let Some(by) = &args.sort {
        sort(&mut runs, by)?;
    }
    let keys = match &args.columns {
        Some(text) => columns(text, &runs)?,
        None => {
            // Where there are jobs that may go on, how they stand.
            let jobs: &[&str] = if runs.iter().any(|run| queue::open(run).is_some()) { &["job", "state"] } else { &[] };
            COLUMNS.iter().chain(jobs).map(|name| Key::of(name)).chain(common_metrics(&runs)).collect()
        }
    };
    print(&match args.format {
        Format::Text => text(&runs, &keys),
        Format::Json => serde_json::to_string_pretty(&runs)? + "\n",
        Format::Csv => csv(&runs, &keys),
    })
}

fn text(runs: &[Run], keys: &[Key]) -> String {
    if runs.is_empty() {
        return "no runs\n".into();
    }
    let heading = |key: &Key| match key.name.as_str() {
        "created" => "created (UTC)".into(),
        _ => super::table::clipped(&key.text),
    };
    let heading = keys.iter().map(heading).collect();
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
