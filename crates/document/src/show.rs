//! The resolved pipeline as TOML, with origins or without.

use std::collections::BTreeMap;

use super::origin::place;
use super::{Document, Ingredient, Node, PathSegment, Table, Value};
use crate::diagnostic::{Location, Sources};

/// What stands for a secret.
const MASK: &str = "\"<secret>\"";

/// Arrays longer than this many characters get a line an element.
const LINE_WIDTH: usize = 100;

/// Comments start at the same column, if that is not beyond this one.
const COMMENT_COLUMN: usize = 56;

impl Document {
    /// Masks the value at the end of the steps, and everything in it, in [`Document::show`] and [`Document::to_toml`].
    ///
    /// For values that a component's schema calls secret. Values under a telling name are masked without being asked: a
    /// text in `[vars]` with such a name (of keys only those to an API) and what is made of it; a value made of `${env:NAME}`, directly or through a
    /// variable, where `NAME`, the key of the value or the key of that variable is such a name. One is telling that has
    /// among its words (parted by `_`, `-` or a change of case) one of `token`, `secret`, `password`, `passwd`,
    /// `passphrase`, `key`, `apikey`, `credential`, `credentials`, `auth`.
    /// The variables that the value is made of are masked with it.
    pub fn redact(&mut self, pointer: &[PathSegment]) {
        self.redacted.insert(pointer.to_vec());
        let mut made_of: Vec<&Ingredient> =
            self.get_at(pointer).map(|node| &node.origin.ingredients).into_iter().flatten().collect();
        let mut variables = Vec::new();
        while let Some(ingredient) = made_of.pop() {
            let Ingredient::Variable { name, .. } = ingredient else { continue };
            let pointer = vec![PathSegment::from("vars"), PathSegment::from(name.as_str())];
            if !variables.contains(&pointer) {
                variables.push(pointer);
                made_of.extend(self.vars().get(name).map(|node| &node.origin.ingredients).into_iter().flatten());
            }
        }
        self.redacted.extend(variables);
    }

    /// Whether a value is masked or holds one that is.
    pub fn holds_secret(&self, pointer: &[PathSegment]) -> bool {
        let inside = |node: &Node| leaves(node).iter().any(|leaf| leaf.origin.secret);
        self.is_secret(pointer)
            || self.redacted.iter().any(|masked| masked.starts_with(pointer))
            || self.find(pointer).is_some_and(inside)
    }

    /// Whether a value is masked, by [`Document::redact`] or by its origin.
    pub fn is_secret(&self, pointer: &[PathSegment]) -> bool {
        let masked = (1..=pointer.len()).any(|length| self.redacted.contains(&pointer[..length]));
        masked || self.find(pointer).is_some_and(|node| node.origin.secret)
    }

    /// Where each masked value stands, and its text.
    pub fn secrets(&self) -> Vec<(Location, String)> {
        let sections = self.root.iter().chain(self.vars.iter()).chain(self.apart.iter()).map(|(_, entry)| &entry.node);
        let by_origin = sections.flat_map(leaves).filter(|leaf| leaf.origin.secret);
        let redacted = self.redacted.iter().filter_map(|pointer| self.find(pointer)).flat_map(leaves);
        by_origin.chain(redacted).map(|leaf| (leaf.location.clone(), text_of(&leaf.value))).collect()
    }

    /// Where a mask stands in place of a value: the document was read from what [`Document::to_toml`] wrote.
    pub fn masks(&self) -> Vec<Location> {
        let leaves = self.root.iter().flat_map(|(_, entry)| leaves(&entry.node));
        let masks = leaves.filter(|leaf| matches!(&leaf.value, Value::String(text) if text == MASK.trim_matches('"')));
        masks.map(|leaf| leaf.location.clone()).collect()
    }

    /// As [`Document::get_at`], also for variables, under `vars`.
    pub(super) fn find(&self, pointer: &[PathSegment]) -> Option<&Node> {
        match pointer.split_first() {
            Some((PathSegment::Key(vars), rest)) if vars == "vars" => self.vars.get_at(rest),
            Some((PathSegment::Key(key), _)) if self.apart.entry(key).is_some() => self.apart.get_at(pointer),
            _ => self.get_at(pointer),
        }
    }

