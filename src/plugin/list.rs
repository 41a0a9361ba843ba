//! `pipe plugin list [FILE]`.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::output::{Format, Status, print};
use crate::source::{PipelineArgs, tell};
use pipe_run::plugins;

/// Arguments of `pipe plugin list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// A pipeline whose plugins are loaded and listed too.
    file: Option<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Lists plugins: name, version, where from, components.
///
/// # Errors
/// When standard output is closed.
pub fn list(args: &ListArgs) -> Result<Status> {
    let mut status = Status::Done;
    let mut catalog = plugins::catalog().clone();
    if let Some(file) = &args.file {
        let loaded =
            PipelineArgs { file: file.clone(), profile: None, sets: Vec::new(), accept: Vec::new(), base: None }.load();
        if loaded.diagnostics.has_errors() {
            tell(&loaded, Format::Text)?;
            status = Status::Wrong;
        }
        catalog = (*loaded.catalog).clone();
    }
    let all = plugins::all(&catalog);
    if args.format == Format::Json {
        print(&(serde_json::to_string_pretty(&all)? + "\n"))?;
        return Ok(status);
    }
    let mut text = String::new();
    for plugin in all {
        let library = plugin.library.map_or_else(|| "compiled in".into(), |path| path.display().to_string());
        let _ = writeln!(text, "{} {}  {library}", plugin.name, plugin.version);
        plugin.components.iter().for_each(|component| {
            let _ = writeln!(text, "  {component}");
        });
    }
    print(&text)?;
    Ok(status)
}
