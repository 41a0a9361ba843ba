//! Variables put into the tree.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::rc::Rc;

use super::build::article;
use super::limits::MAX_DEPTH;
use super::offset::raw_offset;
use super::template::{self, Fault, Part};
use super::{Ingredient, Node, Origin, PathBase, Table, Value};
use pipe_vocab::secret::sounds_secret;

use crate::diagnostic::{Diagnostic, Diagnostics, Location, Sources, suggest};

/// All that variables may expand to together: bytes of text plus a fixed price a value.
const MAX_EXPANSION: usize = 8 << 20;

/// The price of one value of an array or table, and of one variable that a value was made of.
const VALUE_PRICE: usize = 64;

/// Of one string no more wrong parts are reported.
const MAX_WRONG: usize = 16;

/// Resolves `vars` and every string of `root`. Returns the variables with their values.
pub(super) fn resolve(
    vars: Table,
    root: &mut Table,
    env: &dyn Fn(&str) -> Option<String>,
    sources: &Sources,
    found: &mut Diagnostics,
) -> Table {
    let mut resolver = Resolver {
        vars: &vars,
        env,
        sources,
        found,
        states: HashMap::new(),
        chain: Vec::new(),
        depth: 0,
        budget: MAX_EXPANSION,
        exhausted: false,
    };
    let mut resolved = Table::default();
    for (name, entry) in vars.iter() {
        let value = resolver.variable(name);
        let node = value.map_or_else(|| entry.node.clone(), |value| value.node.clone());
        resolved.insert(name, super::Entry { key: entry.key.clone(), node });
    }
    resolver.table(root);
    resolved
}

/// Every name that the strings of a table use.
pub(super) fn used_names(table: &Table, used: &mut HashSet<String>) {
    table.iter().for_each(|(_, entry)| names_in(&entry.node, used));
}

/// Every name that the strings of a value use.
pub(super) fn names_in(node: &Node, used: &mut HashSet<String>) {
    match &node.value {
        Value::String(text) if template::is_template(text) => {
            if let Ok(parts) = template::parse(text) {
                template::names(&parts, &mut |name| {
                    used.insert(name.to_owned());
                });
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names_in(item, used)),
        Value::Table(table) => used_names(table, used),
        _ => {}
    }
}

/// A variable with its value, and what a copy of it costs.
struct Variable {
    node: Node,
    size: usize,
    depth: usize,
}

impl Variable {
    fn price(&self) -> usize {
        self.size.saturating_add(self.price_of_origin())
    }

    /// A value knows each variable that it was made of: in a chain of variables the last one knows all.
    fn price_of_origin(&self) -> usize {
        VALUE_PRICE * (1 + self.node.origin.ingredients.len())
    }
}

enum State {
    /// On the chain of variables being resolved.
    Active,
    /// Resolved, or reported as wrong.
    Done(Option<Rc<Variable>>),
}

struct Resolver<'a> {
    vars: &'a Table,
    env: &'a dyn Fn(&str) -> Option<String>,
    sources: &'a Sources,
    found: &'a mut Diagnostics,
    states: HashMap<String, State>,
    chain: Vec<String>,
    depth: usize,
    budget: usize,
    /// Whether the budget has been reported as spent.
    exhausted: bool,
}

/// What a template has come to so far.
struct Mixture {
    text: String,
    ingredients: Vec<Ingredient>,
    secret: bool,
    base: Option<PathBase>,
}

/// The string being resolved: where it is, and what it says.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: &'a Node,
    text: &'a str,
    key: &'a str,
}