    /// The resolved pipeline as TOML, each value with its origin in a comment; `[vars]` first.
    pub fn show(&self, sources: &Sources) -> String {
        let mut writer = Writer::new(self, Some(sources));
        let name = sources.name(self.main());
        writer.text = match self.profile() {
            Some(profile) => format!("# {name}, profile {profile}\n"),
            None => format!("# {name}\n"),
        };
        for unset in &self.overrides.unset {
            let key: Vec<String> = unset.path.iter().map(|key| key_text(key)).collect();
            let place = place(&unset.location, &unset.layer, sources).replace(char::is_control, " ");
            writer.text.push_str(&format!("# unset: {}, {place}\n", key.join(".")));
        }
        if !self.vars().is_empty() {
            writer.block("[vars]", &["vars".into()], self.vars());
        }
        writer.root(self.root());
        for (key, entry) in self.apart.iter() {
            match entry.node.as_table() {
                // Its tables are no nodes.
                Some(table) if key == "sweep" => writer.block("[sweep]", &["sweep".into()], table),
                Some(table) => writer.section(&[key.into()], key, table),
                None => {}
            }
        }
        writer.text
    }

    /// Where each value came from, as in the comments of [`Document::show`], by key: `optimizer.sgd.lr`, `on[0].event`. Arrays of anything but
    /// tables are one value.
    pub fn origins(&self, sources: &Sources) -> BTreeMap<String, String> {
        let mut origins = BTreeMap::new();
        for (key, entry) in self.root().iter() {
            collect_origins(key_text(key), &entry.node, sources, &mut origins);
        }
        origins
    }

    /// Whether its relative paths start elsewhere than from its file.
    pub fn is_moved(&self) -> bool {
        self.base.is_some()
    }

    /// The resolved pipeline as TOML without comments, for a run's folder. But for masked secrets it parses to the same
    /// values again; `extends`, `vars` and `profile` have been applied and are gone, and so are `sweep` and `submit`.
    ///
    /// Relative paths stay as they were written: to load the text from another folder, say so in
    /// [`super::LoadOptions::base`].
    pub fn to_toml(&self) -> String {
        let mut writer = Writer::new(self, None);
        writer.root(self.root());
        writer.text
    }
}

struct Writer<'a> {
    document: &'a Document,
    sources: Option<&'a Sources>,
    text: String,
}

impl<'a> Writer<'a> {
    fn new(document: &'a Document, sources: Option<&'a Sources>) -> Self {
        Self { document, sources, text: String::new() }
    }

    /// Values first, then tables, then arrays of tables: after a header, TOML cannot go back to the root.
    fn root(&mut self, root: &Table) {
        let (blocks, values): (Vec<_>, Vec<_>) =
            root.iter().partition(|(_, entry)| entry.node.as_table().is_some() || is_repeated(&entry.node));
        let mut lines = Vec::new();
        for (key, entry) in values {
            self.lines(&mut vec![key.into()], key_text(key), &entry.node, &mut lines);
        }
        self.write(lines);
        for (key, entry) in blocks {
            let pointer = vec![PathSegment::from(key)];
            match &entry.node.value {
                Value::Table(table) => self.section(&pointer, key, table),
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let mut pointer = pointer.clone();
                        pointer.push(index.into());
                        if let Some(table) = item.as_table() {
                            self.block(&format!("[[{}]]", key_text(key)), &pointer, table);
                        }
                    }
                }
                _ => {}
            }
        }
    }

    /// `[kind]` with its values, then `[kind.name]` for each of its tables.
    fn section(&mut self, pointer: &[PathSegment], key: &str, table: &Table) {
        let header = key_text(key);
        let has_values = table.iter().any(|(_, entry)| entry.node.as_table().is_none());
        if has_values || table.is_empty() || self.masked(pointer) {
            self.values(&format!("[{header}]"), pointer, table, |node| node.as_table().is_none());
        }
        if self.masked(pointer) {
            return;
        }
        for (name, entry) in table.iter() {
            if let Some(inner) = entry.node.as_table() {
                let mut pointer = pointer.to_vec();
                pointer.push(name.into());
                self.block(&format!("[{header}.{}]", key_text(name)), &pointer, inner);
            }
        }
    }

    fn block(&mut self, header: &str, pointer: &[PathSegment], table: &Table) {
        self.values(header, pointer, table, |_| true);
    }

    fn values(&mut self, header: &str, pointer: &[PathSegment], table: &Table, wanted: impl Fn(&Node) -> bool) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(header);
        self.text.push('\n');
        let mut lines = Vec::new();
        for (key, entry) in table.iter().filter(|(_, entry)| wanted(&entry.node)) {
            let mut pointer = pointer.to_vec();
            pointer.push(key.into());
            self.lines(&mut pointer, key_text(key), &entry.node, &mut lines);
        }
        self.write(lines);
    }

    fn masked(&self, pointer: &[PathSegment]) -> bool {
        self.document.is_secret(pointer)
    }

    /// The lines of one value: tables become dotted keys, so that each value keeps its own comment.
    fn lines(&self, pointer: &mut Vec<PathSegment>, key: String, node: &Node, lines: &mut Vec<(String, String)>) {
        if let Some(table) = node.as_table()
            && !table.is_empty()
            && !self.masked(pointer)
        {
            for (name, entry) in table.iter() {
                pointer.push(name.into());
                self.lines(pointer, format!("{key}.{}", key_text(name)), &entry.node, lines);
                pointer.pop();
            }
            return;
        }
        let comment = self.sources.map(|sources| origin(node, sources)).unwrap_or_default();
        let text = self.value(pointer, node);
        match node.as_array() {
            Some(items) if key.len() + text.len() > LINE_WIDTH && !items.is_empty() && !self.masked(pointer) => {
                lines.push((format!("{key} = ["), comment));
                for (index, item) in items.iter().enumerate() {
                    pointer.push(index.into());
                    lines.push((format!("  {},", self.value(pointer, item)), String::new()));
                    pointer.pop();
                }
                lines.push(("]".to_owned(), String::new()));
            }
            _ => lines.push((format!("{key} = {text}"), comment)),
        }
    }

    fn write(&mut self, lines: Vec<(String, String)>) {
        let width = |(text, _): &(String, String)| text.chars().count();
        let fits = |width: &usize| *width < COMMENT_COLUMN;
        let column = lines.iter().map(width).filter(fits).max().unwrap_or(0);
        for (text, comment) in lines {
            self.text.push_str(&text);
            if !comment.is_empty() {
                let gap = column.saturating_sub(text.chars().count()) + 2;
                self.text.extend(std::iter::repeat_n(' ', gap));
                self.text.push_str("# ");
                self.text.push_str(&comment);
            }
            self.text.push('\n');
        }
    }

    /// A value on one line.
    fn value(&self, pointer: &mut Vec<PathSegment>, node: &Node) -> String {
        if node.origin.secret || self.masked(pointer) {
            return MASK.to_owned();
        }
        match &node.value {
            // What looks like a variable now is text, and stays text when it is read again.
            Value::String(text) => quote(&text.replace("${", "$${")),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) if number.is_nan() => "nan".to_owned(),
            Value::Float(number) => format!("{number:?}"),
            Value::Boolean(flag) => flag.to_string(),
            Value::Datetime(text) => text.clone(),
            Value::Array(items) => {
                let mut parts = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    pointer.push(index.into());
                    parts.push(self.value(pointer, item));
                    pointer.pop();
                }
                format!("[{}]", parts.join(", "))
            }
            Value::Table(table) if table.is_empty() => "{}".to_owned(),
            Value::Table(table) => {
                let mut parts = Vec::with_capacity(table.len());
                for (key, entry) in table.iter() {
                    pointer.push(key.into());
                    parts.push(format!("{} = {}", key_text(key), self.value(pointer, &entry.node)));
                    pointer.pop();
                }
                format!("{{ {} }}", parts.join(", "))
            }
        }
    }
}

