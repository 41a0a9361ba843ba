//! `pipe data FILE`: the datasets of a pipeline before anything is trained on them.
//!
//! - [`summary`]: what an index says: classes, objects, sizes, beside the anchors of the pipeline's detectors
//! - [`same`]: images that are there twice, by their content
//! - [`page`]: all that as a page, with batches drawn after every step of their transform
//! - here: the command, as text and as JSON

mod page;
mod same;
mod summary;

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use pipe_core::{Kind, NodeId};
use serde_json::{Map, Value, json};

use self::same::{Same, find};
use self::summary::Summary;
use crate::output::{Format, Status, print};
use crate::page::{check as check_page, write as write_page};
use crate::rehearse::open_data;
use crate::source::{PipelineArgs, plan_or_tell, tell_of};

/// Arguments of `pipe data`.
#[derive(Debug, Args)]
pub struct DataArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Also write an HTML page: the same with charts, and the first batch of each loader after every step of its transform.
    #[arg(long, value_name = "FILE.html")]
    page: Option<PathBuf>,
}

/// Classes that the text lists.
const LISTED: usize = 12;

/// Says what is in the datasets of a pipeline. Images are decoded only for a page.
///
/// # Errors
/// When files cannot be read, or standard output is closed.
pub fn data(args: &DataArgs) -> Result<Status> {
    args.page.as_deref().map(check_page).transpose()?;
    let loaded = args.pipeline.load();
    let Some(plan) = plan_or_tell(&loaded)? else { return Ok(Status::Wrong) };
    let (data, mut found, partial) = open_data(plan, loaded.catalog.clone())?;
    let broken = found.has_errors();
    if let Some(document) = &loaded.document {
        found.merge(plan.check_data(document, &data, &loaded.diagnostics));
    }
    tell_of(&found, &loaded, Format::Text)?;
    let detectors: Vec<_> = plan.nodes.values().filter(|node| node.id.kind == Kind::Model).collect();
    let detectors: Vec<_> =
        detectors.iter().filter_map(|node| Some((node.id.clone(), node.facts().anchors?))).collect();
    let summaries: Vec<(NodeId, Summary)> =
        data.datasets.iter().map(|(id, known)| (id.clone(), Summary::of(known, &detectors))).collect();
    let same = find(data.datasets.iter().map(|(id, known)| (id, &known.files[..])))?;
    if let Some(path) = &args.page {
        let title = format!("The data of {}", args.pipeline.stem());
        write_page(path, &page::page(&title, &summaries, &same, plan, &partial)?)?;
    }
    print(&match args.format {
        Format::Text => text(&summaries, &same),
        Format::Json => serde_json::to_string_pretty(&json_of(&summaries, &same))? + "\n",
    })?;
    Ok(if broken { Status::Wrong } else { Status::Done })
}

fn text(summaries: &[(NodeId, Summary)], same: &[Same]) -> String {
    let mut text = String::new();
    for (id, summary) in summaries {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{id}");
        for (name, value) in summary.lines(LISTED) {
            let _ = writeln!(text, "  {name:<22} {value}");
        }
    }
    for same in same {
        let _ = writeln!(text, "{same}");
    }
    text
}

fn json_of(summaries: &[(NodeId, Summary)], same: &[Same]) -> Value {
    let datasets: Map<String, Value> = summaries.iter().map(|(id, summary)| (id.to_string(), summary.json())).collect();
    json!({ "datasets": datasets, "same_content": same.iter().map(Same::json).collect::<Vec<_>>() })
}