impl Resolver<'_> {
    fn table(&mut self, table: &mut Table) {
        for (key, entry) in table.iter_mut() {
            let key = key.to_owned();
            self.node(&mut entry.node, &key);
        }
    }

    /// Resolves a value in place; `false` if something in it is wrong, which has been reported.
    fn node(&mut self, node: &mut Node, key: &str) -> bool {
        self.depth += 1;
        let mut fine = true;
        match &mut node.value {
            Value::Array(items) => {
                for item in items {
                    fine &= self.node(item, key);
                }
            }
            Value::Table(table) => {
                for (key, entry) in table.iter_mut() {
                    fine &= self.node(&mut entry.node, key);
                }
            }
            Value::String(text) if template::is_template(text) => {
                let text = text.clone();
                fine = self.string(node, &text, key);
            }
            _ => {}
        }
        self.depth -= 1;
        fine
    }

    fn string(&mut self, node: &mut Node, text: &str, key: &str) -> bool {
        let parts = match template::parse(text) {
            Ok(parts) => parts,
            Err(fault) => {
                self.report_fault(node, text, fault);
                self.found.mute(node.location.clone());
                return false;
            }
        };
        let place = Place { node, text, key };
        let replaced = match &parts[..] {
            [Part::Variable { name, span }] => self.whole(place, name, span),
            _ => self.mix(place, &parts),
        };
        let Some((value, origin)) = replaced else {
            self.found.mute(node.location.clone());
            return false;
        };
        node.value = value;
        node.origin = origin;
        true
    }

    /// A string that is exactly `${name}` takes the variable's own type.
    fn whole(&mut self, place: Place<'_>, name: &str, span: &Range<usize>) -> Option<(Value, Origin)> {
        let variable = self.reference(place, name, span)?;
        self.spend(place, variable.price(), variable.depth)?;
        let mut ingredients = vec![ingredient(name, &variable.node)];
        ingredients.extend(variable.node.origin.ingredients.iter().cloned());
        let secret = variable.node.origin.secret || is_secret(&ingredients, place.key);
        let origin =
            Origin { layer: place.node.origin.layer.clone(), ingredients, secret, base: variable.node.origin.base };
        Some((variable.node.value.clone(), origin))
    }

    fn mix(&mut self, place: Place<'_>, parts: &[Part]) -> Option<(Value, Origin)> {
        let mut mixture = Mixture { text: String::new(), ingredients: Vec::new(), secret: false, base: None };
        let mut wrong = 0;
        for part in parts {
            wrong += usize::from(self.add(place, part, &mut mixture).is_none());
            if wrong == MAX_WRONG || self.exhausted {
                break;
            }
        }
        if wrong > 0 || self.exhausted {
            return None;
        }
        self.spend(place, mixture.text.len(), 0)?;
        let secret = mixture.secret || is_secret(&mixture.ingredients, place.key);
        let origin = Origin {
            layer: place.node.origin.layer.clone(),
            ingredients: mixture.ingredients,
            secret,
            base: mixture.base.unwrap_or(place.node.origin.base),
        };
        Some((Value::String(mixture.text), origin))
    }

    /// Adds a piece; `None` if it is wrong, which has been reported.
    fn add(&mut self, place: Place<'_>, part: &Part, mixture: &mut Mixture) -> Option<()> {
        let leading = mixture.text.is_empty() && mixture.base.is_none();
        match part {
            Part::Text(text) => {
                mixture.text.push_str(text);
                if leading && !text.is_empty() {
                    mixture.base = Some(place.node.origin.base);
                }
            }
            Part::Variable { name, span } => {
                let variable = self.reference(place, name, span)?;
                let Some(text) = plain_text(&variable.node.value) else {
                    let problem = self.not_text(place, name, &variable.node, span);
                    self.found.push(problem);
                    return None;
                };
                self.spend(place, text.len() + variable.price_of_origin(), 0)?;
                mixture.text.push_str(&text);
                mixture.ingredients.push(ingredient(name, &variable.node));
                mixture.ingredients.extend(variable.node.origin.ingredients.iter().cloned());
                mixture.secret |= variable.node.origin.secret;
                if leading {
                    mixture.base = Some(variable.node.origin.base);
                }
            }
            Part::Environment { name, default, span } => {
                // As in a shell, one that is set to nothing takes the default.
                if let Some(text) = (self.env)(name).filter(|text| default.is_none() || !text.is_empty()) {
                    self.spend(place, text.len() + VALUE_PRICE, 0)?;
                    mixture.text.push_str(&text);
                    mixture.ingredients.push(Ingredient::Environment { name: name.clone() });
                    if leading {
                        mixture.base = Some(PathBase::WorkingDirectory);
                    }
                } else if let Some(default) = default {
                    mixture.ingredients.push(Ingredient::Default { name: name.clone() });
                    for part in default {
                        self.add(place, part, mixture)?;
                    }
                } else {
                    let problem = Diagnostic::error(
                        "variable-environment",
                        format!("the environment variable `{name}` is not set"),
                    );
                    let help = format!("set it, or give a default: ${{env:{name}:-default}}");
                    let at = self.inside(place.node, place.text, span);
                    self.found.push(problem.at(at).help(help));
                    return None;
                }
            }
        }
        Some(())
    }

    /// The variable of a `${name}`, or `None` with the reason reported, here or at the variable itself.
    fn reference(&mut self, place: Place<'_>, name: &str, span: &Range<usize>) -> Option<Rc<Variable>> {
        let at = |resolver: &Self| resolver.inside(place.node, place.text, span);
        if self.vars.get(name).is_none() {
            let problem = self.unknown(name, at(self));
            self.found.push(problem);
            return None;
        }
        if matches!(self.states.get(name), Some(State::Active)) {
            let start = self.chain.iter().position(|other| other == name).unwrap_or_default();
            let mut names: Vec<_> = self.chain[start..].iter().map(|name| format!("`{name}`")).collect();
            names.push(format!("`{name}`"));
            let message = format!("the variable is defined in terms of itself: {}", names.join(" → "));
            let at = at(self);
            self.found.push(Diagnostic::error("variable-cycle", message).at(at));
            return None;
        }
        if self.depth > 2 * MAX_DEPTH {
            let message = format!("variables refer to one another more than {} deep", 2 * MAX_DEPTH);
            let at = at(self);
            self.found.push(Diagnostic::error("variable-size", message).at(at));
            return None;
        }
        self.variable(name)
    }

    /// The value of a variable that is defined, and not being resolved already.
    fn variable(&mut self, name: &str) -> Option<Rc<Variable>> {
        if let Some(State::Done(done)) = self.states.get(name) {
            return done.clone();
        }
        let mut node = self.vars.get(name)?.clone();
        self.states.insert(name.to_owned(), State::Active);
        self.chain.push(name.to_owned());
        let fine = self.node(&mut node, name);
        self.chain.pop();
        node.origin.secret |= matches!(node.value, Value::String(_)) && is_secret_name(name);
        let (size, depth) = measure(&node.value);
        let variable = fine.then(|| Rc::new(Variable { node, size, depth }));
        self.states.insert(name.to_owned(), State::Done(variable.clone()));
        variable
    }

    /// Pays for a copy of a value; `None` if there is too much of it, which has been reported.
    fn spend(&mut self, place: Place<'_>, size: usize, depth: usize) -> Option<()> {
        let message = if self.depth + depth > 2 * MAX_DEPTH {
            format!("variables nest values deeper than {} levels", 2 * MAX_DEPTH)
        } else if let Some(rest) = self.budget.checked_sub(size) {
            self.budget = rest;
            return Some(());
        } else if std::mem::replace(&mut self.exhausted, true) {
            return None;
        } else {
            format!("variables expand to more than {} MiB", MAX_EXPANSION >> 20)
        };
        let at = place.node.location.clone();
        self.found.push(Diagnostic::error("variable-size", message).at(at));
        None
    }

    fn unknown(&self, name: &str, at: Location) -> Diagnostic {
        // Nobody will see what comes behind so many.
        let candidates = self.vars.keys().take(if self.found.is_full() { 0 } else { usize::MAX });
        let help = match suggest(name, candidates) {
            Some(near) => format!("did you mean `${{{near}}}`?"),
            None if (self.env)(name).is_some() => {
                format!("for the environment, write ${{env:{name}}}")
            }
            None => format!("define it: `{name} = …` under [vars]"),
        };
        Diagnostic::error("variable-unknown", format!("there is no variable `{name}`")).at(at).help(help)
    }

    fn not_text(&self, place: Place<'_>, name: &str, node: &Node, span: &Range<usize>) -> Diagnostic {
        let kind = article(node.value.kind());
        let message = format!("`{name}` is {kind}, and cannot be part of a string");
        Diagnostic::error("variable-type", message)
            .at(self.inside(place.node, place.text, span))
            .label(node.location.clone(), "defined here")
            .help(format!("only a string that is exactly \"${{{name}}}\" can take it"))
    }

    fn report_fault(&mut self, node: &Node, text: &str, fault: Fault) {
        let at = self.inside(node, text, &fault.span);
        self.found.push(Diagnostic::error(fault.code, fault.message).at(at).help(fault.help));
    }

    /// The place in the file of a part of a string; the whole string where that cannot be told.
    fn inside(&self, node: &Node, text: &str, span: &Range<usize>) -> Location {
        let whole = &node.location;
        let raw = self.sources.slice(whole);
        let offset = |at| {
            if raw == text { Some(at) } else { raw_offset(raw, text, at) }
        };
        match (offset(span.start), offset(span.end)) {
            (Some(start), Some(end)) if start <= end && end <= raw.len() => {
                let from = whole.span.start;
                Location::new(whole.source, from + start..from + end)
            }
            _ => whole.clone(),
        }
    }
}

