//! `pipe runs compare`.

use anyhow::Result;
use clap::Args;
use pipe_runs::compare::{Comparison, Difference};
use pipe_runs::{Run, compare::compare as compared};
use pipe_vocab::record;
use pipe_vocab::shown::shown_name;

use super::table::{clipped, plain, table};
use super::which::one;
use crate::output::{Format, Status, print};

/// Arguments of `pipe runs compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The runs: folders, names or how they begin, `latest`.
    #[arg(num_args = 2.., required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Compares runs.
///
/// # Errors
/// When there is no such run.
pub fn compare(args: &CompareArgs) -> Result<Status> {
    let runs = args.runs.iter().map(|word| one(word)).collect::<Result<Vec<Run>>>()?;
    let found = compared(&runs);
    print(&match args.format {
        Format::Text => text(&found),
        Format::Json => serde_json::to_string_pretty(&found)? + "\n",
    })
}

fn text(found: &Comparison) -> String {
    let heading = |what: &str| -> Vec<String> {
        std::iter::once(what.to_owned()).chain(found.runs.iter().map(|name| clipped(name))).collect()
    };
    let mut text = String::new();
    let mut section = |rows: Vec<Vec<String>>| {
        if rows.len() > 1 {
            text.push_str(if text.is_empty() { "" } else { "\n" });
            text.push_str(&table(&rows));
        }
    };
    let mut options = vec![heading("option")];
    for option in &found.options {
        options.extend(rows_of(option));
    }
    if options.len() == 1 {
        options.push(vec!["the same in all".into()]);
    }
    section(options);
    let mut metrics = vec![heading("last value")];
    for curve in &found.metrics {
        let last =
            curve.values.iter().map(|metric| metric.as_ref().map_or("-".into(), |m| record::short(m.last.value)));
        metrics.push(std::iter::once(clipped(&curve.tag)).chain(last).collect());
    }
    section(metrics);
    let mut facts = vec![heading("data, versions, machine")];
    facts.extend(found.facts.iter().flat_map(rows_of));
    section(facts);
    for (name, edits) in found.runs.iter().zip(&found.edits) {
        for edit in edits {
            let changes = edit.changes.iter().map(|change| shown_name(change).into_owned());
            let changes = changes.collect::<Vec<_>>().join("; ");
            text.push_str(&format!("\n{}: edit after step {}: {changes}", clipped(name), edit.step));
        }
    }
    text.trim_end().to_owned() + "\n"
}

/// The values, and below them where they came from.
fn rows_of(difference: &Difference) -> Vec<Vec<String>> {
    let values = difference.values.iter().map(plain);
    let mut rows = vec![std::iter::once(clipped(&difference.key)).chain(values).collect()];
    if difference.origins.iter().any(Option::is_some) {
        let origin = |origin: &Option<String>| origin.as_deref().map(clipped).unwrap_or_default();
        rows.push(std::iter::once("  from".to_owned()).chain(difference.origins.iter().map(origin)).collect());
    }
    rows
}
