//! Tags that two engines write.

use indexmap::IndexMap;

use super::Findings;
use super::view::View;
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
                    Some((other, _)) if *other == engine || told.contains(&(*other, engine)) => {}
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
