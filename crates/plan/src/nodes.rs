//! The tables of nodes, with their components.

use std::collections::BTreeSet;
use std::fmt;

use indexmap::IndexMap;
use serde_json::Value as Json;

use super::component::{check_component, find_component};
use super::lower::{Lowering, NestedNode};
use super::mention::Mentioned;
use super::{message, retyped};
use crate::file::File;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_document::{Entry, KeyOrValue, PathSegment, Table, Value};
use pipe_vocab::{Checked, Contract, Descriptor, Facts, Kind, NodeId};

/// A node with its component and its checked options.
pub struct PlanNode {
    /// Its name.
    pub id: NodeId,
    /// Its component.
    pub descriptor: &'static Descriptor,
    /// Its options as JSON, without `type`; properties of other nodes have stand-ins.
    pub config: Json,
    /// Its options as the component's own struct, where they are right.
    pub component: Option<Box<dyn Checked>>,
    /// The components written in place in its options, in the order of the text.
    pub nested: Vec<NestedNode>,
    /// The table's name in the file.
    pub location: Location,
    /// The same to show, such as `pipeline.toml:15:2`.
    pub place: String,
}

impl PlanNode {
    /// The context of an error about building it.
    pub fn cannot_build(&self) -> CannotBuild {
        CannotBuild { node: self.id.clone(), place: self.place.clone() }
    }

    /// Whether its component has an option of this name.
    pub fn takes(&self, option: &str) -> bool {
        self.descriptor.schema()["properties"].get(option).is_some()
    }

    /// The fields it reads and writes, what is written in place in it coming after itself.
    pub fn contract(&self) -> Contract {
        let own = self.component.as_ref().map(|component| component.contract()).unwrap_or_default();
        self.nested.iter().fold(own, |all, nested| all.then(&nested.component.contract()))
    }

    /// What it says of itself, without what is written in place in it.
    pub fn facts(&self) -> Facts {
        self.component.as_ref().map(|component| component.facts()).unwrap_or_default()
    }

    /// Names of the values it produces.
    pub fn values(&self) -> Vec<String> {
        self.component.as_ref().map(|component| component.values()).unwrap_or_default()
    }
}

/// Which node an error is about, and where that is in the file.
#[derive(Debug)]
pub struct CannotBuild {
    /// The node.
    pub node: NodeId,
    place: String,
}

impl fmt::Display for CannotBuild {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot build {} ({})", self.node, self.place)
    }
}

/// What reading the tables gave.
pub(super) struct Read {
    /// The nodes whose component is known.
    pub nodes: IndexMap<NodeId, PlanNode>,
    /// Nodes that are there but whose component is not known: references to them are not dangling.
    pub unreadable: BTreeSet<NodeId>,
    /// What each node says of others.
    pub mentions: IndexMap<NodeId, Vec<Mentioned>>,
    /// Values that must never be shown.
    pub secrets: Vec<Vec<PathSegment>>,
    /// Texts of the environment that are of another type.
    pub typed: Vec<(Vec<PathSegment>, Value)>,
    /// Keys that a node has from before its `type` was overridden, and that its component does not have.
    pub dropped: Vec<(NodeId, String)>,
}

/// Sections that are not kinds.
const SECTIONS: [&str; 4] = ["pipeline", "on", "plugins", "checks"];

pub(super) fn read(file: File<'_>, found: &mut Diagnostics) -> Read {
    let mut read = Read {
        nodes: IndexMap::new(),
        unreadable: BTreeSet::new(),
        mentions: IndexMap::new(),
        secrets: Vec::new(),
        typed: Vec::new(),
        dropped: Vec::new(),
    };
    for (section, entry) in file.document.root().iter().filter(|(section, _)| !SECTIONS.contains(section)) {
        match (Kind::parse(section), entry.node.as_table()) {
            (None, _) if found.is_full() => found.push(Diagnostic::error("unknown-section", section)),
            (None, _) => found.push(unknown_section(section, entry)),
            (Some(kind), None) => {
                let message = format!("`{kind}` must contain tables, found {}", message::found(&entry.node.value));
                let help = format!("write `[{kind}.NAME]`");
                found.push(Diagnostic::error("wrong-type", message).at(entry.node.location.clone()).help(help));
            }
            (Some(kind), Some(table)) => {
                for (name, entry) in table.iter() {
                    read_node(&mut read, file, NodeId::new(kind, name), entry, found);
                }
            }
        }
    }
    read
}

