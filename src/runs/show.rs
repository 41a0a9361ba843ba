//! `pipe runs show`.

use std::fmt::Write;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use pipe_runs::compare::edits;
use pipe_runs::{At, Run};
use pipe_vocab::record;
use pipe_vocab::shown::shown_name;
use serde_json::Value;

use super::table::{clipped, duration, short, table, time};
use super::which::RunArg;
use crate::output::{Format, Status, print};
use crate::source::shown;

/// Arguments of `pipe runs show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    run: RunArg,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Shows a run.
///
/// # Errors
/// When there is no such run.
pub fn show(args: &ShowArgs) -> Result<Status> {
    let run = args.run.find()?;
    print(&match args.format {
        Format::Text => text(&run),
        Format::Json => serde_json::to_string_pretty(&run)? + "\n",
    })
}

/// The folder of the run that this one is a fork of.
fn origin(folder: &Value) -> String {
    folder.as_str().map_or_else(|| short(folder), |folder| shown(Path::new(folder)))
}

fn text(run: &Run) -> String {
    let mut rows = vec![
        vec!["run".to_owned(), clipped(&run.name)],
        vec!["pipeline".into(), clipped(&run.pipeline)],
        vec!["status".into(), run.status.to_string()],
        vec!["created".into(), time(run.created) + " UTC"],
    ];
    let mut row = |name: &str, value: Option<String>| rows.extend(value.map(|value| vec![name.to_owned(), value]));
    row("took", run.seconds.map(duration));
    row("steps", Some(format!("{}, in {} epochs", run.steps, run.epochs)));
    row("device", run.device.as_deref().map(clipped));
    row("seed", run.seed.map(|seed| seed.to_string()));
    row("tags", (!run.tags.is_empty()).then(|| clipped(&run.tags.join(" "))));
    row("group", run.group.as_deref().map(clipped));
    row("fork of", run.forked_from.as_ref().map(|fork| origin(&fork["run"]) + " at step " + &short(&fork["step"])));
    row("folder", Some(shown(&run.folder)));
    row("error", run.error.as_deref().map(|text| shown_name(text).into_owned()));
    row("problem", run.problem.as_deref().map(|text| shown_name(text).into_owned()));
    let mut text = table(&rows);
    if !run.note.is_empty() {
        let _ = write!(text, "\n{}\n", pipe_vocab::shown::shown(&run.note));
    }
    if !run.metrics.is_empty() {
        let heading = ["curve", "points", "last", "smallest", "at step", "largest", "at step", "not finite"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        for (tag, metric) in &run.metrics {
            let at = |at: Option<At>| match at {
                Some(at) => [record::short(at.value), at.step.to_string()],
                None => ["-".into(), "-".into()],
            };
            let ([min, min_step], [max, max_step]) = (at(metric.min), at(metric.max));
            let bad = if metric.non_finite > 0 { metric.non_finite.to_string() } else { String::new() };
            let last = record::short(metric.last.value);
            rows.push(vec![clipped(tag), metric.count.to_string(), last, min, min_step, max, max_step, bad]);
        }
        let _ = write!(text, "\n{}", table(&rows));
    }
    for edit in edits(&run.folder) {
        let _ = write!(text, "\nedit after step {}: {}", edit.step, clipped(&edit.changes.join("; ")));
    }
    text.trim_end().to_owned() + "\n"
}
