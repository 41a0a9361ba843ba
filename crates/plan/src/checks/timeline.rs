//! How often things happen in a run, as far as that is known before it.

use serde_json::Value as Json;

use super::view::{Count, View};
use crate::events::{Action, EventEdge};
use pipe_vocab::event::{EngineEvent, EventName};
use pipe_vocab::{Filter, Kind, NodeId};

/// Counts beyond this are not tried one by one.
const MAX_TRIED: u64 = 1_000_000;
/// Engines inside each other.
const MAX_DEPTH: usize = 16;

impl View<'_> {
    /// How often an action of a node is run by events.
    pub fn calls(&self, node: &NodeId, action: Action) -> Option<Count> {
        self.calls_within(node, action, 0)
    }

    fn calls_within(&self, node: &NodeId, action: Action, depth: usize) -> Option<Count> {
        let key = (node.clone(), action);
        if let Some(known) = self.counts.borrow().get(&key) {
            return *known;
        }
        let count = self.count_calls(node, action, depth);
        self.counts.borrow_mut().insert(key, count);
        count
    }

    fn count_calls(&self, node: &NodeId, action: Action, depth: usize) -> Option<Count> {
        let mut sum = Count::exactly(0);
        let targets = |edge: &&EventEdge| edge.targets.iter().any(|t| t.node == *node && t.action == action);
        for edge in self.events.iter().filter(targets) {
            for (source, event, _) in &edge.events {
                let passed = self.fires(source, event, &edge.filter)?.times(self.runs(source, depth)?);
                sum = Count { most: sum.most.saturating_add(passed.most), exact: sum.exact && passed.exact };
            }
        }
        Some(sum)
    }

    /// How often an engine is run, or a handler with events of its own called.
    fn runs(&self, source: &NodeId, depth: usize) -> Option<Count> {
        let action = if source.kind == Kind::Engine { Action::Run } else { Action::Call };
        let targeted =
            self.events.iter().flat_map(|edge| &edge.targets).any(|t| t.node == *source && t.action == action);
        match targeted {
            false => Some(Count::exactly(1)),
            true if depth < MAX_DEPTH => self.calls_within(source, action, depth + 1),
            true => None,
        }
    }

    /// How often an event passes a filter in one run of its engine.
    fn fires(&self, source: &NodeId, event: &str, filter: &Filter) -> Option<Count> {
        let plain = *filter == Filter::default();
        let EventName::Engine(event) = EventName::from(event) else { return plain.then(|| Count::exactly(1)) };
        let count = match event {
            EngineEvent::Started | EngineEvent::Completed => return plain.then(|| Count::exactly(1)),
            EngineEvent::EpochStarted | EngineEvent::EpochCompleted => self.epochs(source)?,
            EngineEvent::OptimizerStepCompleted => Count { exact: false, ..self.iterations(source)? },
            event if event.counts_iterations() => self.iterations(source)?,
            _ => return None,
        };
        Some(Count { most: passes(filter, count.most)?, ..count })
    }

    /// The epochs of one run of an engine.
    pub fn epochs(&self, engine: &NodeId) -> Option<Count> {
        let node = self.nodes.get(engine)?;
        let takes = node.takes("max_epochs");
        let epochs = if takes { self.number(engine, "max_epochs")? } else { 1 };
        // A limit of iterations may come first.
        Some(match (self.number(engine, "max_iterations"), self.epoch_length(engine)) {
            (None, _) => Count::exactly(epochs),
            (Some(limit), Some(length)) => Count::exactly(epochs.min(limit.div_ceil(length.max(1)))),
            (Some(_), None) => Count { most: epochs, exact: false },
        })
    }

    /// The iterations of one run of an engine.
    pub fn iterations(&self, engine: &NodeId) -> Option<Count> {
        let limit = self.number(engine, "max_iterations");
        let node = self.nodes.get(engine)?;
        let takes = node.takes("max_epochs");
        let epochs = if takes { self.number(engine, "max_epochs") } else { Some(1) };
        let by_epochs = epochs.zip(self.epoch_length(engine)).map(|(epochs, length)| epochs.saturating_mul(length));
        match (limit, by_epochs) {
            (Some(limit), Some(by_epochs)) => Some(Count::exactly(limit.min(by_epochs))),
            (Some(limit), None) => Some(Count { most: limit, exact: epochs.is_none() }),
            (None, by_epochs) => by_epochs.map(Count::exactly),
        }
    }

    /// The iterations of an epoch.
    fn epoch_length(&self, engine: &NodeId) -> Option<u64> {
        let of_loader = || {
            let loader = self.ports.iter().find(|edge| edge.to == *engine && edge.from.kind == Kind::Loader)?;
            self.data?.batches.get(&loader.from).copied()
        };
        self.number(engine, "epoch_length").or_else(of_loader)
    }

    /// The value of an option of a node, where it is given.
    pub fn number(&self, node: &NodeId, option: &str) -> Option<u64> {
        self.nodes.get(node)?.config.get(option).and_then(Json::as_u64).filter(|_| self.is_known(node, option))
    }
}

/// How many counts from 1 to `last` a filter lets through.
fn passes(filter: &Filter, last: u64) -> Option<u64> {
    if *filter == Filter::default() {
        return Some(last);
    }
    (last <= MAX_TRIED).then(|| (1..=last).filter(|count| filter.passes(*count)).count() as u64)
}
