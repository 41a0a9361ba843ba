//! What everything that runs shares: the device, the clock, the records, the values.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipe_data::upload::Uploads;
pub use pipe_history::clock::now;
use pipe_plugin::{MetricReport, Sink};
use pipe_vocab::{Evaluation, NodeId, Precision, Progress, Record, RecordValue, Summary, ValueRef, record};
use serde_json::Value;
use tch::Device;

use crate::Shared;
use crate::bests::Bests;
use crate::checkpoints::{Afterwards, Checkpoints};
use crate::clock::{Clock, Termination};
use crate::folder::RunFolder;
use crate::frozen::Frozen;
use crate::place::Place;
use crate::ranks::{Agreed, Ranks};
use crate::throughput::Throughput;
use crate::timings::Timings;

/// What is recorded becomes visible to readers at least so often, as long as records come.
const FLUSH_INTERVAL: Duration = Duration::from_secs(5);

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
    /// The device of models and batches.
    pub device: Device,
    /// The type in which models compute.
    pub precision: Precision,
    /// The seed of everything.
    pub seed: u64,
    /// The run's folder.
    pub folder: RunFolder,
    /// Set by Ctrl-C: finish the step, checkpoint, stop.
    pub interrupt: Arc<AtomicBool>,
    /// Whether every engine has come to its end.
    pub complete: Cell<bool>,
    /// Set by SIGUSR2: save a checkpoint between two iterations and go on.
    pub checkpoint_wanted: Arc<AtomicBool>,
    /// Where the run stands in its events.
    pub place: Place,
    /// Changes whenever a model's weights may have changed.
    pub weights_version: Cell<u64>,
    /// The outermost engine's time.
    pub clock: Cell<Clock>,
    /// The time at which the outermost engine began to count: what the engines that ran before it took.
    pub clock_base: Cell<Clock>,
    /// The processes that work on this run.
    pub ranks: Rc<Ranks>,
    /// What the ranks agreed on.
    agreed: Agreements,
    /// Whether an edit waits for the other ranks to come along.
    edit_waits: Cell<bool>,
    /// How many engines are running inside each other.
    pub depth: Cell<usize>,
    /// The latest value of every metric and engine value, and the step at which it was measured.
    values: RefCell<BTreeMap<String, (f64, u64)>>,
    /// Of those that are monitored the best.
    pub bests: Bests,
    /// Parameters that are held still.
    pub frozen: Rc<Frozen>,
    /// Where records go.
    subscriptions: RefCell<Vec<Subscription>>,
    /// Engines asked to stop, and whether only their epoch.
    terminations: RefCell<BTreeMap<NodeId, Termination>>,
    /// What saves checkpoints.
    checkpoints: RefCell<Option<Weak<dyn Checkpoints>>>,
    /// How fast the outermost engine gets on.
    pub throughput: Arc<Throughput>,
    /// How long things take, when a profiler asks.
    pub timings: Timings,
    /// Batches on their way to the device.
    pub uploads: Uploads,
    /// Whether the console speaks JSON.
    pub json_log: Cell<bool>,
    /// Which handler saved a checkpoint, by name.
    checkpoint_owners: RefCell<BTreeMap<String, NodeId>>,
    /// The latest checkpoint.
    last_checkpoint: RefCell<Option<PathBuf>>,
    /// The latest one that was asked for from outside.
    asked: RefCell<Option<PathBuf>>,
    last_flush: Cell<Instant>,
}

