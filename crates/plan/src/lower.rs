//! Lowering: a spanned table and a JSON schema in, plain JSON out, with every mistake found on the way.
//!
//! serde stops at the first mistake of a struct and knows no places. So the schema that is derived from the struct is walked
//! beside the tree: unknown keys, wrong types, values out of range and misspelt choices are all reported, each at its key
//! or value, and references to other nodes are collected.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use super::component::{check_component, find_component};
use super::mention::{self, Mention, Mentioned, Unread};
use super::schema::{
    accepts, alternatives, choices_of, fits, in_range, is_null, property_fits, tag_of, types_of, types_within,
};
use super::{message, retyped};
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, Sources, suggest};
use pipe_document::{Document, Ingredient, KeyOrValue, Node, PathSegment, Table, Value};
use pipe_vocab::{Catalog, Checked, Expression, Kind, NodeId, PropertyType};

/// A component written in place in a node's options.
pub struct NestedNode {
    /// Steps from the node's table to it.
    pub path: Vec<PathSegment>,
    /// Its options as the component's own struct.
    pub component: Box<dyn Checked>,
}

/// Variables made of variables that are looked through for the environment.
const MAX_VARIABLES: usize = 16;

/// The lowering of one table.
pub struct Lowering<'a> {
    document: &'a Document,
    sources: &'a Sources,
    catalog: &'a Catalog,
    schema: &'a Json,
    /// Steps from the document's root to the table that is lowered.
    base: Vec<PathSegment>,
    /// What the table says of other nodes.
    pub mentions: Vec<Mentioned>,
    /// What is wrong with it.
    pub diagnostics: Diagnostics,
    /// Values that must never be shown: steps from the document's root.
    pub secrets: Vec<Vec<PathSegment>>,
    /// Texts of the environment where a number or a boolean is wanted, and what they are there: steps from the document's root.
    pub typed: Vec<(Vec<PathSegment>, Value)>,
    /// The components written in place, in the order of the text, each before those in itself.
    pub nested: Vec<NestedNode>,
    /// Whether a port names a node of the wrong kind: reported with the edges, but the struct cannot be read then.
    pub wrong_port: bool,
}

impl<'a> Lowering<'a> {
    /// A lowering against `schema` of the table at `base`.
    pub fn new(
        document: &'a Document,
        sources: &'a Sources,
        catalog: &'a Catalog,
        schema: &'a Json,
        base: Vec<PathSegment>,
    ) -> Self {
        Lowering {
            document,
            sources,
            catalog,
            schema,
            base,
            mentions: Vec::new(),
            diagnostics: Diagnostics::new(),
            secrets: Vec::new(),
            typed: Vec::new(),
            nested: Vec::new(),
            wrong_port: false,
        }
    }

    /// Lowers the table; `skip` names keys that are not the component's (`type`).
    pub fn table(&mut self, table: &Table, location: &Location, skip: &[&str], what: &str) -> Json {
        let schema = self.schema;
        self.object(table, location, schema, &mut Vec::new(), skip, what)
    }

    fn error(&mut self, code: &'static str, message: String, at: &Location, node: &Node, help: Option<String>) {
        let diagnostic = Diagnostic::error(code, message).at(at.clone()).maybe_help(help);
        self.diagnostics.push(node.origin.annotate(diagnostic));
    }

