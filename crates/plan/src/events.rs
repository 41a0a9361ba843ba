//! The `[[on]]` tables: when this happens, run these, in this order.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::lower::Lowering;
use super::message;
use super::names::exists;
use super::nodes::PlanNode;
use crate::file::File;
use pipe_document::diagnostic::{Diagnostic, Diagnostics, Location, suggest};
use pipe_document::{Node, PathSegment, Table};
use pipe_vocab::{Filter, Kind, NodeId};

/// When this happens, run these.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OnConfig {
    /// A name, by which a file that extends this one, a profile or `--set on.NAME.KEY=…` changes the edge.
    #[serde(default)]
    pub name: Option<String>,
    /// The event, `NODE:EVENT`, or several; `pipe components engine.train` lists those of an engine.
    pub event: OneOrMany<String>,
    /// The nodes to run, in this order: handlers are called, schedulers stepped, engines run to completion, metrics
    /// computed (`metric.x:update`, `metric.x:reset` do the rest), sinks flushed.
    #[schemars(length(min = 1))]
    pub run: Vec<String>,
    /// Every n-th time; with `after`, counted from there.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub every: Option<u64>,
    /// At this count, or at these, once each.
    #[serde(default)]
    pub once: Option<OneOrMany<u64>>,
    /// Only while the count is below this.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub before: Option<u64>,
    /// Only once the count is above this.
    #[serde(default)]
    pub after: Option<u64>,
    /// Also the first time, whatever `every` says.
    #[serde(default)]
    pub first: bool,
}

/// One value, or a list of them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany<T> {
    /// One.
    One(T),
    /// Several.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub fn into_vec(self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one],
            OneOrMany::Many(many) => many,
        }
    }
}

/// What a target does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// A handler is called.
    Call,
    /// A scheduler is stepped.
    Step,
    /// An engine is run to completion.
    Run,
    /// A metric forgets what it has seen.
    Reset,
    /// A metric takes in the iteration.
    Update,
    /// A metric is computed.
    Compute,
    /// A sink is flushed.
    Flush,
}

impl Action {
    /// The action as a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Call => "call",
            Action::Step => "step",
            Action::Run => "run",
            Action::Reset => "reset",
            Action::Update => "update",
            Action::Compute => "compute",
            Action::Flush => "flush",
        }
    }
}

/// A target of an event.
#[derive(Debug, Clone)]
pub struct EventTarget {
    /// The node.
    pub node: NodeId,
    /// What it does.
    pub action: Action,
    /// Where it is written.
    pub location: Location,
}

/// One `[[on]]` table.
#[derive(Debug, Clone)]
pub struct EventEdge {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The events: node, event name, place.
    pub events: Vec<(NodeId, String, Location)>,
    /// On which occurrences.
    pub filter: Filter,
    /// What runs, in this order.
    pub targets: Vec<EventTarget>,
    /// Where the table is written.
    pub location: Location,
}

/// The JSON schema of one table.
pub fn schema() -> &'static Json {
    static SCHEMA: OnceLock<Json> = OnceLock::new();
    SCHEMA.get_or_init(pipe_vocab::schema_of::<OnConfig>)
}

type Nodes = IndexMap<NodeId, PlanNode>;

pub(super) fn read(
    file: File<'_>,
    nodes: &Nodes,
    unreadable: &BTreeSet<NodeId>,
    found: &mut Diagnostics,
) -> Vec<EventEdge> {
    let Some(section) = file.document.root().get("on") else { return Vec::new() };
    let Some(tables) = section.as_array() else {
        let message = format!("`on` must be an array of tables, found {}", message::found(&section.value));
        found.push(Diagnostic::error("wrong-type", message).at(section.location.clone()).help("write `[[on]]`"));
        return Vec::new();
    };
    let mut reader = Reader { file, nodes, unreadable, found };
    let edges: Vec<EventEdge> =
        tables.iter().enumerate().filter_map(|(index, node)| reader.edge(index, node)).collect();
    check_twice(&edges, found);
    edges
}

