//! `pipe check FILE`.

use anyhow::Result;
use clap::Args;

use crate::output::{Format, Status, print};
use crate::rehearse;
use crate::source::{PipelineArgs, tell};

/// Arguments of `pipe check`.
#[derive(Debug, Args)]
#[command(after_help = "The file is described in docs/pipeline_file.md; `pipe new` writes one to begin with.")]
pub struct CheckArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Dry run: also build everything and run one batch of every engine, one evaluation and one checkpoint.
    #[arg(long)]
    rehearse: bool,
    /// Device of the dry run, instead of the pipeline's.
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Finds every mistake in a pipeline.
///
/// # Errors
/// What stops a dry run.
pub fn check(args: &CheckArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    tracing::debug!("read and checked in {:.2} ms", loaded.elapsed.as_secs_f64() * 1e3);
    tell(&loaded, args.format)?;
    let Some(plan) = &loaded.plan else { return Ok(Status::Wrong) };
    if args.rehearse {
        rehearse::rehearse(plan, loaded.catalog.clone(), args.device.as_deref())?;
    }
    if args.format == Format::Text {
        let milliseconds = loaded.elapsed.as_secs_f64() * 1e3;
        let rehearsed = if args.rehearse { "; dry run passed" } else { "" };
        let (nodes, events) = (counted(plan.nodes.len(), "node"), counted(plan.event_edges.len(), "event edge"));
        print(&format!(
            "{}: OK ({nodes}, {events}, checked in {milliseconds:.1} ms){rehearsed}\n",
            args.pipeline.file.display()
        ))?;
    }
    Ok(Status::Done)
}

/// A count with its noun: `1 event edge`, `14 nodes`.
fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
