//! `pipe show FILE`.

use anyhow::Result;
use clap::Args;

use crate::output::{Status, print};
use crate::source::{PipelineArgs, plan_or_tell};

/// Arguments of `pipe show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pipeline: PipelineArgs,
}

/// Prints the resolved pipeline, each value with its origin. Diagnostics follow.
///
/// # Errors
/// When standard output is closed.
pub fn show(args: &ShowArgs) -> Result<Status> {
    let loaded = args.pipeline.load();
    if let Some(document) = &loaded.document {
        print(&document.show(&loaded.sources))?;
    }
    let wrong = plan_or_tell(&loaded)?.is_none();
    Ok(if wrong { Status::Wrong } else { Status::Done })
}