/// What two edges do on the same occurrences of the same event, though once is meant: a file that extends another repeats its edges.
fn check_twice(edges: &[EventEdge], found: &mut Diagnostics) {
    let mut first: HashMap<_, (usize, &Location)> = HashMap::new();
    for (index, edge) in edges.iter().enumerate() {
        let counted = |target: &&EventTarget| matches!(target.action, Action::Step | Action::Run | Action::Update);
        for target in edge.targets.iter().filter(counted) {
            for (node, event, _) in &edge.events {
                let filter = format!("{:?}", edge.filter);
                let key = (node, event, filter, &target.node, target.action);
                // Twice in one edge is reported with the edge.
                let earlier = first.insert(key, (index, &target.location)).filter(|(edge, _)| *edge != index);
                let Some((_, first)) = earlier else { continue };
                let message = format!("two event edges run `{}` on `{node}:{event}`, so it runs twice", target.node);
                let diagnostic = Diagnostic::error("duplicate-target", message).at(target.location.clone());
                let help = "remove one of the two; a file that extends another adds to its edges, and changes one by its `name`";
                found.push(diagnostic.label(first.clone(), "first here").help(help));
            }
        }
    }
}

struct Reader<'a> {
    file: File<'a>,
    nodes: &'a Nodes,
    unreadable: &'a BTreeSet<NodeId>,
    found: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn edge(&mut self, index: usize, node: &Node) -> Option<EventEdge> {
        let Some(table) = node.as_table() else {
            let message = format!("an event edge must be a table, found {}", message::found(&node.value));
            self.found.push(Diagnostic::error("wrong-type", message).at(node.location.clone()));
            return None;
        };
        let base = vec!["on".into(), PathSegment::Index(index)];
        let mut lowering = Lowering::new(self.file.document, self.file.sources, self.file.catalog, schema(), base);
        let json = lowering.table(table, &node.location, &[], "`[[on]]`");
        let wrong = lowering.diagnostics.has_errors();
        if let Some(problem) = self.misnamed(table) {
            lowering.diagnostics.retain(|found| found.code != "missing-key");
            self.found.push(problem);
        }
        self.found.extend(lowering.diagnostics);
        let events: Vec<_> = texts(table, "event").filter_map(|(text, at)| self.event(text, at)).collect();
        let targets: Vec<_> = texts(table, "run").filter_map(|(text, at)| self.target(text, at)).collect();
        if let Some((name, at)) = texts(table, "name").find(|(name, _)| !is_name(name)) {
            let message = format!("`{name}` is not a valid name of an event edge");
            let diagnostic = Diagnostic::error("bad-name", message).at(at.clone());
            self.found.push(diagnostic.help("use letters, digits, `_` and `-`"));
        }
        self.check_repeated(&targets);
        self.check_updates(&events, &targets);
        if wrong {
            return None;
        }
        let config: OnConfig = match serde_json::from_value(json) {
            Ok(config) => config,
            Err(error) => {
                self.found.push(Diagnostic::error("invalid-option", error.to_string()).at(node.location.clone()));
                return None;
            }
        };
        if let (Some(before), Some(after)) = (config.before, config.after)
            && before <= after + 1
        {
            let message = format!("no count is above {after} and below {before}: this never runs");
            let at = table.get("before").map_or(&node.location, |node| &node.location);
            self.found.push(Diagnostic::error("never-runs", message).at(at.clone()));
        }
        let filter = Filter {
            every: config.every,
            once: config.once.map(OneOrMany::into_vec).unwrap_or_default(),
            before: config.before,
            after: config.after,
            first: config.first,
        };
        Some(EventEdge { name: config.name, events, filter, targets, location: node.location.clone() })
    }

    /// An edge that lacks what the one with nearly its name has: it was meant to change that one.
    fn misnamed(&self, table: &Table) -> Option<Diagnostic> {
        let (name, at) = texts(table, "name").next().filter(|_| table.get("event").is_none())?;
        let edges = self.file.document.root().get("on")?.as_array()?;
        let others: Vec<&str> = edges
            .iter()
            .filter_map(|edge| edge.as_table()?.get("name")?.as_str())
            .filter(|other| *other != name)
            .collect();
        let near = suggest(name, others)?;
        let message = format!("the event edge `{name}` has no `event`, and no other has its name");
        Some(Diagnostic::error("missing-key", message).at(at.clone()).help(format!("did you mean `{near}`?")))
    }

    fn event(&mut self, text: &str, at: &Location) -> Option<(NodeId, String, Location)> {
        let parsed = text.split_once(':').and_then(|(node, event)| Some((node.parse::<NodeId>().ok()?, event)));
        let Some((id, event)) = parsed else {
            let message = format!("`{text}` is not an event");
            let help = "write `NODE:EVENT`, such as `engine.trainer:epoch_completed`";
            self.found.push(Diagnostic::error("bad-reference", message).at(at.clone()).help(help));
            return None;
        };
        if !exists(&id, self.nodes, self.unreadable, at, self.found) {
            return None;
        }
        let known: Vec<&str> = self.nodes.get(&id)?.descriptor.events.iter().map(|event| event.name).collect();
        if !known.contains(&event) {
            let help = match (suggest(event, known.iter().copied()), known.as_slice()) {
                (Some(near), _) => format!("did you mean `{id}:{near}`?"),
                (None, []) => format!("{} does not fire events; only engines do", id.kind.with_article()),
                (None, names) => format!("its events are {}", message::list(names)),
            };
            let message = format!("`{id}` has no event `{event}`");
            self.found.push(Diagnostic::error("unknown-event", message).at(at.clone()).help(help));
            return None;
        }
        Some((id, event.to_owned(), at.clone()))
    }

    fn target(&mut self, text: &str, at: &Location) -> Option<EventTarget> {
        let (name, word) = text.split_once(':').map_or((text, None), |(name, word)| (name, Some(word)));
        let Ok(node) = name.parse::<NodeId>() else {
            let message = format!("`{text}` does not name a node");
            let help = match self.nodes.keys().find(|id| *id.name == *name) {
                Some(id) => format!("write the full name: `{id}`"),
                None => "write the full name of a node, such as `handler.checkpoint`".into(),
            };
            self.found.push(Diagnostic::error("bad-reference", message).at(at.clone()).help(help));
            return None;
        };
        let action = match (node.kind, word) {
            (Kind::Handler, None | Some("call")) => Action::Call,
            (Kind::Scheduler, None | Some("step")) => Action::Step,
            (Kind::Engine, None | Some("run")) => Action::Run,
            (Kind::Metric, None | Some("compute")) => Action::Compute,
            (Kind::Metric, Some("update")) => Action::Update,
            (Kind::Metric, Some("reset")) => Action::Reset,
            (Kind::Sink, None | Some("flush")) => Action::Flush,
            (kind, word) => {
                self.found.push(bad_action(&node, kind, word, at));
                return None;
            }
        };
        let there = exists(&node, self.nodes, self.unreadable, at, self.found);
        there.then(|| EventTarget { node, action, location: at.clone() })
    }

    fn check_repeated(&mut self, targets: &[EventTarget]) {
        for (index, target) in targets.iter().enumerate() {
            let same = |other: &&EventTarget| other.node == target.node && other.action == target.action;
            if let Some(first) = targets[..index].iter().find(same) {
                let message = format!("`{}` is listed twice for the same event", target.node);
                let diagnostic = Diagnostic::error("duplicate-target", message).at(target.location.clone());
                self.found.push(diagnostic.label(first.location.clone(), "first here").help("remove one of the two"));
            }
        }
    }

    fn check_updates(&mut self, events: &[(NodeId, String, Location)], targets: &[EventTarget]) {
        let update = targets.iter().find(|target| target.action == Action::Update);
        let other =
            events.iter().find(|(_, event, _)| event != pipe_vocab::event::EngineEvent::IterationCompleted.name());
        if let (Some(target), Some((node, event, _))) = (update, other) {
            let message =
                format!("`{}` cannot be updated on `{node}:{event}`: there is no batch at that point", target.node);
            let help = format!("use `{node}:iteration_completed`");
            self.found.push(Diagnostic::error("wrong-event", message).at(target.location.clone()).help(help));
        }
    }
}

