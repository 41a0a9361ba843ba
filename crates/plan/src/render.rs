//! The plan as text, dot, mermaid and JSON: nodes, data edges, event edges, order.

use std::fmt::Write;

use serde_json::{Value as Json, json};

use super::{EventEdge, Plan};
use pipe_document::path_text;
use pipe_vocab::Filter;

impl Plan {
    /// The graph for people.
    pub fn render_text(&self) -> String {
        let mut text = String::from("nodes, in build order\n");
        let width = self.order.iter().map(|id| id.to_string().len()).max().unwrap_or(0);
        for id in &self.order {
            let Some(node) = self.nodes.get(id) else { continue };
            let ports: Vec<String> = self
                .data_edges
                .iter()
                .filter(|edge| edge.to == *id)
                .map(|edge| format!("{} ← {}", edge.port_name(), edge.from))
                .chain(
                    self.property_edges
                        .iter()
                        .filter(|edge| edge.to == *id)
                        .map(|edge| format!("{} ← {}:{}", path_text(&edge.option), edge.from, edge.property)),
                )
                .collect();
            let name = format!("{:width$}", id.to_string());
            let _ = writeln!(text, "  {name}  {:18} {}", node.descriptor.name, ports.join(", "));
        }
        text.push_str("\nevents and their targets, in order\n");
        for edge in &self.event_edges {
            let events: Vec<String> = edge.events.iter().map(|(node, event, _)| format!("{node}:{event}")).collect();
            let name = edge.name.as_ref().map(|name| format!("  ({name})")).unwrap_or_default();
            let _ = writeln!(text, "  {}{}{name}", events.join(" or "), filter_text(&edge.filter));
            for (index, target) in edge.targets.iter().enumerate() {
                let _ = writeln!(text, "    {}. {} {}", index + 1, target.action.as_str(), target.node);
            }
        }
        let roots: Vec<String> = self.roots.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\nruns: {}", if roots.is_empty() { "nothing".into() } else { roots.join(", then ") });
        text
    }

    /// The graph in Graphviz's language; event edges are dashed and numbered in the order of their targets.
    pub fn render_dot(&self) -> String {
        let mut text = String::from("digraph pipeline {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
        for id in &self.order {
            let Some(node) = self.nodes.get(id) else { continue };
            let _ = writeln!(text, "  \"{id}\" [label=\"{id}\\n{}\"];", node.descriptor.name);
        }
        for (from, to, label) in self.labelled_data_edges() {
            let _ = writeln!(text, "  \"{from}\" -> \"{to}\" [label=\"{label}\"];");
        }
        for (from, to, label) in self.labelled_event_edges() {
            let _ = writeln!(text, "  \"{from}\" -> \"{to}\" [style=dashed, label=\"{label}\"];");
        }
        text.push_str("}\n");
        text
    }

    /// The graph in Mermaid's language.
    pub fn render_mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        let key = |id: &str| id.replace(['.', '-'], "_");
        for id in &self.order {
            let Some(node) = self.nodes.get(id) else { continue };
            let _ = writeln!(text, "  {}[\"{id}<br/>{}\"]", key(&id.to_string()), node.descriptor.name);
        }
        for (from, to, label) in self.labelled_data_edges() {
            let _ = writeln!(text, "  {} -->|\"{label}\"| {}", key(&from), key(&to));
        }
        for (from, to, label) in self.labelled_event_edges() {
            let _ = writeln!(text, "  {} -.->|\"{label}\"| {}", key(&from), key(&to));
        }
        text
    }

    /// The graph for tools.
    pub fn render_json(&self) -> Json {
        let nodes: Vec<Json> = self
            .order
            .iter()
            .filter_map(|id| self.nodes.get(id))
            .map(|node| json!({ "name": node.id.to_string(), "kind": node.id.kind, "type": node.descriptor.name }))
            .collect();
        let data: Vec<Json> = self
            .data_edges
            .iter()
            .map(|edge| json!({ "from": edge.from.to_string(), "to": edge.to.to_string(), "port": edge.port_name() }))
            .collect();
        let properties: Vec<Json> = self
            .property_edges
            .iter()
            .map(|edge| {
                json!({ "from": edge.from.to_string(), "property": edge.property, "to": edge.to.to_string(),
                        "option": path_text(&edge.option) })
            })
            .collect();
        let events: Vec<Json> = self.event_edges.iter().map(event_json).collect();
        let roots: Vec<String> = self.roots.iter().map(ToString::to_string).collect();
        json!({ "nodes": nodes, "data": data, "properties": properties, "events": events, "runs": roots })
    }

    fn labelled_data_edges(&self) -> impl Iterator<Item = (String, String, String)> {
        let data = self.data_edges.iter().map(|edge| (edge.from.to_string(), edge.to.to_string(), edge.port_name()));
        let properties = self.property_edges.iter().map(|edge| {
            (edge.from.to_string(), edge.to.to_string(), format!("{} = {}", path_text(&edge.option), edge.property))
        });
        data.chain(properties)
    }

    fn labelled_event_edges(&self) -> impl Iterator<Item = (String, String, String)> {
        self.event_edges.iter().flat_map(|edge| {
            edge.events.iter().flat_map(move |(node, event, _)| {
                edge.targets.iter().enumerate().map(move |(index, target)| {
                    let name = edge.name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
                    let label = format!("{name}{event}{} ({})", filter_text(&edge.filter), index + 1);
                    (node.to_string(), target.node.to_string(), label)
                })
            })
        })
    }
}

fn event_json(edge: &EventEdge) -> Json {
    let events: Vec<String> = edge.events.iter().map(|(node, event, _)| format!("{node}:{event}")).collect();
    let run: Vec<Json> = edge
        .targets
        .iter()
        .map(|target| json!({ "node": target.node.to_string(), "action": target.action.as_str() }))
        .collect();
    let Filter { every, once, before, after, first } = &edge.filter;
    json!({ "name": edge.name, "events": events, "every": every, "once": once, "before": before, "after": after, "first": first, "run": run })
}

fn filter_text(filter: &Filter) -> String {
    let mut parts = Vec::new();
    if filter.first {
        parts.push("the first time".to_owned());
    }
    if let Some(every) = filter.every {
        parts.push(format!("every {every}"));
    }
    if !filter.once.is_empty() {
        let counts: Vec<String> = filter.once.iter().map(u64::to_string).collect();
        parts.push(format!("once at {}", counts.join(", ")));
    }
    if let Some(after) = filter.after {
        parts.push(format!("after {after}"));
    }
    if let Some(before) = filter.before {
        parts.push(format!("before {before}"));
    }
    if parts.is_empty() { String::new() } else { format!(", {}", parts.join(", ")) }
}