/// The single values in a value, itself if it is one.
fn leaves(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        Value::Table(table) => table.iter().flat_map(|(_, entry)| leaves(&entry.node)).collect(),
        _ => vec![node],
    }
}

fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) | Value::Datetime(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(_) | Value::Array(_) | Value::Table(_) => String::new(),
    }
}

/// Whether an array is written as `[[name]]`: tables, and nothing else.
fn is_repeated(node: &Node) -> bool {
    let tables = |items: &[Node]| !items.is_empty() && items.iter().all(|item| item.as_table().is_some());
    !node.origin.secret && node.as_array().is_some_and(tables)
}

fn collect_origins(key: String, node: &Node, sources: &Sources, into: &mut BTreeMap<String, String>) {
    match &node.value {
        Value::Table(table) if !table.is_empty() => {
            for (name, entry) in table.iter() {
                collect_origins(format!("{key}.{}", key_text(name)), &entry.node, sources, into);
            }
        }
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| item.as_table().is_some()) => {
            for (at, item) in items.iter().enumerate() {
                collect_origins(format!("{key}[{at}]"), item, sources, into);
            }
        }
        _ => {
            into.insert(key, origin(node, sources));
        }
    }
}

/// Where a value came from, with the variables of everything in it.
fn origin(node: &Node, sources: &Sources) -> String {
    let mut all = node.origin.clone();
    collect(node, &mut all.ingredients);
    let text = all.describe(&node.location, sources);
    // A comment is one line, whatever a file is called.
    text.replace(char::is_control, " ")
}

fn collect(node: &Node, ingredients: &mut Vec<Ingredient>) {
    let mut inner = |node: &Node| {
        for ingredient in &node.origin.ingredients {
            if !ingredients.contains(ingredient) {
                ingredients.push(ingredient.clone());
            }
        }
        collect(node, ingredients);
    };
    match &node.value {
        Value::Array(items) => items.iter().for_each(&mut inner),
        Value::Table(table) => table.iter().for_each(|(_, entry)| inner(&entry.node)),
        _ => {}
    }
}

fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quote(key) }
}

fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