fn bad_action(node: &NodeId, kind: Kind, word: Option<&str>, at: &Location) -> Diagnostic {
    let message = match word {
        Some(word) => format!("{} cannot `{word}`", kind.with_article()),
        None => format!("an event cannot run {}: `{node}`", kind.with_article()),
    };
    let help = match (word, kind) {
        (Some(_), Kind::Metric) => "a metric can `reset`, `update` and `compute`".to_owned(),
        (Some(_), Kind::Handler | Kind::Scheduler | Kind::Engine | Kind::Sink) => format!("write `{node}`"),
        _ => "events run handlers, schedulers, engines, metrics and sinks".to_owned(),
    };
    Diagnostic::error("wrong-kind", message).at(at.clone()).help(help)
}

/// Whether a text can stand in `on.NAME`, as the name of a node in `KIND.NAME`.
fn is_name(text: &str) -> bool {
    NodeId::new(Kind::Engine, text).to_string().parse::<NodeId>().is_ok()
}

/// The texts under a key, be it one or a list, with their places.
fn texts<'t>(table: &'t Table, key: &str) -> impl Iterator<Item = (&'t str, &'t Location)> {
    let node = table.get(key);
    let one = node.filter(|node| node.as_str().is_some());
    let many = node.and_then(Node::as_array).unwrap_or_default();
    one.into_iter().chain(many).filter_map(|node| Some((node.as_str()?, &node.location)))
}
