//! What is decided by measured values, and how often.

use super::rule::Findings;
use super::view::View;
use crate::events::{Action, EventEdge};
use pipe_document::PathSegment;
use pipe_vocab::event::{EngineEvent, EventName};
use pipe_vocab::facts::{Better, Role};
use pipe_vocab::{Filter, Kind, NodeId};

fn action_of(node: &NodeId) -> Action {
    if node.kind == Kind::Scheduler { Action::Step } else { Action::Call }
}

/// Watching for the worst value instead of the best.
pub(super) fn mode(view: &View<'_>, found: &mut Findings) {
    for id in view.nodes.keys() {
        for watched in &view.facts(id).watches {
            let known = &view.facts(&watched.value.node).better;
            let Some((_, better)) = known.iter().find(|(value, _)| *value == watched.value.value) else { continue };
            if *better == watched.better {
                continue;
            }
            let (word, mode) = match better {
                Better::Lower => ("lower", "min"),
                Better::Higher => ("higher", "max"),
            };
            let message =
                format!("{word} values of `{}` are better, but `{id}` takes the others for it", watched.value);
            let path: Vec<PathSegment> = watched
                .option
                .iter()
                .map(|key| key.parse().map_or_else(|_| PathSegment::from(&**key), PathSegment::Index))
                .collect();
            found.add(view.place(id, &path), message, format!("write `mode = \"{mode}\"`"));
        }
    }
}

/// Judging the same value over and over.
pub(super) fn stale(view: &View<'_>, found: &mut Findings) {
    for id in view.nodes.keys().filter(|id| view.facts(id).patience.is_some()) {
        for watched in &view.facts(id).watches {
            // Metrics that events compute change when the events say.
            let metric = &watched.value.node;
            let computed =
                |target: &crate::events::EventTarget| target.node == *metric && target.action == Action::Compute;
            let by_events = view.events.iter().flat_map(|event| &event.targets).any(computed);
            let engines: Vec<&NodeId> = view
                .ports
                .iter()
                .filter(|edge| edge.from == *metric && edge.to.kind == Kind::Engine)
                .map(|edge| &edge.to)
                .collect();
            if by_events || metric.kind != Kind::Metric || engines.is_empty() {
                continue;
            }
            let evaluated = |edge: &EventEdge| {
                edge.targets.iter().any(|target| target.action == Action::Run && engines.contains(&&target.node))
            };
            let each_iteration = |edge: &&EventEdge| {
                every_iteration(edge).is_some() && edge.targets.iter().any(|target| target.node == *id)
            };
            if let Some(edge) = view.events.iter().find(each_iteration).filter(|edge| !evaluated(edge)) {
                let target = edge.targets.iter().find(|target| target.node == *id);
                let message = format!(
                    "`{id}` looks at `{}` after every iteration, but `{}` computes it once each time it runs: the same value \
                     counts as one without an improvement again and again",
                    watched.value, engines[0]
                );
                let help = format!("run it on `{}:completed`", engines[0]);
                found.add(
                    target.map_or_else(|| edge.location.clone(), |target| target.location.clone()),
                    message,
                    help,
                );
            }
        }
    }
}

/// The engine whose every iteration an edge follows.
fn every_iteration(edge: &EventEdge) -> Option<&NodeId> {
    let plain = edge.filter == Filter { after: edge.filter.after, ..Filter::default() };
    let of_iterations = |event: &str| match EventName::from(event) {
        EventName::Engine(event) => event.counts_iterations() && event != EngineEvent::OptimizerStepCompleted,
        EventName::Own(_) => false,
    };
    edge.events.iter().find(|(_, event, _)| plain && of_iterations(event)).map(|(engine, ..)| engine)
}

/// Patience longer than the run.
pub(super) fn patience(view: &View<'_>, found: &mut Findings) {
    for id in view.nodes.keys() {
        let Some((patience, option)) = view.facts(id).patience.filter(|(_, option)| view.is_known(id, option)) else {
            continue;
        };
        if let Some(count) = view.calls(id, action_of(id)).filter(|count| count.most > 0 && count.most <= patience) {
            let times = if count.most == 1 { "once".to_owned() } else { format!("{} times", count.most) };
            let message = format!(
                "`{id}` is run {times} and waits for {patience} values without an improvement, so it never acts"
            );
            found.add(view.at(id, option), message, "lower it, or let the engine run longer");
        }
    }
}

/// What takes long after every iteration.
pub(super) fn costly(view: &View<'_>, found: &mut Findings) {
    for edge in view.events {
        let Some(engine) = every_iteration(edge).filter(|engine| view.facts(engine).role == Some(Role::Trains)) else {
            continue;
        };
        if view.iterations(engine).is_some_and(|count| count.most <= 1) {
            continue;
        }
        for target in &edge.targets {
            let what = match target.action {
                Action::Run if view.facts(&target.node).role == Some(Role::Evaluates) => "runs a whole pass",
                Action::Call if view.facts(&target.node).saves && view.facts(&target.node).costly => "saves",
                Action::Call if view.facts(&target.node).costly => "takes long",
                _ => continue,
            };
            let message = format!("`{}` {what} after every iteration of `{engine}`", target.node);
            let help = "use `every = N`, or `epoch_completed`";
            found.add(target.location.clone(), message, help);
        }
    }
}
