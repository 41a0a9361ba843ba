//! Tags that two engines write.

use std::collections::BTreeSet;

use indexmap::IndexMap;

use super::rule::Findings;
use super::view::View;
use crate::events::{Action, EventEdge};
use pipe_document::diagnostic::Location;
use pipe_vocab::facts::Role;
use pipe_vocab::{Kind, NodeId};

/// Two engines that record different things under one tag.
pub(super) fn shared(view: &View<'_>, found: &mut Findings) {
    let mut written: IndexMap<String, (&NodeId, Location)> = IndexMap::new();
    let mut told = Vec::new();
    for (engine, facts) in view.of_kind(Kind::Engine) {
        for (tag, option) in &facts.tags {
            let metrics = view.ports_of(engine, Kind::Metric).map(|metric| format!("{tag}/{}", metric.from.name));
            let own: Vec<String> = match facts.role {
                Some(Role::Evaluates) => metrics.collect(),
                _ => vec![tag.clone()],
            };
            for tag in own {
                let at = view.at(engine, option);
                match written.get(&tag) {
                    Some((other, _)) if told.contains(&(*other, engine)) || !interleaved(view, other, engine) => {}
                    Some((other, first)) => {
                        told.push((*other, engine));
                        let message = format!("`{other}` and `{engine}` both record `{tag}`, so one chart shows both");
                        let help = format!("set `{option}` of one of them");
                        found.add(at, message, help).labels.push((first.clone(), "first here".into()));
                    }
                    None => {
                        written.insert(tag, (engine, at));
                    }
                }
            }
        }
    }
}

/// Whether both run within one engine. Such as follow each other go on with one curve.
fn interleaved(view: &View<'_>, a: &NodeId, b: &NodeId) -> bool {
    let runs = |edge: &EventEdge, node: &NodeId| {
        edge.targets.iter().any(|target| target.node == *node && target.action == Action::Run)
    };
    let sources = |node: &NodeId| -> BTreeSet<NodeId> {
        let edges = view.events.iter().filter(|edge| runs(edge, node));
        edges.flat_map(|edge| &edge.events).map(|(source, ..)| source.clone()).collect()
    };
    a != b && !sources(a).is_disjoint(&sources(b))
}
