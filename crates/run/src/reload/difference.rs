//! What differs between two plans. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json};

use crate::load::Loaded;
use pipe_core::{Filter, Kind, NodeId, Reload};
use pipe_document::{Document, KeyOrValue, PathSegment, path_text};
use pipe_plan::{Action, EventEdge, Plan, PlanNode, pipeline};

/// The option of a model whose edit loads weights.
pub const WEIGHTS: &str = "weights";
/// The option beside it: whether optimizers and averages take theirs, too.
pub const OPTIMIZER_STATE: &str = "optimizer_state";

/// One thing that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The node; `None` for the pipeline's own section and for event edges.
    pub node: Option<NodeId>,
    /// What differs.
    pub what: What,
}

/// What differs.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The node is new.
    Added {
        /// Its `type`.
        ty: String,
    },
    /// The node is gone.
    Removed {
        /// Its `type`.
        ty: String,
    },
    /// The node has another `type`.
    Retyped {
        /// The `type` before.
        from: String,
        /// The `type` now.
        to: String,
    },
    /// The component itself is another one under the same name: its library was rebuilt.
    Replaced {
        /// Its `type`.
        ty: String,
    },
    /// An option, of a node or of `[pipeline]`.
    Option {
        /// Steps from the table to the value.
        path: Vec<PathSegment>,
        /// The value before; `None` where there was none.
        from: Option<Json>,
        /// The value now; `None` where there is none.
        to: Option<Json>,
        /// What that means to a run.
        class: Reload,
    },
    /// An event edge is new: its index among the `[[on]]` tables.
    EventAdded {
        /// The index.
        index: usize,
        /// The edge in words.
        text: String,
    },
    /// An event edge is gone.
    EventRemoved {
        /// The edge in words.
        text: String,
    },
    /// The same event edges stand order changed.
    EventsReordered,
}

impl Change {
    /// The name of what differs: `optimizer.sgd.lr`, `handler.stop`, `[[on]]`.
    pub fn name(&self) -> String {
        match (&self.node, &self.what) {
            (node, What::Option { path, .. }) => {
                let node = node.as_ref().map_or("pipeline".to_owned(), ToString::to_string);
                format!("{node}.{}", path_text(path))
            }
            (Some(node), _) => node.to_string(),
            (None, _) => "[[on]]".into(),
        }
    }

    /// What differs, in words: `0.05 → 0.01`.
    pub fn describe(&self) -> String {
        let shown = |value: &Option<Json>| value.as_ref().map_or("(not set)".to_owned(), short);
        match &self.what {
            What::Added { ty } => format!("added (type `{ty}`)"),
            What::Removed { ty } => format!("removed (type `{ty}`)"),
            What::Retyped { from, to } => format!("type `{from}` → `{to}`"),
            What::Replaced { ty } => format!("the component `{ty}` was rebuilt"),
            What::Option { from, to, .. } => format!("{} → {}", shown(from), shown(to)),
            What::EventAdded { text, .. } => format!("added: {text}"),
            What::EventRemoved { text } => format!("removed: {text}"),
            What::EventsReordered => "order changed".into(),
        }
    }

    /// Whether it is about event edges.
    pub fn is_event(&self) -> bool {
        matches!(self.what, What::EventAdded { .. } | What::EventRemoved { .. } | What::EventsReordered)
    }

    /// The gentlest way in which a run can take it.
    pub fn class(&self) -> Reload {
        match &self.what {
            What::Option { class, .. } => *class,
            What::Retyped { .. } | What::Replaced { .. } => Reload::Rebuild,
            _ => Reload::Hot,
        }
    }

    /// Whether it is an option of this name, not one inside of it.
    pub fn is_of(&self, option: &str) -> bool {
        matches!(&self.what, What::Option { path, .. } if *path == [PathSegment::from(option)])
    }

    /// Whether it loads weights into a model at work, which is not built anew for that.
    pub fn is_load(&self) -> bool {
        let of_model = self.node.as_ref().is_some_and(|id| id.kind == Kind::Model);
        of_model && self.class() == Reload::Hot && [WEIGHTS, OPTIMIZER_STATE].iter().any(|name| self.is_of(name))
    }

