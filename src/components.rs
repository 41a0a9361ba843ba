//! `pipe components [KIND|KIND.TYPE]`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::output::{Status, print, say};
use crate::reference;
use pipe_core::Kind;
use pipe_document::diagnostic::suggest;
use pipe_run::plugins;

/// Arguments of `pipe components`.
#[derive(Debug, Args)]
pub struct ComponentsArgs {
    /// A kind (`dataset`) or a component (`dataset.coco`); default everything.
    name: Option<String>,
    /// Include the components of a plugin library. Can be repeated.
    #[arg(long = "plugin", value_name = "LIB")]
    plugins: Vec<PathBuf>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    format: ComponentsFormat,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ComponentsFormat {
    /// For people.
    #[default]
    Text,
    /// For tools.
    Json,
    /// For documentation.
    Markdown,
}

/// Lists the components, or explains some.
///
/// # Errors
/// When a plugin cannot be loaded, or standard output is closed.
pub fn components(args: &ComponentsArgs) -> Result<Status> {
    let catalog = plugins::with_libraries(&args.plugins)?;
    let chosen: Vec<_> = match &args.name {
        None => catalog.iter().collect(),
        Some(name) => match Kind::parse(name) {
            Some(kind) => catalog.of_kind(kind).collect(),
            None => catalog.iter().filter(|d| d.full_name() == *name || d.name == name).collect(),
        },
    };
    if chosen.is_empty() {
        let names: Vec<String> = catalog.iter().map(|d| d.full_name()).collect();
        let name = args.name.as_deref().unwrap_or_default();
        let near = suggest(name, names.iter().map(String::as_str));
        let help =
            near.map_or_else(|| "`pipe components` lists them all".into(), |near| format!("did you mean `{near}`?"));
        say!("error: there is no component `{name}`\nhelp: {help}");
        return Ok(Status::Wrong);
    }
    let one = args.name.as_deref().is_some_and(|name| Kind::parse(name).is_none());
    print(&match args.format {
        ComponentsFormat::Text if one => chosen.iter().map(|d| reference::page(d)).collect(),
        ComponentsFormat::Text => reference::list(&chosen),
        ComponentsFormat::Json => serde_json::to_string_pretty(&reference::json(&chosen))? + "\n",
        ComponentsFormat::Markdown => reference::markdown(&chosen),
    })
}