/// What the ranks agreed on in their steps and have not done yet.
#[derive(Default)]
struct Agreements {
    /// To end.
    interrupt: Cell<bool>,
    /// To write a checkpoint.
    checkpoint: Cell<bool>,
    /// To make an edit.
    edit: Cell<bool>,
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
            complete: Cell::default(),
            checkpoint_wanted: Arc::default(),
            place: Place::default(),
            weights_version: Cell::default(),
            clock: Cell::default(),
            clock_base: Cell::default(),
            ranks: Rc::new(Ranks::alone()),
            agreed: Agreements::default(),
            edit_waits: Cell::new(false),
            depth: Cell::default(),
            values: RefCell::default(),
            bests: Bests::default(),
            frozen: Rc::default(),
            subscriptions: RefCell::default(),
            terminations: RefCell::default(),
            checkpoints: RefCell::default(),
            throughput: Arc::default(),
            timings: Timings::default(),
            uploads: Uploads::default(),
            json_log: Cell::default(),
            checkpoint_owners: RefCell::default(),
            last_checkpoint: RefCell::default(),
            asked: RefCell::default(),
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

    /// Sends a number.
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
                let written = written.map_err(|e| e.context(format!("{} failed to write a record", subscription.node)));
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

    /// Passes the state of an engine to the sinks.
    pub fn progress(&self, progress: &Progress) {
        for subscription in self.subscriptions.borrow().iter() {
            subscription.sink.borrow_mut().progress(progress);
        }
    }

