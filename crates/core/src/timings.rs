//! How long things take: phases of iterations, and targets of events. Measured only when a profiler asks; what is [`busy`](crate::busy) is known always.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use pipe_native::profile::{Profile, range};
use tch::Device;

use crate::busy::{At, Busy, Part};
use pipe_vocab::NodeId;

/// Times by engine and by what was done, in the order in which they were first seen.
#[derive(Default)]
pub struct Timings {
    /// What is at work.
    pub busy: Busy,
    parts: Parts,
    enabled: Cell<bool>,
    /// Waited for at both ends of each measurement: work on a GPU continues after the call that began it.
    device: Cell<Option<Device>>,
    entries: RefCell<IndexMap<(NodeId, String), Spent>>,
    /// Whether a trace is wanted or taken.
    traces: Cell<bool>,
    trace: RefCell<Option<Trace>>,
}

/// The nodes, and phases of engines, that were at work, found by where their names lie in memory (no other name can lie there while one is held here):
/// iterations are alike, so the next one is mostly the one that came next before.
#[derive(Default)]
struct Parts {
    known: RefCell<Vec<(NodeId, &'static str, Part)>>,
    next: Cell<usize>,
}

impl Parts {
    /// After that many they are looked up by name again: a pipeline edited often has had many nodes.
    const MOST: usize = 512;

    /// A node, or a phase of it where that is no empty text.
    fn find(&self, node: &NodeId, phase: &'static str, busy: &Busy) -> Part {
        let mut known = self.known.borrow_mut();
        let same = |(other, told, _): &(NodeId, &'static str, Part)| {
            other.kind == node.kind && Arc::ptr_eq(&other.name, &node.name) && std::ptr::eq(*told, phase)
        };
        let next = self.next.get();
        let place = if known.get(next).is_some_and(same) { Some(next) } else { known.iter().position(same) };
        let place = place.unwrap_or_else(|| {
            if known.len() == Self::MOST {
                known.clear();
            }
            let name = if phase.is_empty() { node.to_string() } else { format!("{node}/{phase}") };
            known.push((node.clone(), phase, busy.part(name)));
            known.len() - 1
        });
        self.next.set(if place + 1 < known.len() { place + 1 } else { 0 });
        known[place].2
    }
}

/// A trace of some iterations.
struct Trace {
    iterations: RangeInclusive<u64>,
    file: PathBuf,
    taken: Option<Profile>,
}

/// The times of one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// How often.
    pub count: u64,
    /// All together.
    pub total: Duration,
    /// The shortest.
    pub min: Duration,
    /// The longest.
    pub max: Duration,
}

impl Timings {
    /// Begins to measure; with a device, waits for its work at both ends of each measurement.
    pub fn enable(&self, synchronize: Option<Device>) {
        self.enabled.set(true);
        self.device.set(synchronize);
    }

    /// Stops measuring; what was measured stays.
    pub fn disable(&self) {
        self.enabled.set(false);
        self.device.set(None);
    }

    /// Whether anything is measured.
    pub fn enabled(&self) -> bool {
        self.enabled.get()
    }

    /// The training thread is at this node until the answer is dropped.
    pub fn at(&self, node: &NodeId) -> At<'_> {
        self.busy.begin(self.parts.find(node, "", &self.busy))
    }

    /// Runs a phase of an engine, and notes how long it took.
    pub fn measure<T>(&self, engine: &NodeId, phase: &'static str, f: impl FnOnce() -> T) -> T {
        let _at = self.busy.begin(self.parts.find(engine, phase, &self.busy));
        self.measure_part(engine, phase, f)
    }

    /// Runs `f`, which is a part of what the training thread is at, and notes how long it took.
    pub fn measure_part<T>(&self, engine: &NodeId, what: &str, f: impl FnOnce() -> T) -> T {
        let _range = range(what);
        if !self.enabled() {
            return f();
        }
        self.wait();
        let started = Instant::now();
        let result = f();
        self.wait();
        self.note(engine, what, started.elapsed());
        result
    }

    /// Takes a trace of those iterations of the outermost engine, counted from 1.
    pub fn trace(&self, iterations: RangeInclusive<u64>, file: PathBuf) {
        *self.trace.borrow_mut() = Some(Trace { iterations, file, taken: None });
        self.traces.set(true);
    }

    /// The outermost engine is about to begin an iteration.
    pub fn iteration(&self, number: u64) {
        if !self.traces.get() {
            return;
        }
        let mut trace = self.trace.borrow_mut();
        let Some(Trace { iterations, taken, .. }) = &mut *trace else { return };
        if number > *iterations.end() {
            drop(trace);
            self.end_trace();
        } else if number >= *iterations.start() && taken.is_none() {
            match Profile::begin() {
                Ok(profile) => *taken = Some(profile),
                Err(error) => {
                    tracing::warn!("no trace is taken: {error:#}");
                    self.traces.set(false);
                }
            }
        }
    }

    /// Writes the trace, if one has begun.
    pub fn end_trace(&self) {
        self.traces.set(false);
        let Some(Trace { iterations, file, taken: Some(profile) }) = self.trace.borrow_mut().take() else { return };
        match profile.end(Some(&file)) {
            Ok(_) => tracing::info!(
                "a trace of the iterations from {} to {} is in {}: open it with Perfetto or chrome://tracing",
                iterations.start(),
                iterations.end(),
                file.display()
            ),
            Err(error) => tracing::warn!("the trace {} could not be written: {error:#}", file.display()),
        }
    }

    /// Notes a time.
    pub fn note(&self, engine: &NodeId, what: &str, time: Duration) {
        let mut entries = self.entries.borrow_mut();
        let spent = entries.entry((engine.clone(), what.to_owned())).or_default();
        spent.min = if spent.count == 0 { time } else { spent.min.min(time) };
        spent.max = spent.max.max(time);
        spent.count += 1;
        spent.total += time;
    }

    /// Everything that was measured.
    pub fn all(&self) -> Vec<(NodeId, String, Spent)> {
        self.entries.borrow().iter().map(|((engine, what), spent)| (engine.clone(), what.clone(), *spent)).collect()
    }

    fn wait(&self) {
        if let Some(device) = self.device.get()
            && let Err(error) = pipe_native::stream::synchronize(device)
        {
            // The failure itself comes out of the work that failed.
            tracing::debug!("waiting for {device:?}: {error:#}");
        }
    }
}