    fn resolve(&self, schema: &'a Json) -> &'a Json {
        let target = schema.get("$ref").and_then(Json::as_str).and_then(|text| text.strip_prefix('#'));
        target.and_then(|pointer| self.schema.pointer(pointer)).unwrap_or(schema)
    }

    fn value(&mut self, node: &Node, schema: &'a Json, path: &mut Vec<PathSegment>) -> Json {
        let schema = self.resolve(schema);
        if let Some(kind) = schema.get("x-component").and_then(Json::as_str).and_then(Kind::parse) {
            return self.nested(node, kind, path);
        }
        if node.as_str().is_some_and(|text| schema.get("x-word").and_then(Json::as_str) == Some(text)) {
            return node.to_json();
        }
        if let Some(value) = self.typed_text(node, schema) {
            self.typed.push((self.base.iter().chain(path.iter()).cloned().collect(), value.clone()));
            return self.value(&Node { value, ..node.clone() }, schema, path);
        }
        if let Some(json) = self.property(node, schema, path) {
            return json;
        }
        if let Some(branches) = alternatives(schema) {
            return self.choice(node, schema, branches, path);
        }
        // Also what is no text: it was meant to be one, and messages quote it.
        if schema.get("x-secret").is_some() {
            self.secrets.push(self.base.iter().chain(path.iter()).cloned().collect());
        }
        if schema.get("x-recorded").is_some() {
            self.refuse_secrets(node);
        }
        if !self.check_type(node, schema) {
            return node.to_json();
        }
        match &node.value {
            Value::String(text) => self.string(node, text, schema, path),
            Value::Integer(_) | Value::Float(_) => self.number(node, schema),
            Value::Array(items) => self.array(node, items, schema, path),
            Value::Table(table) => self.object(table, &node.location, schema, path, &[], "this table"),
            Value::Boolean(_) | Value::Datetime(_) => node.to_json(),
        }
    }

    /// A text out of the environment, which knows no other type, as what is wanted here in place of a text.
    fn typed_text(&self, node: &Node, schema: &Json) -> Option<Value> {
        let Value::String(text) = &node.value else { return None };
        let types = types_within(schema);
        let wanted = |ty: &str| types.iter().any(|own| own == ty);
        if wanted("string") || !self.is_of_environment(node, 0) {
            return None;
        }
        let text = text.trim();
        let integer = || text.parse().ok().map(Value::Integer).filter(|_| wanted("integer") || wanted("number"));
        let float = || text.parse().ok().map(Value::Float).filter(|_| wanted("number"));
        let boolean = || text.parse().ok().map(Value::Boolean).filter(|_| wanted("boolean"));
        integer().or_else(float).or_else(boolean)
    }

    fn is_of_environment(&self, node: &Node, depth: usize) -> bool {
        let of_variable = |name: &str| {
            let variable = self.document.vars().get(name).filter(|_| depth < MAX_VARIABLES);
            variable.is_some_and(|variable| self.is_of_environment(variable, depth + 1))
        };
        node.origin.ingredients.iter().any(|ingredient| match ingredient {
            Ingredient::Environment { .. } | Ingredient::Default { .. } => true,
            Ingredient::Variable { name, .. } => of_variable(name),
        })
    }

    /// What is written to records is read by everyone.
    fn refuse_secrets(&mut self, node: &Node) {
        let inner: Vec<&Node> = match &node.value {
            Value::Table(table) => table.iter().map(|(_, entry)| &entry.node).collect(),
            Value::Array(items) => items.iter().collect(),
            _ => Vec::new(),
        };
        inner.into_iter().for_each(|node| self.refuse_secrets(node));
        if node.origin.secret {
            let message = "a secret cannot stand here: it would be written to the records".to_owned();
            self.error("secret-recorded", message, &node.location.clone(), node, Some("remove it".into()));
        }
    }

    fn check_type(&mut self, node: &Node, schema: &Json) -> bool {
        let types = types_of(schema);
        if types.is_empty() || types.iter().any(|ty| fits(&node.value, ty)) {
            return true;
        }
        let word = schema.get("x-word").and_then(Json::as_str);
        let wanted = message::types(&types) + &word.map(|word| format!(", or \"{word}\"")).unwrap_or_default();
        // A secret of the wrong type is one all the same.
        let secret = schema.get("x-secret").is_some();
        let found = if secret { "something else".to_owned() } else { message::found(&node.value) };
        let message = format!("expected {wanted}, found {found}");
        // Quotes that the file needs are no mistake.
        let help = match self.is_of_environment(node, 0) {
            true => Some(format!("it comes from the environment: set the variable to {}", message::types(&types))),
            false => message::type_help(&node.value, &types),
        };
        self.error("wrong-type", message, &node.location.clone(), node, help);
        false
    }

    fn string(&mut self, node: &Node, text: &str, schema: &'a Json, path: &[PathSegment]) -> Json {
        let kinds = |key: &str| {
            let kinds = schema.get(key).and_then(Json::as_array)?.iter().filter_map(Json::as_str);
            Some(kinds.filter_map(Kind::parse).collect())
        };
        let measured = || schema.get("x-metric").map(|_| mention::measured(text));
        let port = kinds("x-port").map(|kinds| mention::port(text, kinds));
        let found = port.or_else(|| kinds("x-target").map(|kinds| mention::target(text, kinds))).or_else(measured);
        if let Some(found) = found {
            return self.mention(node, text, found, path);
        }
        if schema.get("x-expression").is_some() {
            return self.expression(node, text, path);
        }
        if schema.get("format").and_then(Json::as_str) == Some("path") {
            let pointer: Vec<_> = self.base.iter().chain(path).cloned().collect();
            let resolved = self.document.resolve_path(&pointer, self.sources);
            return Json::String(resolved.unwrap_or_else(|| text.to_owned()));
        }
        self.check_choices(node, text, schema);
        if schema.get("minLength").and_then(Json::as_u64).is_some_and(|min| (text.chars().count() as u64) < min) {
            self.error("out-of-range", "the string must not be empty".into(), &node.location.clone(), node, None);
        }
        Json::String(text.to_owned())
    }

    fn check_choices(&mut self, node: &Node, text: &str, schema: &Json) {
        let choices = choices_of(schema);
        if choices.is_empty() || choices.contains(&text) {
            return;
        }
        let message = format!("`{text}` is not one of the choices");
        let help = match suggest(text, choices.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? The choices are {}", message::list(&choices)),
            None => format!("the choices are {}", message::list(&choices)),
        };
        self.error("unknown-choice", message, &node.location.clone(), node, Some(help));
    }

    /// Keeps what a text says of another node, or tells why it says nothing.
    fn mention(&mut self, node: &Node, text: &str, found: Result<Mention, Unread>, path: &[PathSegment]) -> Json {
        match found {
            Ok(what) => {
                if let Mention::Port { node: id, kinds } = &what {
                    self.wrong_port |= !kinds.contains(&id.kind);
                }
                self.mentions.push(Mentioned { what, path: path.to_vec(), location: node.location.clone() });
            }
            Err(Unread { message, help }) => {
                self.error("bad-reference", message, &node.location.clone(), node, Some(help));
            }
        }
        Json::String(text.to_owned())
    }

    /// Each value of an expression, at its own place.
    fn expression(&mut self, node: &Node, text: &str, path: &[PathSegment]) -> Json {
        // Where the text is written as it is read: not through variables or escapes.
        let plain = self.sources.slice(&node.location).get(1..).is_some_and(|inner| inner.starts_with(text));
        let place = |span: &Range<usize>| match plain {
            true => {
                let start = node.location.span.start + 1;
                Location::new(node.location.source, start + span.start..start + span.end)
            }
            false => node.location.clone(),
        };
        match Expression::parse(text) {
            Ok(expression) => {
                for (value, span) in expression.values() {
                    let what = Mention::Value(value.clone());
                    self.mentions.push(Mentioned { what, path: path.to_vec(), location: place(span) });
                }
            }
            Err(error) => {
                let help =
                    "an expression is made of numbers, values such as `metric.NAME:VALUE`, `+ - * / ( )` and functions";
                self.error("bad-expression", error.message, &place(&error.span), node, Some(help.into()));
            }
        }
        Json::String(text.to_owned())
    }

    /// A text of the form `kind.name:property` where no text belongs stands for that property.
    fn property(&mut self, node: &Node, schema: &Json, path: &[PathSegment]) -> Option<Json> {
        let (id, property) = node.as_str()?.split_once(':')?;
        let id: NodeId = id.parse().ok()?;
        let types: Vec<String> = types_within(schema);
        if types.is_empty() || types.iter().any(|ty| ty == "string") {
            return None;
        }
        let stand_in = [PropertyType::Integer, PropertyType::Number, PropertyType::Strings]
            .into_iter()
            .find(|ty| types.iter().any(|wanted| property_fits(*ty, wanted)))?
            .stand_in();
        let what = Mention::Property { node: id, property: property.to_owned(), types };
        self.mentions.push(Mentioned { what, path: path.to_vec(), location: node.location.clone() });
        Some(stand_in)
    }

    fn number(&mut self, node: &Node, schema: &Json) -> Json {
        let value = match node.value {
            Value::Integer(value) => value as f64,
            Value::Float(value) => value,
            _ => return node.to_json(),
        };
        if !in_range(value, schema) {
            let message = format!("{} is out of range", message::number(&node.value));
            let help = format!("it must be {}", message::range(schema));
            self.error("out-of-range", message, &node.location.clone(), node, Some(help));
        }
        node.to_json()
    }

    fn array(&mut self, node: &Node, items: &[Node], schema: &'a Json, path: &mut Vec<PathSegment>) -> Json {
        let limit = |key: &str| schema.get(key).and_then(Json::as_u64).map(|n| n as usize);
        let (min, max) = (limit("minItems"), limit("maxItems"));
        if min.is_some_and(|min| items.len() < min) || max.is_some_and(|max| items.len() > max) {
            let message = format!("expected {}, found {}", message::count(min, max), items.len());
            self.error("out-of-range", message, &node.location.clone(), node, None);
        }
        // Draft 07 writes a tuple as an array under `items`.
        let places = schema.get("prefixItems").or_else(|| schema.get("items")).and_then(Json::as_array);
        let mut lowered = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let inner = match places {
                Some(places) => places.get(index),
                None => schema.get("items"),
            };
            path.push(PathSegment::Index(index));
            lowered.push(inner.map_or_else(|| item.to_json(), |inner| self.value(item, inner, path)));
            path.pop();
        }
        Json::Array(lowered)
    }

