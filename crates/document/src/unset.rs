//! `unset = ["model.net.weights"]` in a file or profile and `--set model.net.weights=null`: what a layer takes away.

use super::build::article;
use super::overrides::{Overrides, Unset};
use super::{Entry, Layer, Node, Table, Value, edges, parse};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, suggest};

/// More keys than this in one list are a mistake.
const MAX_UNSET: usize = 1000;

/// The keys of `unset`.
pub(super) fn read(entry: Entry, layer: &Layer, found: &mut Diagnostics) -> Vec<Unset> {
    let wrong = |at: Location, message: String| {
        Diagnostic::error("invalid-unset", message)
            .at(at)
            .help("list the keys as strings: unset = [\"model.net.weights\", \"on.images\"]")
    };
    let Some(items) = entry.node.as_array() else {
        found.push(wrong(entry.key, format!("`unset` is {}, and must be a list", article(entry.node.value.kind()))));
        return Vec::new();
    };
    if items.len() > MAX_UNSET {
        found.push(wrong(entry.key, format!("`unset` lists more than {MAX_UNSET} keys")));
        return Vec::new();
    }
    let mut all = Vec::new();
    for item in items {
        let location = item.location.clone();
        match item.as_str().map(|text| (text, parse::key_names(text, location.source))) {
            Some((_, Some(path))) => all.push(Unset { path, location, layer: layer.clone() }),
            Some((text, None)) => found.push(wrong(location, format!("`{text}` is not a key"))),
            None => found.push(wrong(location, format!("a key cannot be {}", article(item.value.kind())))),
        }
    }
    all
}

/// Takes a key away. What is not there is reported.
pub(super) fn apply(root: &mut Table, unset: Unset, overrides: &mut Overrides, found: &mut Diagnostics) {
    let shown = unset.path.join(".");
    if let Some(reserved @ ("extends" | "profile" | "unset")) = unset.path.first().map(String::as_str) {
        let problem = Diagnostic::error("invalid-unset", format!("`{reserved}` cannot be unset"));
        found.push(problem.at(unset.location));
        return;
    }
    match remove(root, &unset.path) {
        Ok(()) => overrides.unset(unset),
        Err(help) => {
            let problem = Diagnostic::error("invalid-unset", format!("there is no `{shown}` to unset"));
            found.push(problem.at(unset.location).help(help));
        }
    }
}

/// Removes the value at a path, or says what to do where there is none.
fn remove(root: &mut Table, path: &[String]) -> Result<(), String> {
    match path {
        [on, name, rest @ ..] if on == "on" && edges::of(root).is_some() => {
            let Some(Value::Array(edges)) = root.entry_mut("on").map(|entry| &mut entry.node.value) else {
                return Err(String::new());
            };
            let Some(index) = edges::position(edges, name) else { return Err(edges::help(edges, name)) };
            match (rest, &mut edges[index].value) {
                ([], _) => drop(edges.remove(index)),
                (rest, Value::Table(edge)) => inside(edge, rest, &format!("on.{name}"))?,
                _ => {}
            }
            if edges.is_empty() {
                root.remove("on");
            }
            Ok(())
        }
        [section, ..] => {
            inside(root, path, "")?;
            if root.get(section).and_then(Node::as_table).is_some_and(Table::is_empty) {
                root.remove(section);
            }
            Ok(())
        }
        [] => Ok(()),
    }
}

fn inside(table: &mut Table, path: &[String], way: &str) -> Result<(), String> {
    let Some((key, rest)) = path.split_first() else { return Ok(()) };
    let full = if way.is_empty() { key.clone() } else { format!("{way}.{key}") };
    if table.get(key).is_none() {
        let near = suggest(key, table.keys()).map(|near| {
            let steps = [way, near].into_iter().chain(rest.iter().map(String::as_str)).filter(|step| !step.is_empty());
            format!("did you mean `{}`?", steps.collect::<Vec<_>>().join("."))
        });
        return Err(near.unwrap_or("nothing below this layer sets it; what is not set has its default".to_owned()));
    }
    let Some(entry) = table.entry_mut(key) else { return Ok(()) };
    match (&mut entry.node.value, rest) {
        (_, []) => {
            table.remove(key);
            Ok(())
        }
        (Value::Table(inner), rest) => inside(inner, rest, &full),
        (Value::Array(_), _) => Err(format!("`{full}` is an array, which can only be replaced or unset as a whole")),
        (other, _) => Err(format!("`{full}` is {}, and has no keys", article(other.kind()))),
    }
}
