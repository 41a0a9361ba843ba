//! The one merge rule.
//!
//! Key by key, what comes later wins; tables are merged, everything else is replaced whole, arrays too. Setting `type` and
//! other keys in a node (a table at `kind.name`) replaces the node whole: the options of one component mean nothing to another.
//! Setting `type` alone leaves the other keys; which of them the new component has is known where components are known.
//! Event edges are added; one with the name of an edge below is merged with it.

use super::build::article;
use super::edges;
use super::overrides::{Overrides, Retyped};
use super::{Entry, Layer, Node, Table, Value};
use crate::diagnostic::{Diagnostic, Diagnostics};

/// Sections whose tables are not nodes.
const PLAIN_SECTIONS: [&str; 6] = ["pipeline", "vars", "plugins", "on", "sweep", "submit"];

/// Puts `over` on top of `base`.
pub(super) fn merge(base: &mut Table, over: Table, overrides: &mut Overrides, found: &mut Diagnostics) {
    Merger { overrides, found }.tables(base, over, &mut Vec::new());
}

struct Merger<'a> {
    overrides: &'a mut Overrides,
    found: &'a mut Diagnostics,
}

impl Merger<'_> {
    fn tables(&mut self, base: &mut Table, over: Table, path: &mut Vec<String>) {
        for (key, entry) in over.into_entries() {
            path.push(key);
            match path[..] == ["on"] {
                true => self.edges(base, entry),
                false => self.entry(base, entry, path),
            }
            path.pop();
        }
    }

    fn entry(&mut self, base: &mut Table, entry: Entry, path: &mut Vec<String>) {
        let key = path.last().cloned().unwrap_or_default();
        let Some(existing) = base.entry_mut(&key) else {
            self.overrides.set(path);
            base.insert(key, entry);
            return;
        };
        match (&mut existing.node.value, entry.node.value) {
            (Value::Table(inner), Value::Table(over)) if !self.replaces_node(path, inner, &over) => {
                self.tables(inner, over, path);
            }
            (Value::Array(_), Value::Table(_)) => {
                let message = format!("`{}` is an array, which can only be replaced as a whole", path.join("."));
                let problem = Diagnostic::error("cannot-merge", message)
                    .at(entry.key)
                    .label(existing.key.clone(), "the array")
                    .help(format!("set the whole array: {key} = [ … ]"));
                self.found.push(problem);
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
                self.found.push(problem);
            }
            (old, value) => {
                self.overrides.set(path);
                *old = value;
                existing.key = entry.key;
                existing.node.location = entry.node.location;
                existing.node.origin = entry.node.origin;
            }
        }
    }

    /// Whether `over` takes the place of a node. What becomes of the keys that it had is noted.
    fn replaces_node(&mut self, path: &[String], node: &Table, over: &Table) -> bool {
        let (Some(2), Some(ty)) = (node_depth(path), over.get("type")) else { return false };
        let [kind, name] = path else { return false };
        let old = node.get("type");
        let alone = over.len() == 1;
        if alone && (old.is_none() || old.and_then(Node::as_str) == ty.as_str()) {
            return false;
        }
        let id = [kind.clone(), name.clone()];
        let keys = node.iter().filter(|(key, _)| *key != "type");
        let (mut inherited, mut dropped) = (Vec::new(), Vec::new());
        if alone {
            inherited = keys.map(|(key, _)| key.to_owned()).collect();
        } else {
            dropped = keys.map(|(key, entry)| (key.to_owned(), entry.key.clone())).collect();
        }
        let from = old.and_then(Node::as_str).unwrap_or_default().to_owned();
        let at = ty.location.clone();
        self.overrides.retyped.insert(id, Retyped { from, at, inherited, dropped });
        !alone
    }

    /// `[[on]]` adds edges, but merges one with the name of an edge that is there; `on.NAME` changes that edge.
    fn edges(&mut self, base: &mut Table, over: Entry) {
        if base.get("on").is_none() && !matches!(over.node.value, Value::Array(_) | Value::Table(_)) {
            base.insert("on", over);
            return;
        }
        let key = over.key.clone();
        if base.get("on").is_none() {
            let node = Node { value: Value::Array(Vec::new()), ..over.node.clone() };
            base.insert("on", Entry { key: over.key.clone(), node });
        }
        let Some(Value::Array(existing)) = base.entry_mut("on").map(|entry| &mut entry.node.value) else {
            // What is below is no list, which is reported when the edges are read.
            return;
        };
        match over.node.value {
            Value::Array(added) => {
                if added.is_empty() && over.node.origin.layer == Layer::Set {
                    let problem = Diagnostic::error("invalid-set", "an empty list adds no event edge").at(key);
                    let help = "`--set on=null` removes all event edges, `--set on.NAME=null` removes one";
                    self.found.push(problem.help(help));
                }
                edges::check_names(&added, self.found);
                let below = edges::index(existing);
                for edge in added {
                    match edges::namesake(&below, &edge) {
                        Some(index) => self.edge(&mut existing[index], edge),
                        None => existing.push(edge),
                    }
                }
            }
            Value::Table(changed) if changed.iter().any(|(_, entry)| entry.node.as_table().is_none()) => {
                let problem = Diagnostic::error("wrong-type", "`on` must be an array of tables, found a table").at(key);
                self.found.push(problem.help("write `[[on]]`"));
            }
            Value::Table(changed) => {
                for (name, entry) in changed.into_entries() {
                    match edges::position(existing, &name) {
                        Some(index) => self.edge(&mut existing[index], entry.node),
                        None => {
                            let message = format!("there is no event edge named `{name}`");
                            let problem = Diagnostic::error("unknown-edge", message).at(entry.key);
                            self.found.push(problem.help(edges::help(existing, &name)));
                        }
                    }
                }
            }
            other => {
                let message = format!("`on` cannot become {}", article(other.kind()));
                self.found.push(Diagnostic::error("cannot-merge", message).at(key).help("add edges with [[on]]"));
            }
        }
    }

    fn edge(&mut self, edge: &mut Node, over: Node) {
        let name = edge.as_table().and_then(|edge| edge.get("name")?.as_str()).unwrap_or_default().to_owned();
        match (&mut edge.value, over.value) {
            (Value::Table(edge), Value::Table(over)) => self.tables(edge, over, &mut vec!["on".to_owned(), name]),
            (edge, over) => *edge = over,
        }
    }
}

/// How many steps below the root of the pipeline; `None` for sections without nodes.
fn node_depth(path: &[String]) -> Option<usize> {
    let section = path.first()?;
    (!PLAIN_SECTIONS.contains(&section.as_str())).then_some(path.len())
}