    /// The option, from the document's root.
    pub fn pointer(&self) -> Vec<PathSegment> {
        let mut pointer: Vec<PathSegment> = match &self.node {
            Some(node) => vec![node.kind.as_str().into(), (&*node.name).into()],
            None => Vec::new(),
        };
        match &self.what {
            What::Option { path, .. } => {
                if self.node.is_none() {
                    pointer.push("pipeline".into());
                }
                pointer.extend(path.iter().cloned());
            }
            What::EventAdded { index, .. } => pointer.extend(["on".into(), PathSegment::Index(*index)]),
            What::EventRemoved { .. } | What::EventsReordered => pointer.push("on".into()),
            What::Retyped { .. } => pointer.push("type".into()),
            What::Added { .. } | What::Removed { .. } | What::Replaced { .. } => {}
        }
        pointer
    }

    /// Where it is written in the new pipeline, with the variables behind it; the nearest table for what is gone.
    pub fn place(&self, new: &Loaded) -> String {
        let Some(document) = &new.document else { return String::new() };
        let mut pointer = self.pointer();
        loop {
            if let Some(node) = document.get_at(&pointer) {
                return node.origin.describe(&node.location, &new.sources);
            }
            if pointer.pop().is_none() {
                let start = document.locate(&[], KeyOrValue::Key);
                return new.sources.name(start.source).to_owned();
            }
        }
    }

    /// The change with values masked that must not be shown, by the pipeline before or by the one now.
    pub fn masked(mut self, old: Option<&Document>, new: Option<&Document>) -> Change {
        let pointer = self.pointer();
        if old.into_iter().chain(new).any(|document| document.holds_secret(&pointer))
            && let What::Option { from, to, .. } = &mut self.what
        {
            (*from, *to) = (Some("<secret>".into()), Some("<secret>".into()));
        }
        self
    }
}

/// A value short enough for a line.
fn short(value: &Json) -> String {
    const LENGTH: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LENGTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Everything that differs: `[pipeline]`, then nodes in the order of the new file, then nodes that are gone, then events.
pub fn difference(old: &Plan, new: &Plan) -> Vec<Change> {
    let mut changes = Vec::new();
    let (before, after) = (json_of(&old.pipeline), json_of(&new.pipeline));
    let class = |option: &str| Reload::of_option(pipeline::schema(), option);
    compare_options(None, &before, &after, class, &mut changes);
    for (id, node) in &new.nodes {
        match old.nodes.get(id) {
            None => changes.push(of(id, What::Added { ty: node.descriptor.name.into() })),
            Some(before) => compare_nodes(old, before, new, node, &mut changes),
        }
    }
    for (id, node) in old.nodes.iter().filter(|(id, _)| !new.nodes.contains_key(*id)) {
        changes.push(of(id, What::Removed { ty: node.descriptor.name.into() }));
    }
    compare_events(&old.event_edges, &new.event_edges, &mut changes);
    changes
}

fn of(id: &NodeId, what: What) -> Change {
    Change { node: Some(id.clone()), what }
}

fn json_of(value: &impl serde::Serialize) -> Map<String, Json> {
    match serde_json::to_value(value) {
        Ok(Json::Object(map)) => map,
        _ => Map::new(),
    }
}

fn compare_nodes(old: &Plan, before: &PlanNode, new: &Plan, after: &PlanNode, changes: &mut Vec<Change>) {
    let (from, to) = (before.descriptor, after.descriptor);
    if from.name != to.name {
        changes.push(of(&after.id, What::Retyped { from: from.name.into(), to: to.name.into() }));
        return;
    }
    if !std::ptr::eq(from, to) {
        changes.push(of(&after.id, What::Replaced { ty: to.name.into() }));
    }
    let class = |option: &str| Reload::of_option(to.schema(), option);
    compare_options(Some(&after.id), &options_of(old, before), &options_of(new, after), class, changes);
}

/// A node's options with defaults filled in, and the names of properties where those stand for values.
fn options_of(plan: &Plan, node: &PlanNode) -> Map<String, Json> {
    let mut options = match node.component.as_ref().map(|component| component.to_json()) {
        Some(Json::Object(options)) => options,
        _ => node.config.as_object().cloned().unwrap_or_default(),
    };
    for edge in plan.property_edges.iter().filter(|edge| edge.to == node.id) {
        let name = Json::from(format!("{}:{}", edge.from, edge.property));
        let mut options_value = Json::Object(std::mem::take(&mut options));
        if let Some(slot) = pipe_plan::component::slot(&mut options_value, &edge.option) {
            *slot = name;
        }
        if let Json::Object(map) = options_value {
            options = map;
        }
    }
    options
}

fn compare_options(
    node: Option<&NodeId>,
    from: &Map<String, Json>,
    to: &Map<String, Json>,
    class: impl Fn(&str) -> Reload,
    changes: &mut Vec<Change>,
) {
    let keys: Vec<&String> = to.keys().chain(from.keys().filter(|key| !to.contains_key(*key))).collect();
    for key in keys {
        let mut differ = Vec::new();
        compare(&mut vec![key.as_str().into()], from.get(key), to.get(key), &mut differ);
        let class = class(key);
        changes.extend(
            differ
                .into_iter()
                .map(|(path, from, to)| Change { node: node.cloned(), what: What::Option { path, from, to, class } }),
        );
    }
}

type Difference = (Vec<PathSegment>, Option<Json>, Option<Json>);

/// Goes down as far as both sides have tables, or lists of tables of one length.
fn compare(path: &mut Vec<PathSegment>, from: Option<&Json>, to: Option<&Json>, found: &mut Vec<Difference>) {
    let set = |value: Option<&Json>| value.filter(|value| !value.is_null()).cloned();
    match (from, to) {
        (Some(Json::Object(a)), Some(Json::Object(b))) if a.get("type") == b.get("type") => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                path.push(key.as_str().into());
                compare(path, a.get(key), b.get(key), found);
                path.pop();
            }
        }
        (Some(Json::Array(a)), Some(Json::Array(b))) if a.len() == b.len() && b.iter().all(Json::is_object) => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                path.push(index.into());
                compare(path, Some(a), Some(b), found);
                path.pop();
            }
        }
        _ => {
            let (from, to) = (set(from), set(to));
            if from != to {
                found.push((path.clone(), from, to));
            }
        }
    }
}

