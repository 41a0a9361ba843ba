//! What a checkpoint holds, taken from the run.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use pipe_core::checkpoints::found::FORMAT;
use pipe_core::{Clock, EngineEvent, Frame, Instance, Kind, Moment, NodeId, State, Termination, now};
use pipe_history::Lengths;
use pipe_vision::nn::StateDict;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::graph::Graph;
use crate::random;

/// The plain part of a checkpoint.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StateFile {
    pub format: u32,
    /// The version of pipe.
    pub pipe: String,
    /// Seconds since 1970.
    pub time: f64,
    pub clock: Clock,
    pub seed: u64,
    /// The events whose targets were running.
    pub frames: Vec<Frame>,
    /// Engines that had been asked to stop.
    pub terminations: BTreeMap<NodeId, Termination>,
    /// What events had run `once`.
    pub fired: Value,
    /// Values by node.
    pub nodes: BTreeMap<String, Map<String, Value>>,
    /// The latest value of every metric and engine value, and the step at which it was measured.
    pub values: BTreeMap<String, (Value, u64)>,
    /// Bytes of `records.jsonl` then.
    pub records: u64,
    /// How much there was of what is drawn of them; of checkpoints from before there was any, and where it is not kept, nothing.
    #[serde(default)]
    pub history: Option<Lengths>,
}

/// Everything that goes into the files of a checkpoint.
pub(super) struct Snapshot {
    pub state: StateFile,
    /// The tensors of each model.
    pub models: Vec<(NodeId, StateDict)>,
    /// All other tensors, as `node/name`.
    pub tensors: StateDict,
    /// The classes of each model.
    pub classes: Classes,
    /// The run's `pipeline.toml`.
    pub pipeline: Option<Vec<u8>>,
}

/// Names by label, of each model.
pub(super) type Classes = BTreeMap<NodeId, BTreeMap<i64, String>>;

impl Snapshot {
    /// The run as it is now; where an engine runs whose half-done work is in no checkpoint, as it was before that engine.
    pub fn take(graph: &Graph, extra: &[(NodeId, State)]) -> Result<Snapshot> {
        let run = &graph.run;
        let marked = run.place.with_mark(|moment| parts(moment, extra));
        let (mut state, mut tensors) = match marked {
            Some(parts) => parts,
            None => parts(&moment(graph, extra)?, &[]),
        };
        (state.seed, state.pipe, state.time) = (run.seed, env!("CARGO_PKG_VERSION").into(), now());
        let mut models = Vec::new();
        for (id, instance) in graph.nodes.borrow().iter() {
            if !is_weights(id) {
                continue;
            }
            let own = state_of(graph, id, instance, extra)?;
            if id.kind == Kind::Model {
                models.push((id.clone(), own.tensors));
            } else {
                tensors.extend(own.tensors.into_iter().map(|(name, tensor)| (format!("{id}/{name}"), tensor)));
            }
            if !own.values.is_empty() {
                state.nodes.insert(id.to_string(), own.values);
            }
        }
        let path = run.folder.path().join("pipeline.toml");
        let read = || std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()));
        let pipeline = path.exists().then(read).transpose()?;
        let classes = graph.classes.borrow().clone();
        Ok(Snapshot { state, models, tensors, classes, pipeline })
    }

    /// All its tensors.
    pub fn dicts(&mut self) -> Vec<&mut StateDict> {
        self.models.iter_mut().map(|(_, tensors)| tensors).chain([&mut self.tensors]).collect()
    }
}

/// The tensors of each model.
pub(super) fn models(graph: &Graph) -> Result<Vec<(NodeId, StateDict)>> {
    let nodes = graph.nodes.borrow();
    let models = nodes.iter().filter(|(id, _)| id.kind == Kind::Model);
    models.map(|(id, instance)| Ok((id.clone(), state_of(graph, id, instance, &[])?.tensors))).collect()
}

