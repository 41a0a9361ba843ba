//! `pipe check FILE`.

use anyhow::Result;
use clap::Args;

use pipe_plan::checks::rules::RULES;
use serde_json::json;

use crate::output::{Format, Status, print};
use crate::preflight;
use crate::rehearse::{Rehearsal, open_data};
use crate::source::{PipelineArgs, tell};
use crate::sweep::values;

/// Arguments of `pipe check`.
#[derive(Debug, Args)]
#[command(after_help = "The file is described in docs/pipeline_file.md; `pipe new` writes one to begin with.")]
pub struct CheckArgs {
    #[command(flatten)]
    pipeline: Option<PipelineArgs>,
    /// Also open the indexes of the datasets, and apply the rules that need them. No image is decoded.
    #[arg(long)]
    data: bool,
    /// Dry run: also build everything and run one batch of every engine, one evaluation and one checkpoint.
    #[arg(long)]
    rehearse: bool,
    /// Device of the dry run, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// List the rules, which `allow` in `[checks]` lets pass. Needs no pipeline.
    #[arg(long, conflicts_with_all = ["data", "rehearse", "file"])]
    rules: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Finds every mistake in a pipeline.
///
/// # Errors
/// What stops a dry run.
pub fn check(args: &CheckArgs) -> Result<Status> {
    let Some(mut pipeline) = args.pipeline.clone() else { return list_rules(args.format) };
    let mut loaded = pipeline.load();
    tracing::debug!("read and checked in {:.2} ms", loaded.elapsed.as_secs_f64() * 1e3);
    if args.rehearse {
        preflight::choose_batch_sizes(&mut pipeline, &mut loaded, args.device.as_deref(), None)?;
    }
    let rehearsal = match &loaded.plan {
        Some(plan) if args.rehearse => Rehearsal::start(plan, loaded.catalog.clone(), args.device.as_deref()).map(Some),
        _ => Ok(None),
    };
    let data = match (&loaded.plan, &rehearsal) {
        (Some(_), Ok(Some(rehearsal))) => Some(rehearsal.data()),
        (Some(plan), _) if args.data || args.rehearse => {
            let (data, found, _) = open_data(plan, loaded.catalog.clone())?;
            loaded.diagnostics.merge(found);
            Some(data)
        }
        _ => None,
    };
    if let (Some(plan), Some(document), Some(data)) = (&loaded.plan, &loaded.document, &data) {
        let found = plan.check_data(document, data, &loaded.diagnostics);
        loaded.diagnostics.merge(found);
    }
    if let Some(config) = loaded.plan.as_ref().and_then(|plan| plan.sweep.clone()) {
        let found = values::check(&pipeline, &loaded, &config);
        loaded.diagnostics.merge(found);
    }
    tell(&loaded, args.format)?;
    let Some(plan) = loaded.plan.as_ref().filter(|_| !loaded.diagnostics.has_errors()) else {
        return Ok(Status::Wrong);
    };
    if let Some(rehearsal) = rehearsal? {
        rehearsal.drive()?;
    }
    if args.format == Format::Text {
        let milliseconds = loaded.elapsed.as_secs_f64() * 1e3;
        let rehearsed = if args.rehearse { "; dry run passed" } else { "" };
        let (nodes, events) = (counted(plan.nodes.len(), "node"), counted(plan.event_edges.len(), "event edge"));
        let datasets = data.iter().filter(|_| args.data).flat_map(|data| &data.datasets);
        let reports: String = datasets
            .filter_map(|(id, dataset)| Some(format!("{id}: {}\n", dataset.report.as_ref()?.replace('\n', "\n  "))))
            .collect();
        print(&format!(
            "{reports}{}: OK ({nodes}, {events}, checked in {milliseconds:.1} ms){rehearsed}\n",
            pipeline.file.display()
        ))?;
    }
    Ok(Status::Done)
}

/// Prints the table of rules.
fn list_rules(format: Format) -> Result<Status> {
    let width = RULES.iter().map(|rule| rule.name.len()).max().unwrap_or(0);
    print(&match format {
        Format::Text => RULES.iter().map(|rule| format!("{:width$}  {}\n", rule.name, rule.about)).collect(),
        Format::Json => {
            let rules: Vec<_> = RULES
                .iter()
                .map(|rule| {
                    json!({
                        "name": rule.name,
                        "severity": rule.severity.as_str(),
                        "needs": rule.phase.as_str(),
                        "about": rule.about,
                        "why": rule.why,
                    })
                })
                .collect();
            serde_json::to_string_pretty(&rules)? + "\n"
        }
    })
}

/// A count with its noun: `1 event edge`, `14 nodes`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
