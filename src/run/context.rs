//! What everything that runs shares: the device, the clock, the records, the values, the nodes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use super::folder::RunFolder;
use super::record::{Progress, Record, RecordValue, Summary};
use super::timings::Timings;
use super::{Instance, Shared};
use crate::components::sink::Sink;
use crate::engine::{Between, Boundary, EventTable};
use crate::registry::{NodeId, ValueRef};

/// What is recorded becomes visible to readers at least so often, as long as records come.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

/// The floating-point type in which models compute; weights stay fp32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats.
    #[default]
    Fp32,
    /// Autocast to bfloat16.
    Bf16,
    /// Autocast to half, with a loss scaler.
    Fp16,
}

/// The time of the run, in the outermost engine's iterations and epochs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Iterations so far.
    pub step: u64,
    /// The epoch, counted from 1; 0 before the first.
    pub epoch: u64,
}

/// A sink and the nodes whose records it takes; all nodes when empty.
pub struct Subscription {
    /// The sink's name.
    pub node: NodeId,
    /// The nodes it listens to.
    pub inputs: Vec<NodeId>,
    /// The sink.
    pub sink: Shared<dyn Sink>,
}

/// What everything that runs shares. Lives on the training thread.
pub struct RunContext {
    /// Where models and batches lie.
    pub device: Device,
    /// The type in which models compute.
    pub precision: Precision,
    /// The seed of everything.
    pub seed: u64,
    /// The run's folder.
    pub folder: RunFolder,
    /// Set by Ctrl-C: finish the step, checkpoint, stop.
    pub interrupt: Arc<AtomicBool>,
    /// The outermost engine's time.
    pub clock: Cell<Clock>,
    /// The time at which the outermost engine began to count: what the engines that ran before it took.
    pub clock_base: Cell<Clock>,
    /// How many engines are running inside each other.
    pub depth: Cell<usize>,
    /// Whether models fill themselves from the files that their options name; not where other weights follow at once.
    pub initial_weights: Cell<bool>,
    /// Every built node, in topological order.
    pub nodes: RefCell<IndexMap<NodeId, Instance>>,
    /// Which targets run on which event.
    pub events: RefCell<Rc<EventTable>>,
    /// The engines that run by themselves, in the order in which they are to run.
    pub roots: RefCell<Vec<NodeId>>,
    /// What acts between iterations.
    between: RefCell<Option<Rc<dyn Between>>>,
    /// The newest value of every metric and engine value, and the step at which it was measured.
    values: RefCell<BTreeMap<String, (f64, u64)>>,
    /// Where records go.
    subscriptions: RefCell<Vec<Subscription>>,
    /// Engines asked to stop, and whether only their epoch.
    terminations: RefCell<BTreeMap<NodeId, Termination>>,
    /// Properties that nodes offer to others, by node and name.
    offered: RefCell<BTreeMap<(NodeId, String), Value>>,
    /// How long things take, when a profiler asks.
    pub timings: Timings,
    /// Whether the console speaks JSON.
    pub json_log: Cell<bool>,
    /// The newest checkpoint.
    last_checkpoint: RefCell<Option<PathBuf>>,
    last_flush: Cell<Instant>,
}

/// How far an engine is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Termination {
    /// The epoch only.
    Epoch,
    /// The whole run of the engine.
    Run,
}

impl RunContext {
    /// A context without nodes as yet.
    pub fn new(device: Device, precision: Precision, seed: u64, folder: RunFolder, interrupt: Arc<AtomicBool>) -> Self {
        RunContext {
            device,
            precision,
            seed,
            folder,
            interrupt,
            clock: Cell::default(),
            clock_base: Cell::default(),
            depth: Cell::default(),
            initial_weights: Cell::new(true),
            nodes: RefCell::default(),
            events: RefCell::default(),
            roots: RefCell::default(),
            between: RefCell::default(),
            values: RefCell::default(),
            subscriptions: RefCell::default(),
            terminations: RefCell::default(),
            offered: RefCell::default(),
            timings: Timings::default(),
            json_log: Cell::default(),
            last_checkpoint: RefCell::default(),
            last_flush: Cell::new(Instant::now()),
        }
    }

    /// Sends a record of `node` to every sink that listens to it, and to `records.jsonl`.
    ///
    /// # Errors
    /// When a sink cannot take it; every sink is tried first.
    pub fn emit(&self, node: &NodeId, tag: impl Into<String>, value: RecordValue) -> Result<()> {
        let Clock { step, epoch } = self.clock.get();
        let record = Record { tag: tag.into(), value, step, epoch, node: node.clone(), time: now() };
        self.emit_record(&record)
    }

    /// Sends a number, and remembers it as the value `tag` of `node`.
    ///
    /// # Errors
    /// As [`RunContext::emit`].
    pub fn scalar(&self, node: &NodeId, tag: impl Into<String>, value: f64) -> Result<()> {
        self.emit(node, tag, RecordValue::Scalar(value))
    }

