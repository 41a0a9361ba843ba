//! Nodes that an override gave another `type`: which keys they keep, and what is said of those that are gone.

use serde_json::Value as Json;

use super::schema::types_within;
use crate::file::File;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, Sources};
use pipe_document::{Document, PathSegment, Table};
use pipe_vocab::{Descriptor, NodeId};

/// Of a node whose `type` alone was overridden: the keys that its component does not have, or has of another type. They are
/// dropped, with a warning.
pub(super) fn foreign(
    file: File<'_>,
    id: &NodeId,
    descriptor: &Descriptor,
    table: &Table,
    found: &mut Diagnostics,
) -> Vec<String> {
    let Some(retyped) = file.document.retyped(id.kind.as_str(), &id.name) else { return Vec::new() };
    let option = |of: &Descriptor, key: &str| of.schema().get("properties")?.get(key).cloned();
    let before = file.catalog.get(id.kind, &retyped.from);
    let kept = |key: &str| {
        let old = before.and_then(|before| option(before, key));
        option(descriptor, key).is_some_and(|new| old.is_none_or(|old| same_type(&old, &new)))
    };
    let dropped: Vec<String> = retyped.inherited.iter().filter(|key| !kept(key)).cloned().collect();
    if !dropped.is_empty() {
        let listed =
            dropped.iter().filter_map(|key| Some(format!("`{key}` ({})", place(&table.entry(key)?.key, file.sources))));
        let listed: Vec<String> = listed.collect();
        let message = format!(
            "`{id}` has type `{}` in place of `{}`, which drops {}",
            descriptor.name,
            retyped.from,
            listed.join(", ")
        );
        let keys: Vec<String> = dropped.iter().map(|key| format!("\"{id}.{key}\"")).collect();
        let help = format!("to say so without this warning: unset = [{}]", keys.join(", "));
        found.push(Diagnostic::warning("dropped-keys", message).at(retyped.at.clone()).help(help));
    }
    dropped
}

/// Whether two options take the same type of value.
fn same_type(old: &Json, new: &Json) -> bool {
    let marks = ["x-port", "x-component", "x-target", "x-metric", "x-expression"];
    types_within(old) == types_within(new) && marks.iter().all(|mark| old.get(mark) == new.get(mark))
}

/// What to do about a key that is missing in the table at `base`, where a layer below had it.
pub(super) fn help(document: &Document, sources: &Sources, base: &[PathSegment], key: &str) -> Option<String> {
    let [PathSegment::Key(kind), PathSegment::Key(name)] = base else { return None };
    let retyped = document.retyped(kind, name)?;
    let (_, at) = retyped.dropped.iter().find(|(dropped, _)| dropped == key)?;
    let (old, new) = (place(at, sources), place(&retyped.at, sources));
    Some(format!("`{key}` of {old} was dropped: `type` and other keys at {new} replace the node; repeat it there"))
}

fn place(at: &Location, sources: &Sources) -> String {
    match sources.name(at.source) {
        name if name.starts_with("--") => name.to_owned(),
        name => format!("{name}:{}", sources.position(at).line),
    }
}
