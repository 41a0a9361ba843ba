//! The `[checks]` section: rules that are let pass.

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::rule::Rule;
use super::rules::RULES;
use crate::file::File;
use crate::lower::Lowering;
use pipe_document::Layer;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_vocab::schema_of;

/// Rules that are let pass.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChecksConfig {
    /// Names of rules that this pipeline may break; `pipe check --rules` lists them.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub allow: Vec<String>,
}

/// A rule that is let pass.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// The rule.
    pub(crate) rule: &'static Rule,
    /// Where its name is written.
    pub(crate) location: Location,
    /// Whether it is meant for this pipeline alone: what a parent allows may be broken by another child.
    pub(crate) own: bool,
    /// Whether it was broken.
    pub(crate) fired: bool,
}

/// The section's JSON schema, the names of the rules among it.
pub fn schema() -> &'static Json {
    static SCHEMA: OnceLock<Json> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let mut schema = schema_of::<ChecksConfig>();
        if let Some(items) = schema.pointer_mut("/properties/allow/items") {
            let names = RULES.iter().map(|rule| rule.name);
            *items = serde_json::json!({ "type": "string", "enum": names.collect::<Vec<_>>() });
        }
        schema
    })
}

/// Reads the section.
pub(crate) fn read(file: File<'_>, found: &mut Diagnostics) -> Vec<Allowed> {
    let Some(node) = file.document.root().get("checks") else { return Vec::new() };
    let Some(table) = node.as_table() else {
        let message = format!("`checks` must be a table, found {}", crate::message::found(&node.value));
        let help = "write `[checks]`, and `allow = [\"…\"]` in it";
        found.push(Diagnostic::error("wrong-type", message).at(node.location.clone()).help(help));
        return Vec::new();
    };
    // Names of rules are checked here, since a rule is told apart better than a choice is.
    static PLAIN: OnceLock<Json> = OnceLock::new();
    let plain = PLAIN.get_or_init(schema_of::<ChecksConfig>);
    let mut lowering = Lowering::new(file.document, file.sources, file.catalog, plain, vec!["checks".into()]);
    lowering.table(table, &node.location, &[], "`[checks]`");
    found.extend(lowering.diagnostics);
    let names = table.get("allow").and_then(|list| list.as_array()).unwrap_or_default();
    let mut allowed: Vec<Allowed> = Vec::new();
    for (name, node) in names.iter().filter_map(|name| Some((name.as_str()?, name))) {
        let location = &node.location;
        let plain = file.document.profile().is_none();
        let own = node.origin.layer == Layer::Set || node.origin.layer == Layer::File && plain;
        match RULES.iter().find(|rule| rule.name == name) {
            Some(rule) if allowed.iter().any(|other| other.rule.name == rule.name) => {}
            Some(rule) => allowed.push(Allowed { rule, location: location.clone(), own, fired: false }),
            None => {
                let help = match suggest(name, RULES.iter().map(|rule| rule.name)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`pipe check --rules` lists the rules".to_owned(),
                };
                let message = format!("there is no rule `{name}`");
                found.push(Diagnostic::error("unknown-choice", message).at(location.clone()).help(help));
            }
        }
    }
    allowed
}