/// The plain and the other part of a moment, with `extra` in place of what it says of those nodes.
fn parts(moment: &Moment, extra: &[(NodeId, State)]) -> (StateFile, StateDict) {
    let mut tensors = StateDict::new();
    let mut nodes = BTreeMap::new();
    let own = moment.nodes.iter().filter(|(id, _)| !extra.iter().any(|(node, _)| node == id));
    for (id, state) in own.chain(extra) {
        tensors.extend(state.tensors.iter().map(|(name, tensor)| (format!("{id}/{name}"), tensor.shallow_clone())));
        if !state.values.is_empty() {
            nodes.insert(id.to_string(), state.values.clone());
        }
    }
    tensors.extend(moment.random.iter().map(|(name, tensor)| (format!("random/{name}"), tensor.shallow_clone())));
    let state = StateFile {
        format: FORMAT,
        pipe: String::new(),
        time: 0.0,
        clock: moment.clock,
        seed: 0,
        frames: moment.frames.clone(),
        terminations: moment.terminations.clone(),
        fired: moment.fired.clone(),
        nodes,
        values: moment.values.clone(),
        records: moment.records,
        history: moment.history.clone(),
    };
    (state, tensors)
}

/// All that changes in a run but its models and optimizers, as it is now.
pub(super) fn moment(graph: &Graph, extra: &[(NodeId, State)]) -> Result<Moment> {
    let run = &graph.run;
    run.flush()?;
    let frames = run.place.frames();
    let idle = idle_metrics(graph, &frames)?;
    let mut nodes = Vec::new();
    for (id, instance) in graph.nodes.borrow().iter() {
        if is_weights(id) || idle.contains(id) {
            continue;
        }
        let state = state_of(graph, id, instance, extra)?;
        if !state.is_empty() {
            nodes.push((id.clone(), state));
        }
    }
    Ok(Moment {
        clock: run.clock.get(),
        frames,
        records: run.folder.records_position()?,
        history: run.folder.history_lengths(),
        values: run.values_with_steps(),
        terminations: run.terminations(),
        fired: graph.events.borrow().fired()?,
        random: random::states()?,
        nodes,
    })
}

/// Metrics that begin anew with each run of an engine, where that has not begun or has computed them already, unless a target
/// that is left in one of the events looks at them.
fn idle_metrics(graph: &Graph, frames: &[Frame]) -> Result<BTreeSet<NodeId>> {
    let mut idle = BTreeSet::new();
    for engine in graph.engines() {
        let own = frames.iter().filter(|frame| frame.engine == engine.id).filter_map(Frame::of_engine).next_back();
        if matches!(own, None | Some(EngineEvent::Completed)) {
            idle.extend(engine.owned()?);
        }
    }
    let events = graph.events.borrow();
    for target in frames.iter().flat_map(|frame| events.left(frame)) {
        idle.remove(&target.node);
    }
    Ok(idle)
}

/// Whether a handler will look at the gradients of the last iteration: in what is left of an event, or at one that comes before
/// the next iteration clears them.
fn needs_gradients(graph: &Graph) -> bool {
    let (frames, events) = (graph.run.place.frames(), graph.events.borrow());
    let of_iteration = |event: &str| {
        use EngineEvent::{BackwardCompleted, IterationCompleted, OptimizerStepCompleted};
        [BackwardCompleted, IterationCompleted, OptimizerStepCompleted].iter().any(|own| own.name() == event)
    };
    let later = events.wires.iter().filter(|wire| wire.events.iter().any(|(_, event)| !of_iteration(event)));
    let left = frames.iter().flat_map(|frame| events.left(frame));
    left.chain(later.flat_map(|wire| &wire.targets)).any(|target| target.reads_gradients())
}

fn state_of(graph: &Graph, id: &NodeId, instance: &Instance, extra: &[(NodeId, State)]) -> Result<State> {
    if let Some((_, state)) = extra.iter().find(|(node, _)| node == id) {
        return Ok(state.shallow_clone());
    }
    let state = match instance {
        Instance::Engine(engine) => engine.state(needs_gradients(graph)),
        other => other.state(),
    };
    state.with_context(|| format!("reading the state of {id}"))
}

/// Models and optimizers: what an evaluation does not change.
fn is_weights(id: &NodeId) -> bool {
    matches!(id.kind, Kind::Model | Kind::Optimizer)
}
