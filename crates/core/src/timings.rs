//! How long things take: phases of iterations, and targets of events. Measured only when a profiler asks; what is [`busy`](crate::busy) is known always.

use std::cell::{Cell, RefCell};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use pipe_native::profile::{Profile, range};
use tch::Device;

use crate::busy::Busy;
use pipe_vocab::NodeId;

/// Times by engine and by what was done, in the order in which they were first seen.
#[derive(Default)]
pub struct Timings {
    /// What is at work.
    pub busy: Busy,
    enabled: Cell<bool>,
    /// Waited for at both ends of each measurement: work on a GPU continues after the call that began it.
    device: Cell<Option<Device>>,
    entries: RefCell<IndexMap<(NodeId, String), Spent>>,
    /// Whether a trace is wanted or taken.
    traces: Cell<bool>,
    trace: RefCell<Option<Trace>>,
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

    /// Runs `f` and notes how long it took.
    pub fn measure<T>(&self, engine: &NodeId, what: &str, f: impl FnOnce() -> T) -> T {
        let _range = range(what);
        let _at = self.busy.begin(format!("{engine}/{what}"));
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