    /// Tells the sinks of values that were computed together, by an evaluation or where an event asked for them.
    pub fn evaluated(&self, engine: Option<&NodeId>, values: Vec<(ValueRef, f64)>) {
        let Clock { step, epoch } = self.clock.get();
        for subscription in self.subscriptions.borrow().iter() {
            let heard = |node: &NodeId| subscription.inputs.is_empty() || subscription.inputs.contains(node);
            let values: Vec<_> = values.iter().filter(|(value, _)| heard(&value.node)).cloned().collect();
            if !values.is_empty() {
                let best = self.bests.of(&values.iter().map(|(value, _)| &value.node).collect::<Vec<_>>());
                let evaluation = Evaluation { engine: engine.cloned(), step, epoch, values, best };
                subscription.sink.borrow_mut().evaluated(&evaluation);
            }
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
        // The first rank speaks for all.
        if !self.ranks.is_first() {
            return;
        }
        self.subscriptions.borrow_mut().push(subscription);
    }

    /// Removes all sinks, and gives them back.
    pub fn unsubscribe_all(&self) -> Vec<Subscription> {
        std::mem::take(&mut *self.subscriptions.borrow_mut())
    }

    /// Remembers a value under `node:name`, for monitors.
    pub fn set_value(&self, node: &NodeId, name: &str, value: f64) {
        let Clock { step, epoch } = self.clock.get();
        let monitor = ValueRef { node: node.clone(), value: name.to_owned() };
        self.values.borrow_mut().insert(monitor.to_string(), (value, step));
        self.bests.measured(&monitor, value, step, Some(epoch));
    }

    /// Forgets what a node has measured or holds, which is no part of the run any more.
    pub fn forget(&self, node: &NodeId) {
        let its_own = format!("{node}:");
        self.values.borrow_mut().retain(|name, _| !name.starts_with(&its_own));
        self.bests.forget(node);
        self.frozen.release(node);
    }

    /// The latest value of that name, if it has been measured yet.
    pub fn value(&self, name: &ValueRef) -> Option<f64> {
        self.value_with_step(name).map(|(value, _)| value)
    }

    /// The latest value of that name and the step at which it was measured, if it has been measured yet.
    pub fn value_with_step(&self, name: &ValueRef) -> Option<(f64, u64)> {
        self.values.borrow().get(&name.to_string()).copied()
    }

    /// The values of a node that were measured at the present step, by their names.
    pub fn values_now(&self, node: &NodeId) -> Vec<(String, f64)> {
        let (its_own, now) = (format!("{node}:"), self.clock.get().step);
        let values = self.values.borrow();
        let own = values.iter().filter(|(_, (_, step))| *step == now);
        own.filter_map(|(name, (value, _))| Some((name.strip_prefix(&its_own)?.to_owned(), *value))).collect()
    }

    /// All latest values with the steps at which they were measured, for checkpoints: JSON knows no NaN.
    pub fn values_with_steps(&self) -> BTreeMap<String, (Value, u64)> {
        let values = self.values.borrow();
        values.iter().map(|(name, (value, step))| (name.clone(), (record::number(*value), *step))).collect()
    }

    /// Goes back to the values of a checkpoint.
    pub fn restore_values(&self, values: BTreeMap<String, (Value, u64)>) {
        let read = |(name, (value, step))| Some((name, (record::read_number(&value)?, step)));
        *self.values.borrow_mut() = values.into_iter().filter_map(read).collect();
    }

    /// Remembers a metric's values for monitors and records them as `<prefix>/<metric>/<value>`; a value of the metric's own name
    /// as `<prefix>/<value>`. The values come back under their full names.
    ///
    /// # Errors
    /// When a sink cannot take them.
    pub fn record_metric(
        &self,
        node: &NodeId,
        prefix: Option<&str>,
        report: &MetricReport,
    ) -> Result<Vec<(ValueRef, f64)>> {
        let prefix = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        for (name, value) in &report.values {
            self.set_value(node, name, *value);
            let tag = if **name == *node.name { name.clone() } else { format!("{}/{name}", node.name) };
            let tag = prefix.clone() + &tag;
            self.scalar(node, tag, *value)?;
        }
        if let Some(text) = &report.text {
            self.emit(node, format!("{prefix}{}/summary", node.name), RecordValue::Text(text.clone()))?;
        }
        for (tag, value) in &report.records {
            self.emit(node, format!("{prefix}{}/{tag}", node.name), value.clone())?;
        }
        let full = |name: &String| ValueRef { node: node.clone(), value: name.clone() };
        Ok(report.values.iter().map(|(name, value)| (full(name), *value)).collect())
    }

    /// All latest values.
    pub fn values(&self) -> Vec<(String, f64)> {
        self.values.borrow().iter().map(|(name, (value, _))| (name.clone(), *value)).collect()
    }

    /// Lets `checkpoints` save what is to be saved from now on.
    pub fn set_checkpoints(&self, checkpoints: Weak<dyn Checkpoints>) {
        *self.checkpoints.borrow_mut() = Some(checkpoints);
    }

    /// What saves checkpoints.
    ///
    /// # Errors
    /// Where there is nothing to save: in a part of a pipeline that is built without a run.
    pub fn checkpoints(&self) -> Result<Rc<dyn Checkpoints>> {
        let checkpoints = self.checkpoints.borrow().as_ref().and_then(Weak::upgrade);
        checkpoints.context("checkpoints are not available: this is part of a pipeline without a run")
    }

    /// Keeps the point before an engine whose half-done work is in no checkpoint, unless it runs inside another such.
    ///
    /// # Errors
    /// When a state cannot be read.
    pub fn mark(&self, engine: &NodeId) -> Result<()> {
        let checkpoints = self.checkpoints.borrow().as_ref().and_then(Weak::upgrade);
        if let Some(checkpoints) = checkpoints.filter(|_| !self.place.is_marked()) {
            self.place.mark(engine, checkpoints.moment()?);
        }
        Ok(())
    }

    /// Whether one was asked for and is still to come.
    pub fn is_asked_for_checkpoint(&self) -> bool {
        self.checkpoint_wanted.load(Ordering::Relaxed) || self.agreed.checkpoint.get()
    }

    /// Saves a checkpoint if one was asked for from outside. What goes wrong is said; the run goes on.
    pub fn save_if_asked(&self) {
        let wanted = match self.ranks.is_alone() {
            true => self.checkpoint_wanted.swap(false, Ordering::Relaxed),
            false => self.agreed.checkpoint.take(),
        };
        if !wanted {
            return;
        }
        // No handler gives such names, so the one before is nobody else's and can go.
        let name = format!("step_{:06}.signal", self.clock.get().step);
        let before = self.asked.take().filter(|path| !path.ends_with(&name));
        let save = |checkpoints: Rc<dyn Checkpoints>| {
            let afterwards = Afterwards { remove: before.into_iter().collect(), ..Afterwards::default() };
            let path = checkpoints.save(&name, &[], afterwards)?;
            checkpoints.written(&path).map(|()| path)
        };
        match self.checkpoints().and_then(save) {
            Ok(path) => {
                tracing::info!("checkpoint {} was saved", path.display());
                self.asked.replace(Some(path));
            }
            Err(error) => tracing::warn!("{error:#}"),
        }
    }

    /// The latest checkpoint that was saved because it was asked for from outside.
    pub fn asked(&self) -> Option<PathBuf> {
        self.asked.borrow().clone()
    }

    /// The checkpoint that was saved because it was asked for from outside; once.
    pub fn take_asked(&self) -> Option<PathBuf> {
        self.asked.take()
    }

    /// The name of a checkpoint that a signal asks for: not that of one which a handler has saved at this step.
    pub fn signals_checkpoint(&self) -> String {
        let plain = format!("step_{:06}", self.clock.get().step);
        // It may be a handler's that is still being written.
        let owned = self.checkpoint_owners.borrow().contains_key(&plain);
        if owned || self.folder.checkpoints().join(&plain).exists() { plain + ".signal" } else { plain }
    }

    /// What engines were asked, for checkpoints.
    pub fn terminations(&self) -> BTreeMap<NodeId, Termination> {
        self.terminations.borrow().clone()
    }

    /// Goes back to what engines had been asked at a checkpoint.
    pub fn restore_terminations(&self, terminations: BTreeMap<NodeId, Termination>) {
        *self.terminations.borrow_mut() = terminations;
    }

    /// Says that a model's weights may have changed.
    pub fn weights_changed(&self) {
        self.weights_version.set(self.weights_version.get() + 1);
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

    /// Whether Ctrl-C was pressed; with several ranks, whether they agreed to end because one of them was asked.
    pub fn interrupted(&self) -> bool {
        match self.ranks.is_alone() {
            true => self.interrupt.load(Ordering::Relaxed),
            false => self.agreed.interrupt.get(),
        }
    }

    /// Agrees with the other ranks on a step, of which this one has these losses: see [`Ranks::agree`].
    ///
    /// # Errors
    /// When a rank is gone.
    pub fn agree(&self, losses: &[f64]) -> Result<Agreed> {
        if self.ranks.is_alone() {
            return self.ranks.agree([false; 3], losses);
        }
        let asked = self.checkpoint_wanted.swap(false, Ordering::Relaxed);
        let own = [self.interrupt.load(Ordering::Relaxed), asked, self.edit_waits.get()];
        let agreed = self.ranks.agree(own, losses)?;
        let Agreements { interrupt, checkpoint, edit } = &self.agreed;
        for (known, new) in [(interrupt, agreed.interrupt), (checkpoint, agreed.checkpoint), (edit, agreed.edit)] {
            known.set(known.get() || new);
        }
        Ok(agreed)
    }

    /// Says that an edit waits, for the ranks to agree on when it is made.
    pub fn edit_waits(&self) {
        self.edit_waits.set(true);
    }

    /// Whether the ranks have agreed on an edit, which is to be made now: once.
    pub fn takes_edit(&self) -> bool {
        let agreed = self.agreed.edit.take();
        self.edit_waits.set(self.edit_waits.get() && !agreed);
        agreed
    }

    /// Makes a checkpoint a handler's own; `false` where it is another's.
    pub fn own_checkpoint(&self, name: &str, handler: &NodeId) -> bool {
        let mut owners = self.checkpoint_owners.borrow_mut();
        owners.entry(name.to_owned()).or_insert_with(|| handler.clone()) == handler
    }

    /// The latest checkpoint.
    pub fn last_checkpoint(&self) -> Option<PathBuf> {
        self.last_checkpoint.borrow().clone()
    }

    /// Remembers the latest checkpoint.
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
}
