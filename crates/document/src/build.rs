//! The rules of tables, dotted keys and duplicates, as TOML has them.
//!
//! Whatever is set twice is reported with both places. Tables that are defined twice are put together all the same, so that
//! later phases see every key.

use std::collections::HashSet;

use super::limits::MAX_DEPTH;
use super::node::Form;
use super::{Entry, Layer, Node, Table, Value};
use crate::diagnostic::{Diagnostic, Location, SourceId};

/// One part of a dotted key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    /// The name, without quotes and escapes.
    pub name: String,
    /// Where it is written.
    pub location: Location,
}

/// A table under construction.
pub(super) struct Builder {
    source: SourceId,
    layer: Layer,
    root: Table,
    /// The table under the last header; `None` where that header was wrong, and what follows is dropped.
    current: Option<Vec<String>>,
    /// Where arrays written as `[[name]]` start: others cannot be added to.
    repeated: HashSet<usize>,
    /// How deep the root itself is nested.
    depth: usize,
    /// What was wrong.
    pub problems: Vec<Diagnostic>,
}

impl Builder {
    pub(super) fn new(source: SourceId, layer: Layer) -> Self {
        Self {
            source,
            layer,
            root: Table::default(),
            current: Some(Vec::new()),
            repeated: HashSet::new(),
            depth: 0,
            problems: Vec::new(),
        }
    }

