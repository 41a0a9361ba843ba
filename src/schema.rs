//! `pipe schema`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::output::{Status, print};
use pipe_plan::schema_file::pipeline_schema;
use pipe_run::plugins;

/// Arguments of `pipe schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Include the components of a plugin library. Can be repeated.
    #[arg(long = "plugin", value_name = "LIB")]
    plugins: Vec<PathBuf>,
}

/// Prints the JSON schema of pipeline files.
///
/// # Errors
/// When a plugin cannot be loaded, or standard output is closed.
pub fn schema(args: &SchemaArgs) -> Result<Status> {
    let catalog = plugins::with_libraries(&args.plugins)?;
    print(&(serde_json::to_string_pretty(&pipeline_schema(&catalog))? + "\n"))
}
