//! From a table to its component: which one `type` names, and whether the options fit its struct.

use serde_json::Value as Json;

use super::message;
use pipe_document::diagnostic::{Diagnostic, Location, suggest};
use pipe_document::{PathSegment, Table};
use pipe_vocab::{Catalog, Checked, Descriptor, Kind};

/// Mistakes inside a component's options: the steps to the option, what is wrong, what to do.
pub type OptionErrors = Vec<(Vec<PathSegment>, String, Option<String>)>;

/// Reads a lowered configuration into its struct and asks the component's own checks.
///
/// # Errors
/// What the struct or the checks refuse.
pub fn check_component(descriptor: &Descriptor, json: Json) -> Result<Box<dyn Checked>, OptionErrors> {
    let steps = |path: &[String]| path.iter().map(|key| PathSegment::Key(key.clone())).collect();
    let component = descriptor.parse(json).map_err(|error| vec![(steps(&error.path), error.message, None)])?;
    let mut problems = pipe_vocab::Problems::default();
    component.check(&mut problems);
    if problems.found.is_empty() {
        return Ok(component);
    }
    Err(problems.found.into_iter().map(|p| (steps(&p.path), p.message, p.help)).collect())
}

/// The component that a table's `type` names.
///
/// # Errors
/// When `type` is missing, not a text, or unknown: with the nearest name.
pub fn find_component(
    catalog: &Catalog,
    kind: Kind,
    table: &Table,
    location: &Location,
    what: &str,
) -> Result<&'static Descriptor, Box<Diagnostic>> {
    let names: Vec<&str> = catalog.of_kind(kind).map(|d| d.name).collect();
    let Some(entry) = table.entry("type") else {
        let diagnostic = Diagnostic::error("missing-key", format!("{what} needs `type`")).at(location.clone());
        return Err(Box::new(diagnostic.help(format!("the {kind} types are {}", message::list(&names)))));
    };
    let at = entry.node.location.clone();
    let Some(name) = entry.node.as_str() else {
        let message = format!("expected a string, found {}", message::found(&entry.node.value));
        return Err(Box::new(Diagnostic::error("wrong-type", message).at(at)));
    };
    catalog.get(kind, name).ok_or_else(|| {
        let elsewhere = catalog.iter().find(|d| d.name == name).map(Descriptor::full_name);
        let help = match (suggest(name, names.iter().copied()), elsewhere) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(other)) => format!("there is `{other}`, but this is {}", kind.with_article()),
            (None, None) => format!("the {kind} types are {}", message::list(&names)),
        };
        let diagnostic = Diagnostic::error("unknown-component", format!("there is no {kind} of type `{name}`"));
        Box::new(entry.node.origin.annotate(diagnostic.at(at).help(help)))
    })
}