fn ingredient(name: &str, node: &Node) -> Ingredient {
    Ingredient::Variable { name: name.to_owned(), location: node.location.clone(), layer: node.origin.layer.clone() }
}

/// A scalar as part of a text.
fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) | Value::Datetime(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(_) | Value::Table(_) => None,
    }
}

/// The price of a copy, and how deep it is nested.
fn measure(value: &Value) -> (usize, usize) {
    let inside = |parts: &mut dyn Iterator<Item = (usize, usize)>| {
        parts.fold((VALUE_PRICE, 1), |(size, depth), (more, deeper)| (size.saturating_add(more), depth.max(deeper + 1)))
    };
    match value {
        Value::String(text) => (VALUE_PRICE + text.len(), 0),
        Value::Array(items) => inside(&mut items.iter().map(|item| measure(&item.value))),
        Value::Table(table) => inside(&mut table.iter().map(|(key, entry)| {
            let (size, depth) = measure(&entry.node.value);
            (size + key.len(), depth)
        })),
        _ => (VALUE_PRICE, 0),
    }
}

/// Whether a variable of this name is a secret by its name alone. A key may be many things, unless it is one to an API.
fn is_secret_name(name: &str) -> bool {
    let lower = name.to_lowercase();
    let kinds = ["api", "access", "private", "secret"];
    sounds_secret(name) && (!lower.ends_with("key") || kinds.iter().any(|kind| lower.contains(kind)))
}

/// Whether a value made of these, under this key, is a secret: see [`Origin::secret`].
fn is_secret(ingredients: &[Ingredient], key: &str) -> bool {
    ingredients.iter().any(|ingredient| match ingredient {
        Ingredient::Environment { name } => sounds_secret(name) || sounds_secret(key),
        Ingredient::Variable { .. } | Ingredient::Default { .. } => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_secrets_when_they_open_something() {
        for name in ["hub_token", "api_key", "AWS_SECRET_ACCESS_KEY", "password"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["key", "sort_key", "primaryKey", "coco", "keypoints"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
