//! From a table to its component: which one `type` names, and whether the options fit its struct.

use serde_json::Value as Json;

use super::message;
use super::schema::{choices_of, value_problem};
use pipe_document::diagnostic::{Diagnostic, Location, suggest};
use pipe_document::{PathSegment, Table, path_text};
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
            (Some(near), _) => match catalog.get(kind, near).and_then(|component| option_with(component, name)) {
                Some(option) => format!("write type = \"{near}\" and {option} = \"{name}\""),
                None => format!("did you mean `{near}`?"),
            },
            (None, Some(other)) => format!("there is `{other}`, but this is {}", kind.with_article()),
            (None, None) => format!("the {kind} types are {}", message::list(&names)),
        };
        let diagnostic = Diagnostic::error("unknown-component", format!("there is no {kind} of type `{name}`"));
        Box::new(entry.node.origin.annotate(diagnostic.at(at).help(help)))
    })
}

/// The option of a component that has this name among its choices: `arch`, of `resnet18`.
fn option_with<'d>(component: &'d Descriptor, name: &str) -> Option<&'d String> {
    let mut options = component.schema().get("properties")?.as_object()?.iter();
    options.find(|(_, option)| choices_of(option).contains(&name)).map(|(option, _)| option)
}

/// The options of a node with values that became known after it was checked, under the same ranges and checks as values in the
/// file: as JSON, and as the component's own struct.
///
/// # Errors
/// The first value that the option or the component refuses: which, and why.
pub fn with_values(
    descriptor: &Descriptor,
    config: &Json,
    values: &[(&[PathSegment], Json)],
) -> Result<(Json, Box<dyn Checked>), String> {
    let mut config = config.clone();
    for (path, value) in values {
        let option = path_text(path);
        if let Some(problem) = value_problem(descriptor.schema(), path, value) {
            return Err(format!("option `{option}` would be {value}: {problem}"));
        }
        // An option that has its default is not there yet.
        if let ([PathSegment::Key(key)], Some(options)) = (path, config.as_object_mut())
            && descriptor.schema().pointer(&format!("/properties/{key}")).is_some()
        {
            options.entry(key.clone()).or_insert(Json::Null);
        }
        *slot(&mut config, path).ok_or_else(|| format!("there is no option `{option}`"))? = value.clone();
    }
    match check_component(descriptor, config.clone()) {
        Ok(checked) => Ok((config, checked)),
        Err(mut errors) => {
            let (path, message, help) = errors.swap_remove(0);
            let help = help.map(|help| format!("; {help}")).unwrap_or_default();
            Err(format!("option `{}`: {message}{help}", path_text(&path)))
        }
    }
}

/// The value at the end of the steps.
pub fn slot<'v>(value: &'v mut Json, path: &[PathSegment]) -> Option<&'v mut Json> {
    path.iter().try_fold(value, |value, segment| match segment {
        PathSegment::Key(key) => value.get_mut(key),
        PathSegment::Index(index) => value.get_mut(index),
    })
}
