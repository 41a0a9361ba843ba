//! Event edges by their names.

use std::collections::HashMap;

use super::{Node, Table, template};
use crate::diagnostic::{Diagnostic, Diagnostics, Location, suggest};

/// The name of an edge and where it is written.
fn name(edge: &Node) -> Option<(&str, &Location)> {
    let name = edge.as_table()?.get("name")?;
    Some((name.as_str()?, &name.location))
}

/// Which of the edges has this name.
pub(super) fn position(edges: &[Node], wanted: &str) -> Option<usize> {
    edges.iter().position(|edge| name(edge).is_some_and(|(name, _)| name == wanted))
}

/// The edges that have names, and where they stand.
pub(super) fn index(edges: &[Node]) -> HashMap<String, usize> {
    let named = edges.iter().enumerate().filter_map(|(index, edge)| Some((name(edge)?.0.to_owned(), index)));
    named.collect()
}

/// The edge with the name of this one.
pub(super) fn namesake(index: &HashMap<String, usize>, edge: &Node) -> Option<usize> {
    index.get(name(edge)?.0).copied()
}

/// What to do about a name that no edge has.
pub(super) fn help(edges: &[Node], wanted: &str) -> String {
    let names: Vec<&str> = edges.iter().filter_map(|edge| Some(name(edge)?.0)).collect();
    match (suggest(wanted, names.iter().copied()), &names[..]) {
        (Some(near), _) => format!("did you mean `{near}`?"),
        (None, []) => "no event edge has a name: give one its name with `name = \"…\"`".to_owned(),
        (None, names) => format!("the named event edges are `{}`", names.join("`, `")),
    }
}

/// Reports names that one layer gives twice, and those that are known only later.
pub(super) fn check_names(edges: &[Node], found: &mut Diagnostics) {
    let mut seen: HashMap<&str, &Location> = HashMap::new();
    for (own, at) in edges.iter().filter_map(name) {
        if template::is_template(own) {
            let problem = Diagnostic::error("invalid-name", "the name of an event edge cannot use variables");
            found.push(problem.at(at.clone()).help("variables are resolved only after all edges are put together"));
        }
        if let Some(first) = seen.insert(own, at) {
            let problem = Diagnostic::error("duplicate-name", format!("two event edges are named `{own}`"));
            found.push(problem.at(at.clone()).label(first.clone(), "first here").help("rename one of the two"));
        }
    }
}

/// The edges of a section, where it is a list of them.
pub(super) fn of(root: &Table) -> Option<&[Node]> {
    root.get("on")?.as_array()
}