    /// For a table that is itself nested `depth` levels deep.
    pub(super) fn inside(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    pub(super) fn finish(self) -> (Table, Vec<Diagnostic>) {
        (self.root, self.problems)
    }

    fn too_deep(&mut self, path: &[Key]) -> bool {
        let length = self.depth + self.current.as_ref().map_or(0, Vec::len) + path.len();
        let deep = length > MAX_DEPTH;
        if deep && let Some(last) = path.last() {
            let message = format!("nested deeper than {MAX_DEPTH} levels");
            self.problems.push(Diagnostic::error("syntax", message).at(last.location.clone()));
        }
        deep
    }

    /// `[path]`, or `[[path]]` if `repeated`.
    pub(super) fn open(&mut self, path: Option<&[Key]>, repeated: bool, header: Location) {
        self.current = Some(Vec::new());
        let target = path.filter(|path| !self.too_deep(path));
        self.current = None;
        let Some((last, way)) = target.and_then(|path| path.split_last()) else {
            return;
        };
        let mut table = Some(&mut self.root);
        for key in way {
            let Some(at) = table else { return };
            table = step(at, key, Form::Implicit, &self.layer, &self.repeated, &mut self.problems);
        }
        let Some(table) = table else { return };
        let entry = |value: Value, layer: &Layer| Entry {
            key: last.location.clone(),
            node: Node::new(value, header.clone(), layer.clone()),
        };
        let opened = match table.entry_mut(&last.name) {
            None => {
                let fresh = Value::Table(Table::default());
                let value = if repeated {
                    self.repeated.insert(header.span.start);
                    Value::Array(vec![entry(fresh, &self.layer).node])
                } else {
                    fresh
                };
                table.insert(last.name.clone(), entry(value, &self.layer));
                true
            }
            Some(existing) => {
                let start = existing.node.location.span.start;
                let growing = repeated && self.repeated.contains(&start);
                reopen(
                    existing,
                    entry(Value::Table(Table::default()), &self.layer),
                    repeated,
                    growing,
                    last,
                    &mut self.problems,
                )
            }
        };
        if opened {
            self.current = path.map(|path| path.iter().map(|key| key.name.clone()).collect());
        }
    }

    /// `path = value` in the current table.
    pub(super) fn set(&mut self, path: &[Key], value: Node) {
        if self.current.is_none() || self.too_deep(path) {
            return;
        }
        let Some((last, way)) = path.split_last() else {
            return;
        };
        let mut table = Some(&mut self.root);
        for name in self.current.iter().flatten() {
            table = table.and_then(|table| enter(table, name));
        }
        for key in way {
            let Some(at) = table else { return };
            table = step(at, key, Form::Dotted, &self.layer, &self.repeated, &mut self.problems);
        }
        let Some(table) = table else { return };
        match table.entry(&last.name) {
            None => {
                table.insert(last.name.clone(), Entry { key: last.location.clone(), node: value });
            }
            Some(existing) => {
                let problem = twice("key", &last.name, &last.location, &existing.key);
                self.problems.push(problem);
            }
        }
        debug_assert_eq!(self.source, last.location.source);
    }
}

/// A header for something that is already there; whether keys may follow.
fn reopen(
    existing: &mut Entry,
    fresh: Entry,
    repeated: bool,
    growing: bool,
    key: &Key,
    problems: &mut Vec<Diagnostic>,
) -> bool {
    match &mut existing.node.value {
        Value::Array(items) if growing => {
            items.push(fresh.node);
            true
        }
        Value::Table(table) if !repeated && table.form == Form::Implicit => {
            table.form = Form::Header;
            existing.key = fresh.key;
            existing.node.location = fresh.node.location;
            true
        }
        Value::Table(_) if !repeated => {
            problems.push(twice("table", &key.name, &key.location, &existing.key));
            true
        }
        other => {
            let name = &key.name;
            let message = match other {
                Value::Table(_) => {
                    format!("`{name}` is both one table and, by `[[{name}]]`, several")
                }
                Value::Array(_) if !repeated => format!("`{name}` is both an array and a table"),
                other => format!("`{name}` is both {} and a table", article(other.kind())),
            };
            let problem = Diagnostic::error("duplicate-key", message)
                .at(key.location.clone())
                .label(existing.key.clone(), "first set here")
                .help("rename one of the two");
            problems.push(problem);
            false
        }
    }
}

/// The table at `key`, made if it is not there yet.
fn step<'t>(
    table: &'t mut Table,
    key: &Key,
    form: Form,
    layer: &Layer,
    repeated: &HashSet<usize>,
    problems: &mut Vec<Diagnostic>,
) -> Option<&'t mut Table> {
    if table.entry(&key.name).is_none() {
        let value = Value::Table(Table::with_form(form));
        let node = Node::new(value, key.location.clone(), layer.clone());
        table.insert(key.name.clone(), Entry { key: key.location.clone(), node });
    }
    let Entry { key: first, node } = table.entry_mut(&key.name)?;
    let start = node.location.span.start;
    let kind = node.value.kind();
    match &mut node.value {
        Value::Table(inner) => {
            let closed = inner.form == Form::Inline || (form == Form::Dotted && inner.form == Form::Header);
            if closed {
                problems.push(twice("table", &key.name, &key.location, first));
            }
            Some(inner)
        }
        Value::Array(items) if form == Form::Implicit && repeated.contains(&start) => {
            match items.last_mut().map(|item| &mut item.value) {
                Some(Value::Table(inner)) => Some(inner),
                _ => None,
            }
        }
        _ => {
            let message = format!("`{}` is {}, so nothing can be set inside it", key.name, article(kind));
            let problem =
                Diagnostic::error("duplicate-key", message).at(key.location.clone()).label(first.clone(), "set here");
            problems.push(problem);
            None
        }
    }
}

/// The table at `name`, or the last of the tables at `[[name]]`.
fn enter<'t>(table: &'t mut Table, name: &str) -> Option<&'t mut Table> {
    match &mut table.entry_mut(name)?.node.value {
        Value::Table(inner) => Some(inner),
        Value::Array(items) => match &mut items.last_mut()?.value {
            Value::Table(inner) => Some(inner),
            _ => None,
        },
        _ => None,
    }
}

fn twice(what: &str, name: &str, second: &Location, first: &Location) -> Diagnostic {
    Diagnostic::error("duplicate-key", format!("the {what} `{name}` is defined twice"))
        .at(second.clone())
        .label(first.clone(), "first defined here")
        .help("keep one, or merge the two")
}

/// A kind of value with its article: `an array`.
pub(super) fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}