    fn object(
        &mut self,
        table: &Table,
        location: &Location,
        schema: &'a Json,
        path: &mut Vec<PathSegment>,
        skip: &[&str],
        what: &str,
    ) -> Json {
        let none = Map::new();
        let properties = schema.get("properties").and_then(Json::as_object);
        let other = schema.get("additionalProperties");
        let mut lowered = Map::new();
        for (key, entry) in table.iter().filter(|(key, _)| !skip.contains(key)) {
            let inner = match properties.and_then(|properties| properties.get(key)) {
                Some(inner) => Some(inner),
                None if matches!(other, Some(Json::Bool(false))) || other.is_none() && properties.is_some() => {
                    let instead = schema.pointer(&format!("/x-instead/{key}")).and_then(Json::as_str);
                    let diagnostic = unknown_key(key, properties.unwrap_or(&none), instead, skip, what);
                    self.diagnostics.push(diagnostic.at(entry.key.clone()));
                    continue;
                }
                None => other.filter(|other| other.is_object()),
            };
            path.push(PathSegment::Key(key.to_owned()));
            let value = inner.map_or_else(|| entry.node.to_json(), |inner| self.value(&entry.node, inner, path));
            path.pop();
            lowered.insert(key.to_owned(), value);
        }
        let required = schema.get("required").and_then(Json::as_array).into_iter().flatten();
        for key in required.filter_map(Json::as_str).filter(|key| table.get(key).is_none()) {
            let about = properties.and_then(|p| p.get(key)).and_then(|p| p.get("description")).and_then(Json::as_str);
            let diagnostic = Diagnostic::error("missing-key", format!("{what} needs `{key}`")).at(location.clone());
            let below = path.is_empty().then(|| retyped::help(self.document, self.sources, &self.base, key)).flatten();
            let help = below.or(about.map(|about| format!("`{key}`: {}", message::first_line(about))));
            self.diagnostics.push(diagnostic.maybe_help(help));
        }
        Json::Object(lowered)
    }

