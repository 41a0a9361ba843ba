//! `pipe graph FILE`.

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::output::{Status, print};
use crate::source::{PipelineArgs, plan_or_tell};

/// Arguments of `pipe graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: GraphFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum GraphFormat {
    /// For people.
    #[default]
    Text,
    /// For Graphviz.
    Dot,
    /// For Markdown pages.
    Mermaid,
    /// For tools.
    Json,
}

/// Prints the graph of a pipeline.
///
/// # Errors
/// When standard output is closed.
pub fn graph(args: &GraphArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    let Some(plan) = plan_or_tell(&loaded)? else { return Ok(Status::Wrong) };
    print(&match args.format {
        GraphFormat::Text => plan.render_text(),
        GraphFormat::Dot => plan.render_dot(),
        GraphFormat::Mermaid => plan.render_mermaid(),
        GraphFormat::Json => serde_json::to_string_pretty(&plan.render_json())? + "\n",
    })
}
