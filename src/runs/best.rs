//! `pipe runs best`.

use anyhow::{Result, bail};
use clap::Args;
use pipe_runs::choose::{choose, known};
use pipe_runs::key::Which;
use pipe_runs::{At, Key, Run};
use pipe_vocab::record;
use serde_json::json;

use super::table::{clipped, table};
use super::which::roots;
use crate::output::{Format, Status, print};
use crate::source::shown;

/// Arguments of `pipe runs best`.
#[derive(Debug, Args)]
pub struct BestArgs {
    /// A curve, by its tag, or a metric: `train/loss`, `metric.accuracy`.
    #[arg(long, value_name = "KEY")]
    by: String,
    /// The smallest is best, instead of the largest.
    #[arg(long)]
    min: bool,
    /// Which runs, as for `pipe runs list`.
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// The runs by their best value of a curve, the best ten.
///
/// # Errors
/// When no run has the curve.
pub fn best(args: &BestArgs) -> Result<Status> {
    let mut runs = pipe_runs::look(&roots())?;
    choose(&mut runs, args.filter.as_deref(), false)?;
    let key = Key { which: Some(if args.min { Which::Min } else { Which::Max }), ..Key::of(&args.by) };
    let value = |run: &Run| key.metric(run).and_then(|metric| if args.min { metric.min } else { metric.max });
    let mut found: Vec<(At, &Run)> = runs.iter().filter_map(|run| Some((value(run)?, run))).collect();
    if found.is_empty() {
        known(&key, &runs)?;
        bail!("no run has a finite value of `{}`", args.by);
    }
    found.sort_by(|(a, _), (b, _)| if args.min { a.value.total_cmp(&b.value) } else { b.value.total_cmp(&a.value) });
    found.truncate(10);
    let rows = found.iter().map(|(at, run)| {
        vec![clipped(&run.name), record::short(at.value), at.step.to_string(), at.epoch.to_string(), shown(&run.folder)]
    });
    let heading = ["run", &clipped(&args.by), "step", "epoch", "folder"].map(str::to_owned).to_vec();
    let each = found.iter().map(|(at, run)| {
        json!({ "name": run.name, "folder": run.folder, "value": record::number(at.value), "step": at.step, "epoch": at.epoch })
    });
    print(&match args.format {
        Format::Text => table(&std::iter::once(heading).chain(rows).collect::<Vec<_>>()),
        Format::Json => serde_json::to_string_pretty(&each.collect::<Vec<_>>())? + "\n",
    })
}