    /// Sends a record as it is.
    ///
    /// # Errors
    /// As [`RunContext::emit`].
    pub fn emit_record(&self, record: &Record) -> Result<()> {
        let mut first = self.folder.append_record(record).err();
        for subscription in self.subscriptions.borrow().iter() {
            if subscription.inputs.is_empty() || subscription.inputs.contains(&record.node) {
                let written = subscription.sink.borrow_mut().write(record);
                let written = written.map_err(|e| e.context(format!("{} could not take a record", subscription.node)));
                first = first.or(written.err());
            }
        }
        let last = self.last_flush.get();
        if last.elapsed() >= FLUSH_INTERVAL {
            self.last_flush.set(Instant::now());
            first = first.or(self.flush().err());
        }
        first.map_or(Ok(()), Err)
    }

    /// Tells sinks where an engine stands.
    pub fn progress(&self, progress: &Progress) {
        for subscription in self.subscriptions.borrow().iter() {
            subscription.sink.borrow_mut().progress(progress);
        }
    }

    /// Flushes every sink.
    ///
    /// # Errors
    /// The first sink's error, after all were tried.
    pub fn flush(&self) -> Result<()> {
        let mut first = self.folder.flush_records().err();
        for subscription in self.subscriptions.borrow().iter() {
            first = first.or(subscription.sink.borrow_mut().flush().err());
        }
        first.map_or(Ok(()), Err)
    }

    /// Tells every sink that the run has ended.
    ///
    /// # Errors
    /// As [`RunContext::flush`].
    pub fn finish(&self, summary: &Summary) -> Result<()> {
        let mut first = self.folder.flush_records().err();
        for subscription in self.subscriptions.borrow().iter() {
            first = first.or(subscription.sink.borrow_mut().finish(summary).err());
        }
        first.map_or(Ok(()), Err)
    }

    /// Adds a sink.
    pub fn subscribe(&self, subscription: Subscription) {
        self.subscriptions.borrow_mut().push(subscription);
    }

    /// Lets `between` act between iterations from now on.
    pub fn set_between(&self, between: Option<Rc<dyn Between>>) {
        *self.between.borrow_mut() = between;
    }

    /// Lets what acts between iterations act.
    pub fn pause(&self, engine: &NodeId, boundary: Boundary) {
        let between = self.between.borrow().clone();
        if let Some(between) = between {
            between.between(self, engine, boundary);
        }
    }

    /// Removes all sinks, and gives them back.
    pub fn unsubscribe_all(&self) -> Vec<Subscription> {
        std::mem::take(&mut *self.subscriptions.borrow_mut())
    }

    /// Remembers a value under `node:name`, for monitors.
    pub fn set_value(&self, node: &NodeId, name: &str, value: f64) {
        self.values.borrow_mut().insert(format!("{node}:{name}"), (value, self.clock.get().step));
    }

    /// The newest value of that name, if it has been measured yet.
    pub fn value(&self, name: &ValueRef) -> Option<f64> {
        self.value_with_step(name).map(|(value, _)| value)
    }

    /// The newest value of that name and the step at which it was measured, if it has been measured yet.
    pub fn value_with_step(&self, name: &ValueRef) -> Option<(f64, u64)> {
        self.values.borrow().get(&name.to_string()).copied()
    }

    /// All newest values.
    pub fn values(&self) -> Vec<(String, f64)> {
        self.values.borrow().iter().map(|(name, (value, _))| (name.clone(), *value)).collect()
    }

    /// Remembers a property that a node offers to others.
    pub fn offer(&self, node: &NodeId, property: &str, value: Value) {
        self.offered.borrow_mut().insert((node.clone(), property.to_owned()), value);
    }

    /// A property that a node has offered.
    pub fn offered(&self, node: &NodeId, property: &str) -> Option<Value> {
        self.offered.borrow().get(&(node.clone(), property.to_owned())).cloned()
    }

    /// Asks an engine to stop at the end of its iteration.
    pub fn terminate(&self, engine: &NodeId, how_far: Termination) {
        let mut all = self.terminations.borrow_mut();
        let entry = all.entry(engine.clone()).or_insert(how_far);
        *entry = (*entry).max(how_far);
    }

    /// How far the engine was asked to stop, if at all.
    pub fn termination(&self, engine: &NodeId) -> Option<Termination> {
        self.terminations.borrow().get(engine).copied()
    }

    /// Forgets what an engine was asked.
    pub fn clear_termination(&self, engine: &NodeId) {
        self.terminations.borrow_mut().remove(engine);
    }

    /// Whether Ctrl-C was pressed.
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed)
    }

    /// The newest checkpoint.
    pub fn last_checkpoint(&self) -> Option<PathBuf> {
        self.last_checkpoint.borrow().clone()
    }

    /// Remembers the newest checkpoint.
    pub fn set_last_checkpoint(&self, path: Option<PathBuf>) {
        *self.last_checkpoint.borrow_mut() = path;
    }

    /// Runs `f` in the run's precision.
    ///
    /// # Errors
    /// When the device has no such autocast.
    pub fn autocast<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let kind = match self.precision {
            Precision::Fp32 => None,
            Precision::Bf16 => Some(tch::Kind::BFloat16),
            Precision::Fp16 => Some(tch::Kind::Half),
        };
        pipe_native::autocast(self.device, kind, f)
    }

    /// A built node.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn node(&self, id: &NodeId) -> Result<Instance> {
        self.nodes.borrow().get(id).cloned().ok_or_else(|| anyhow!("there is no node {id} in this run"))
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}
