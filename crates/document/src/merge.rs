//! The one merge rule.
//!
//! Key by key, what comes later wins; tables are merged, everything else is replaced whole, arrays too. Setting `type` in a
//! node (a table at `kind.name`) replaces the node whole: the options of one component mean nothing to another.

use super::build::article;
use super::{Table, Value};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Sections whose tables are not nodes.
const PLAIN_SECTIONS: [&str; 3] = ["pipeline", "vars", "plugins"];

/// Puts `over` on top of `base`.
pub(super) fn merge(base: &mut Table, over: Table, found: &mut Diagnostics) {
    merge_at(base, over, &mut Vec::new(), found);
}

fn merge_at(base: &mut Table, over: Table, path: &mut Vec<String>, found: &mut Diagnostics) {
    for (key, entry) in over.into_entries() {
        path.push(key);
        merge_entry(base, entry, path, found);
        path.pop();
    }
}

fn merge_entry(base: &mut Table, entry: super::Entry, path: &mut Vec<String>, found: &mut Diagnostics) {
    let key = path.last().cloned().unwrap_or_default();
    let Some(existing) = base.entry_mut(&key) else {
        base.insert(key, entry);
        return;
    };
    match (&mut existing.node.value, entry.node.value) {
        (Value::Table(inner), Value::Table(over)) if !replaces_node(path, &over) => {
            merge_at(inner, over, path, found);
        }
        (Value::Array(_), Value::Table(_)) => {
            let message = format!("`{}` is an array, which can only be replaced as a whole", path.join("."));
            let problem = Diagnostic::error("cannot-merge", message)
                .at(entry.key)
                .label(existing.key.clone(), "the array")
                .help(format!("set the whole array: {key} = [ … ]"));
            found.push(problem);
        }
        (Value::Table(_), value @ (Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_)))
            if node_depth(path).is_some_and(|depth| depth <= 2) =>
        {
            let kind = article(value.kind());
            let message = format!("`{}` is a table, and cannot become {kind}", path.join("."));
            let problem = Diagnostic::error("cannot-merge", message)
                .at(entry.key)
                .label(existing.key.clone(), "the table")
                .help("set a key inside it");
            found.push(problem);
        }
        (old, value) => {
            *old = value;
            existing.key = entry.key;
            existing.node.location = entry.node.location;
            existing.node.origin = entry.node.origin;
        }
    }
}

fn replaces_node(path: &[String], over: &Table) -> bool {
    node_depth(path) == Some(2) && over.get("type").is_some()
}

/// How many steps below the root of the pipeline, also inside a profile; `None` for sections without nodes.
fn node_depth(path: &[String]) -> Option<usize> {
    let path = match path {
        [first, _, rest @ ..] if first == "profile" => rest,
        other => other,
    };
    let section = path.first()?;
    (!PLAIN_SECTIONS.contains(&section.as_str()) && section != "profile").then_some(path.len())
}