    /// Picks the alternative that the value was meant to be.
    fn choice(&mut self, node: &Node, schema: &Json, branches: &'a [Json], path: &mut Vec<PathSegment>) -> Json {
        let branches: Vec<&'a Json> = branches.iter().map(|b| self.resolve(b)).filter(|b| !is_null(b)).collect();
        if let (Some(table), Some(tag)) = (node.as_table(), tag_of(&branches)) {
            return self.tagged(node, table, tag, &branches, path);
        }
        let named: Vec<&str> = branches.iter().flat_map(|branch| choices_of(branch)).collect();
        let typed: Vec<&'a Json> = branches.iter().copied().filter(|branch| accepts(&node.value, branch)).collect();
        if let (Some(text), true) =
            (node.as_str(), typed.iter().all(|b| !choices_of(b).is_empty()) && !named.is_empty())
        {
            let all = serde_json::json!({ "enum": named });
            self.check_choices(node, text, &all);
            return node.to_json();
        }
        match typed.as_slice() {
            [] => {
                let types: Vec<String> = types_within(schema);
                let types: Vec<&str> = types.iter().map(String::as_str).collect();
                let message = format!("expected {}, found {}", message::types(&types), message::found(&node.value));
                let help = message::type_help(&node.value, &types);
                self.error("wrong-type", message, &node.location.clone(), node, help);
                node.to_json()
            }
            [only] => self.value(node, only, path),
            several => self.first_fitting(node, several, path),
        }
    }