fn unknown_section(section: &str, entry: &Entry) -> Diagnostic {
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str());
    let names = kinds.chain(SECTIONS).chain(["vars", "profile", "extends", "sweep", "submit"]);
    let help = match suggest(section, names) {
        Some(near) => format!("did you mean `{near}`?"),
        None if ["loss", "losses", "criterion"].contains(&section) => {
            "a loss is an option of the model: loss = { type = \"cross_entropy\" } in its table".to_owned()
        }
        None => {
            let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
            format!("the kinds of nodes are {}", message::list(&kinds))
        }
    };
    let message = format!("there is no section or kind `{section}`");
    Diagnostic::error("unknown-section", message).at(entry.key.clone()).help(help)
}

fn read_node(read: &mut Read, file: File<'_>, id: NodeId, entry: &Entry, found: &mut Diagnostics) {
    let Some(table) = node_table(&id, entry, found) else {
        read.unreadable.insert(id);
        return;
    };
    let at = entry.key.clone();
    let descriptor = match find_component(file.catalog, id.kind, table, &at, &format!("`{id}`")) {
        Ok(descriptor) => descriptor,
        Err(diagnostic) => {
            found.push(*diagnostic);
            read.unreadable.insert(id);
            return;
        }
    };
    let dropped = retyped::foreign(file, &id, descriptor, table, found);
    let own = (!dropped.is_empty()).then(|| without(table, &dropped));
    let table = own.as_ref().unwrap_or(table);
    read.dropped.extend(dropped.into_iter().map(|key| (id.clone(), key)));
    let base = vec![PathSegment::from(id.kind.as_str()), PathSegment::from(&*id.name)];
    let mut lowering = Lowering::new(file.document, file.sources, file.catalog, descriptor.schema(), base);
    let what = format!("`{}` (type `{}`)", id, descriptor.name);
    let config = lowering.table(table, &at, &["type"], &what);
    if let Some(diagnostic) = undriven(descriptor, table, &at, &what) {
        let keys = ["optimizer", "target"];
        let base = [id.kind.as_str().into(), (&*id.name).into()];
        let help = keys.iter().find_map(|key| retyped::help(file.document, file.sources, &base, key));
        lowering.diagnostics.push(diagnostic.maybe_help(help));
    }
    let wrong = lowering.diagnostics.has_errors() || lowering.wrong_port;
    found.extend(lowering.diagnostics);
    read.secrets.extend(lowering.secrets);
    read.typed.extend(lowering.typed);
    read.mentions.insert(id.clone(), lowering.mentions);
    let mut component = None;
    if !wrong {
        match check_component(descriptor, config.clone()) {
            Ok(checked) => component = Some(checked),
            Err(errors) => {
                for (steps, message, help) in errors {
                    let at = entry.node.locate(&steps, KeyOrValue::Value);
                    found.push(Diagnostic::error("invalid-option", message).at(at).maybe_help(help));
                }
            }
        }
    }
    let (nested, place) = (lowering.nested, file.sources.place(&at));
    read.nodes.insert(id.clone(), PlanNode { id, descriptor, config, component, nested, location: at, place });
}

fn without(table: &Table, keys: &[String]) -> Table {
    let mut left = table.clone();
    keys.iter().for_each(|key| drop(left.remove(key)));
    left
}

/// A scheduler that drives nothing, or two things. Not a matter of its own check: a part of another scheduler drives nothing.
fn undriven(descriptor: &Descriptor, table: &Table, at: &Location, what: &str) -> Option<Diagnostic> {
    let keys = ["optimizer", "target"];
    let options = descriptor.schema().get("properties")?;
    let given: Vec<&Entry> = keys.iter().filter_map(|key| table.entry(key)).collect();
    if descriptor.kind != Kind::Scheduler || !keys.iter().all(|key| options.get(key).is_some()) || given.len() == 1 {
        return None;
    }
    let Some(second) = given.get(1) else {
        let diagnostic =
            Diagnostic::error("missing-key", format!("{what} needs `optimizer` or `target`")).at(at.clone());
        return Some(diagnostic.help("name what it schedules: optimizer = \"optimizer.NAME\""));
    };
    let message = format!("{what} has both `optimizer` and `target`");
    Some(Diagnostic::error("invalid-option", message).at(second.key.clone()).help("keep one of them"))
}

fn node_table<'d>(id: &NodeId, entry: &'d Entry, found: &mut Diagnostics) -> Option<&'d Table> {
    if id.to_string().parse::<NodeId>().is_err() {
        let message = format!("`{}` is not a valid node name", id.name);
        let help = "use letters, digits, `_` and `-`";
        found.push(Diagnostic::error("bad-name", message).at(entry.key.clone()).help(help));
        return None;
    }
    let table = entry.node.as_table();
    if table.is_none() {
        let message = format!("`{id}` must be a table, found {}", message::found(&entry.node.value));
        let help = format!("nodes have names: write `[{}.NAME]`, and `{}` inside it", id.kind, id.name);
        found.push(Diagnostic::error("wrong-type", message).at(entry.node.location.clone()).help(help));
    }
    table
}