/// An event edge without its places.
#[derive(PartialEq)]
struct Signature<'p> {
    events: Vec<(&'p NodeId, &'p str)>,
    filter: &'p Filter,
    targets: Vec<(&'p NodeId, Action)>,
}

fn signature(edge: &EventEdge) -> Signature<'_> {
    Signature {
        events: edge.events.iter().map(|(node, event, _)| (node, event.as_str())).collect(),
        filter: &edge.filter,
        targets: edge.targets.iter().map(|target| (&target.node, target.action)).collect(),
    }
}

fn compare_events(old: &[EventEdge], new: &[EventEdge], changes: &mut Vec<Change>) {
    let before: Vec<_> = old.iter().map(signature).collect();
    let mut left: Vec<bool> = vec![true; old.len()];
    let mut order = Vec::new();
    for (index, edge) in new.iter().enumerate() {
        let own = signature(edge);
        match (0..old.len()).find(|i| left[*i] && before[*i] == own) {
            Some(i) => {
                left[i] = false;
                order.push(i);
            }
            None => changes.push(Change { node: None, what: What::EventAdded { index, text: edge_text(edge) } }),
        }
    }
    for (edge, _) in old.iter().zip(left).filter(|(_, left)| *left) {
        changes.push(Change { node: None, what: What::EventRemoved { text: edge_text(edge) } });
    }
    if !order.is_sorted() {
        changes.push(Change { node: None, what: What::EventsReordered });
    }
}

/// `engine.trainer:epoch_completed, every 2 → scheduler.decay, handler.checkpoint`.
fn edge_text(edge: &EventEdge) -> String {
    let events: Vec<String> = edge.events.iter().map(|(node, event, _)| format!("{node}:{event}")).collect();
    let targets: Vec<String> = edge
        .targets
        .iter()
        .map(|target| match target.action {
            Action::Reset | Action::Update => format!("{}:{}", target.node, target.action.as_str()),
            _ => target.node.to_string(),
        })
        .collect();
    let Filter { every, once, before, after, first } = &edge.filter;
    let mut text = edge.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default() + &events.join(" or ");
    let mut add = |word: &str, value: String| text.push_str(&format!(", {word} {value}"));
    every.iter().for_each(|n| add("every", n.to_string()));
    once.iter().for_each(|n| add("once at", n.to_string()));
    after.iter().for_each(|n| add("after", n.to_string()));
    before.iter().for_each(|n| add("before", n.to_string()));
    if *first {
        add("also the", "first".into());
    }
    format!("{text} → {}", targets.join(", "))
}
