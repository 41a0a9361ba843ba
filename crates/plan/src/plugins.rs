//! The `[plugins]` section: libraries with further components.
//!
//! They are loaded before the plan is made ([`pipe_run::plugins::load_from`]); here the section's form is checked.

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::lower::Lowering;
use crate::file::File;
use pipe_document::diagnostic::{Diagnostic, Diagnostics};
use pipe_vocab::{PathValue, schema_of};

/// Libraries with further components.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PluginsConfig {
    /// Libraries (`lib….so`) of plugins, loaded before the pipeline is checked; relative to the file that names them.
    #[serde(default)]
    pub paths: Vec<PathValue>,
}

/// The section's JSON schema.
pub fn schema() -> &'static Json {
    static SCHEMA: OnceLock<Json> = OnceLock::new();
    SCHEMA.get_or_init(schema_of::<PluginsConfig>)
}

/// Checks the section.
pub(super) fn check(file: File<'_>, found: &mut Diagnostics) {
    let Some(node) = file.document.root().get("plugins") else { return };
    let Some(table) = node.as_table() else {
        let message = format!("`plugins` must be a table, found {}", super::message::found(&node.value));
        let help = "write `[plugins]`, and `paths = [\"…\"]` in it";
        found.push(Diagnostic::error("wrong-type", message).at(node.location.clone()).help(help));
        return;
    };
    let mut lowering = Lowering::new(file.document, file.sources, file.catalog, schema(), vec!["plugins".into()]);
    lowering.table(table, &node.location, &[], "`[plugins]`");
    found.extend(lowering.diagnostics);
}
