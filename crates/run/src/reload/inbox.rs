//! Edits and requests on their way to the training thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::load::Snapshot;
use pipe_history::requests::{Request, by};

/// An edit, or what else a run is asked.
#[derive(Debug, Clone)]
pub enum What {
    /// The files as they were after an edit.
    Files(Snapshot),
    /// A request in the run's folder.
    Asked(Asked),
}

/// A request and the name under which it is answered.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The name.
    pub name: String,
    /// The request.
    pub request: Request,
}

impl Asked {
    /// By whom and why, to be put behind what was asked.
    pub fn by(&self) -> String {
        by(&self.request.author, &self.request.why)
    }
}

/// What arrived.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// What it is.
    pub what: What,
    /// When it was read.
    pub read: Instant,
}

/// What nobody has looked at yet, the oldest first.
#[derive(Debug, Default)]
pub struct Inbox {
    arrivals: Mutex<Vec<Arrival>>,
    /// Asked between any two iterations: cheaper than the lock.
    filled: AtomicBool,
}

impl Inbox {
    /// Adds an edit.
    pub fn put(&self, snapshot: Snapshot) {
        self.add(What::Files(snapshot));
    }

    /// Adds a request.
    pub fn ask(&self, asked: Asked) {
        self.add(What::Asked(asked));
    }

    fn add(&self, what: What) {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        arrivals.push(Arrival { what, read: Instant::now() });
        self.filled.store(true, Ordering::Release);
    }

    /// Takes all of it.
    pub fn take(&self) -> Vec<Arrival> {
        if !self.filled.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        self.filled.store(false, Ordering::Release);
        std::mem::take(&mut *arrivals)
    }
}
