//! Edits on their way to the training thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::load::Snapshot;

/// The files as they were after an edit.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The files.
    pub snapshot: Snapshot,
    /// When they were read.
    pub read: Instant,
}

/// Edits that nobody has looked at yet, the oldest first.
#[derive(Debug, Default)]
pub struct Inbox {
    edits: Mutex<Vec<Edit>>,
    /// Asked between any two iterations: cheaper than the lock.
    filled: AtomicBool,
}

impl Inbox {
    /// Adds an edit.
    pub fn put(&self, snapshot: Snapshot) {
        let mut edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        edits.push(Edit { snapshot, read: Instant::now() });
        self.filled.store(true, Ordering::Release);
    }

    /// Takes all edits.
    pub fn take(&self) -> Vec<Edit> {
        if !self.filled.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut edits = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        self.filled.store(false, Ordering::Release);
        std::mem::take(&mut *edits)
    }
}
