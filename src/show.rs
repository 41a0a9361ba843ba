//! `pipe show FILE`.

use std::fmt::Write;

use anyhow::Result;
use clap::Args;
use pipe_core::record::number;
use serde_json::json;

use crate::output::{Format, Status, print};
use crate::schedule::{Schedule, simulate};
use crate::source::{PipelineArgs, plan_or_tell};

/// Arguments of `pipe show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// What the schedulers will make of learning rates and other settings, instead of the pipeline.
    #[arg(long)]
    schedule: bool,
    /// Batches in an epoch of training, where the data are not at hand.
    #[arg(long, value_name = "N", requires = "schedule", value_parser = clap::value_parser!(u64).range(1..))]
    epoch_length: Option<u64>,
    /// Show every n-th iteration (default: about 20 as text, all as JSON).
    #[arg(long, value_name = "N", requires = "schedule", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    /// Output format.
    #[arg(long, value_enum, default_value_t, requires = "schedule")]
    format: Format,
}

/// Prints the resolved pipeline, each value with its origin, or what its schedulers will do. Diagnostics follow.
///
/// # Errors
/// When standard output is closed; when what the schedulers drive cannot be built.
pub fn show(args: &ShowArgs) -> Result<Status> {
    let mut loaded = args.pipeline.load();
    if let Some(document) = loaded.document.as_ref().filter(|_| !args.schedule) {
        print(&document.show(&loaded.sources))?;
    }
    if plan_or_tell(&loaded)?.is_none() {
        return Ok(Status::Wrong);
    }
    let Some(plan) = loaded.plan.as_mut().filter(|_| args.schedule) else { return Ok(Status::Done) };
    let schedule = simulate(plan, loaded.catalog.clone(), args.epoch_length)?;
    print(&match args.format {
        Format::Text => text(&schedule, args.every),
        Format::Json => serde_json::to_string(&as_json(&schedule, args.every.unwrap_or(1)))? + "\n",
    })
}

/// The rows that are shown: every n-th, and the last.
fn shown(rows: usize, every: u64) -> impl Iterator<Item = usize> {
    (0..rows).filter(move |row| (*row as u64).is_multiple_of(every) || row + 1 == rows)
}

fn as_json(schedule: &Schedule, every: u64) -> serde_json::Value {
    let rows: Vec<usize> = shown(schedule.rows.len(), every).collect();
    let values = schedule.series.iter().map(|series| {
        let values: Vec<_> = rows.iter().map(|row| series.values[*row].map(number)).collect();
        (series.name.clone(), json!(values))
    });
    let values: serde_json::Map<String, serde_json::Value> = values.collect();
    let (step, epoch): (Vec<u64>, Vec<u64>) = rows.iter().map(|row| schedule.rows[*row]).unzip();
    json!({ "step": step, "epoch": epoch, "values": values, "notes": schedule.notes })
}

fn text(schedule: &Schedule, every: Option<u64>) -> String {
    let Schedule { rows, series, notes } = schedule;
    let every = every.unwrap_or_else(|| (rows.len() as u64).div_ceil(20).max(1));
    let width = |name: &str| name.len().max(12);
    let mut text = format!("{:>9} {:>6}", "step", "epoch");
    text.extend(series.iter().map(|series| format!("  {:>1$}", series.name, width(&series.name))));
    for row in shown(rows.len(), every) {
        let (step, epoch) = rows[row];
        let _ = write!(text, "\n{step:>9} {epoch:>6}");
        for series in series {
            let value = series.values[row].map_or_else(|| "-".into(), short);
            let _ = write!(text, "  {value:>0$}", width(&series.name));
        }
    }
    text.push('\n');
    for series in series {
        let known: Vec<f64> = series.values.iter().copied().flatten().collect();
        let (low, high) = known.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
        if low < high {
            let _ =
                write!(text, "\n{}: {} to {}\n{}\n", series.name, short(low), short(high), chart(&known, low, high));
        }
    }
    text.extend(notes.iter().map(|note| format!("\nnote: {note}\n")));
    text
}

/// Six digits, which is more than a setting is chosen with.
fn short(value: f64) -> String {
    if value == 0.0 || (1e-4..1e6).contains(&value.abs()) {
        let digits = if value == 0.0 { 0 } else { (5 - value.abs().log10().floor() as i32).max(0) as usize };
        let text = format!("{value:.digits$}");
        return if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text };
    }
    let text = format!("{value:.5e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    format!("{}e{exponent}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// A line of blocks, each as high as the mean of its part of the run.
fn chart(values: &[f64], low: f64, high: f64) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = values.len().min(72);
    let part = |column: usize| &values[column * values.len() / columns..(column + 1) * values.len() / columns];
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let block = |value: f64| BLOCKS[(((value - low) / (high - low)) * 7.0).round().clamp(0.0, 7.0) as usize];
    (0..columns).map(|column| block(mean(part(column)))).collect()
}