    /// Tries alternatives of the same JSON type; the first without mistakes wins, else the last one's mistakes are told.
    fn first_fitting(&mut self, node: &Node, branches: &[&'a Json], path: &mut Vec<PathSegment>) -> Json {
        let mut lowered = node.to_json();
        for (index, branch) in branches.iter().enumerate() {
            let before = (self.diagnostics.clone(), self.mentions.len(), self.secrets.len(), self.nested.len());
            let typed = self.typed.len();
            lowered = self.value(node, branch, path);
            if self.diagnostics.len() == before.0.len() || index + 1 == branches.len() {
                break;
            }
            self.diagnostics = before.0;
            self.mentions.truncate(before.1);
            self.secrets.truncate(before.2);
            self.nested.truncate(before.3);
            self.typed.truncate(typed);
        }
        lowered
    }

    /// A table whose `type` says which alternative it is.
    fn tagged(
        &mut self,
        node: &Node,
        table: &Table,
        tag: &str,
        branches: &[&'a Json],
        path: &mut Vec<PathSegment>,
    ) -> Json {
        let name_of = |branch: &'a Json| branch.pointer(&format!("/properties/{tag}/const")).and_then(Json::as_str);
        let names: Vec<&str> = branches.iter().filter_map(|branch| name_of(branch)).collect();
        let Some(given) = table.get(tag) else {
            let help = format!("`{tag}` is one of {}", message::list(&names));
            self.error("missing-key", format!("this table needs `{tag}`"), &node.location.clone(), node, Some(help));
            return node.to_json();
        };
        let Some(branch) = branches.iter().find(|branch| name_of(branch) == given.as_str()) else {
            match given.as_str() {
                Some(text) => self.check_choices(given, text, &serde_json::json!({ "enum": names })),
                None => {
                    self.check_type(given, &serde_json::json!({ "type": "string" }));
                }
            }
            return node.to_json();
        };
        let what = format!("`{}`", given.as_str().unwrap_or_default());
        self.object(table, &node.location, branch, path, &[], &what)
    }

    /// A component written in place.
    fn nested(&mut self, node: &Node, kind: Kind, path: &[PathSegment]) -> Json {
        let Some(table) = node.as_table() else {
            let message = format!("expected a {kind} (a table with a `type`), found {}", message::found(&node.value));
            let help = format!("write `{{ type = \"…\" }}`; `pipe components {kind}` lists the available types");
            self.error("wrong-type", message, &node.location.clone(), node, Some(help));
            return node.to_json();
        };
        let found = find_component(self.catalog, kind, table, &node.location, &format!("this {kind}"));
        let descriptor = match found {
            Ok(descriptor) => descriptor,
            Err(diagnostic) => {
                self.diagnostics.push(*diagnostic);
                return node.to_json();
            }
        };
        let base = self.base.iter().chain(path.iter()).cloned().collect();
        let mut inner = Lowering::new(self.document, self.sources, self.catalog, descriptor.schema(), base);
        let what = format!("`{}`", descriptor.full_name());
        let mut json = inner.table(table, &node.location, &["type"], &what);
        let found = inner.diagnostics.has_errors() || inner.wrong_port;
        self.wrong_port |= inner.wrong_port;
        self.diagnostics.extend(inner.diagnostics);
        self.secrets.extend(inner.secrets);
        self.typed.extend(inner.typed);
        self.mentions.extend(inner.mentions.into_iter().map(|mut mentioned| {
            mentioned.path.splice(0..0, path.iter().cloned());
            mentioned
        }));
        if !found {
            match check_component(descriptor, json.clone()) {
                Ok(checked) => {
                    self.nested.push(NestedNode { path: path.to_vec(), component: checked });
                    self.nested.extend(inner.nested.into_iter().map(|nested| NestedNode {
                        path: path.iter().cloned().chain(nested.path).collect(),
                        ..nested
                    }));
                }
                Err(errors) => {
                    for (steps, message, help) in errors {
                        let at = node.locate(&steps, KeyOrValue::Value);
                        self.error("invalid-option", message, &at, node, help);
                    }
                }
            }
        }
        if let Some(object) = json.as_object_mut() {
            object.insert("type".into(), descriptor.name.into());
        }
        json
    }
}

/// `instead` is what a component says of a key that people look for in it.
fn unknown_key(key: &str, known: &Map<String, Json>, instead: Option<&str>, skip: &[&str], what: &str) -> Diagnostic {
    let names = known.keys().map(String::as_str).chain(skip.iter().copied());
    let all: Vec<&str> = known.keys().map(String::as_str).collect();
    let help = match (instead, suggest(key, names)) {
        (Some(instead), _) => instead.to_owned(),
        (None, Some(near)) => format!("did you mean `{near}`?"),
        (None, None) if all.is_empty() => format!("{what} has no options"),
        (None, None) => format!("the keys are {}", message::list(&all)),
    };
    Diagnostic::error("unknown-key", format!("{what} has no key `{key}`")).help(help)
}
