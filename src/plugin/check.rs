//! `pipe plugin check LIB`: what the author of a plugin wants to know before users do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use serde_json::Value;

use crate::output::{Status, print};
use crate::partial::Partial;
use pipe_core::NodeId;
use pipe_document::diagnostic::Sources;
use pipe_document::{Document, LoadOptions};
use pipe_plan::Plan;
use pipe_plugin::abi::{API, BUILD, INTERFACE, LIBTORCH};
use pipe_plugin::plugin::Plugin;
use pipe_run::plugins;
use pipe_vocab::{Catalog, Descriptor};

/// Arguments of `pipe plugin check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The library: `target/debug/lib….so` of the plugin's crate.
    library: PathBuf,
}

/// What was found, line by line.
struct Findings {
    text: String,
    wrong: usize,
}

impl Findings {
    fn say(&mut self, mark: &str, message: &str) {
        self.text.push_str(&format!("{mark:5} {message}\n"));
    }

    fn right(&mut self, message: &str) {
        self.say("ok", message);
    }

    fn wrong(&mut self, message: &str) {
        self.wrong += 1;
        self.say("WRONG", message);
    }
}

/// Loads the library and tries: the handshake, the description, and of each component the schema, the example and a build.
///
/// # Errors
/// When standard output is closed.
pub fn check(args: &CheckArgs) -> Result<Status> {
    let mut found = Findings { text: String::new(), wrong: 0 };
    match plugins::load(&args.library) {
        Err(error) => found.wrong(&format!("{error:#}")),
        Ok(loaded) => {
            let handshake = format!("API {API}, interface {INTERFACE}, libtorch {LIBTORCH}, {BUILD}");
            found.right(&format!("{} {}: the handshake agrees ({handshake})", loaded.info.name, loaded.info.version));
            // What a component writes beside its pipeline goes where nothing is kept.
            let folder = tempfile::tempdir().context("no folder to build the examples in")?;
            let mut catalog = plugins::catalog().clone();
            match loaded.add_to(&mut catalog) {
                Err(error) => found.wrong(&format!("{error:#}")),
                Ok(()) => {
                    let bench = Bench { plugin: loaded.plugin, catalog: Rc::new(catalog), folder: folder.path() };
                    loaded.components.iter().for_each(|d| bench.component(d, &mut found));
                }
            }
        }
    }
    print(&found.text)?;
    Ok(if found.wrong == 0 { Status::Done } else { Status::Failed })
}

/// What the components of a plugin are tried with.
struct Bench<'a> {
    plugin: Plugin,
    catalog: Rc<Catalog>,
    folder: &'a Path,
}

impl Bench<'_> {
    fn component(&self, descriptor: &'static Descriptor, found: &mut Findings) {
        let name = descriptor.full_name();
        let before = self.plugin.held();
        schema(descriptor, found);
        match self.example(descriptor) {
            Err(error) => found.wrong(&format!("{name}: the example: {error:#}")),
            Ok((plan, nodes)) => {
                found.right(&format!("{name}: the example is right"));
                for node in nodes {
                    match self.build(&plan, &node) {
                        Ok(()) => found.right(&format!("{name}: built from it as {node}")),
                        Err(error) => found.wrong(&format!("{name}: cannot be built from it: {error:#}")),
                    }
                }
            }
        }
        match (before, self.plugin.held()) {
            (Ok(before), Ok(after)) if before == after => {}
            (Ok(before), Ok(after)) => {
                found.wrong(&format!("{name}: {} objects of it are left after they were dropped", after.0 - before.0));
            }
            (Err(error), _) | (_, Err(error)) => found.wrong(&format!("{name}: {error:#}")),
        }
    }

    /// The example's plan, and the nodes in it of this component.
    fn example(&self, descriptor: &'static Descriptor) -> Result<(Plan, BTreeSet<NodeId>)> {
        let text = descriptor.example.to_owned();
        let read = move |_: &Path| Ok(text.clone());
        let options = LoadOptions { read: &read, ..LoadOptions::default() };
        let mut sources = Sources::new(self.folder);
        let (document, mut found) = Document::load(Path::new("example.toml"), &options, &mut sources);
        let mut plan = None;
        if let Some(document) = &document {
            let (checked, more) = Plan::of(document, &sources, &self.catalog);
            found.merge(more);
            plan = checked.filter(|_| !found.has_errors());
        }
        let plan = plan.with_context(|| format!("\n{}", found.render_text(&sources, false)))?;
        let own = plan.nodes.values().filter(|node| std::ptr::eq(node.descriptor, descriptor));
        let own: BTreeSet<NodeId> = own.map(|node| node.id.clone()).collect();
        let nested =
            plan.nodes.values().find(|node| node.config.to_string().contains(&format!("\"{}\"", descriptor.name)));
        let own = if own.is_empty() { nested.map(|node| node.id.clone()).into_iter().collect() } else { own };
        anyhow::ensure!(!own.is_empty(), "it does not use the component");
        Ok((plan, own))
    }

    fn build(&self, plan: &Plan, node: &NodeId) -> Result<()> {
        let partial = Partial::open(plan, self.catalog.clone(), Some("cpu"), Arc::default())?;
        partial.build(plan, node).map(drop)
    }
}

/// Everything that users read must be there, and ports must stand where they are found.
fn schema(descriptor: &Descriptor, found: &mut Findings) {
    let (name, schema) = (descriptor.full_name(), descriptor.schema());
    let mut missing = Vec::new();
    if descriptor.summary().is_empty() {
        missing.push("a summary (the first paragraph above the struct)".to_owned());
    }
    let options = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    for (option, schema) in options {
        if schema.get("description").is_none() {
            missing.push(format!("documentation of `{option}`"));
        }
        let deeper = schema.get("properties").or_else(|| schema.pointer("/items/properties"));
        if deeper.is_some_and(|inner| inner.to_string().contains("\"x-port\"")) {
            missing.push(format!("the ports inside `{option}`: they must stand in the struct itself"));
        }
    }
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        missing.push("the refusal of unknown keys (put `#[config]` above the struct)".to_owned());
    }
    match missing.as_slice() {
        [] => found.right(&format!("{name}: the schema and its documentation are whole")),
        missing => found.wrong(&format!("{name}: there is missing {}", missing.join("; "))),
    }
}
