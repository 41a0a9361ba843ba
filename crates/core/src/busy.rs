//! What the training thread is at, told to a thread that glances at it many times a second. The training thread itself reads no clock for it and takes no
//! lock, since some of what it is at is shorter than that.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexSet;

/// What the training thread is at, each as long as nothing inside of it is.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The innermost of what is at work: its place among the names, counted from 1; 0 for nothing.
    at: AtomicUsize,
    names: Mutex<IndexSet<String>>,
}

/// One of the things that it may be at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part(usize);

impl Busy {
    /// That of this name, always the same.
    pub fn part(&self, name: String) -> Part {
        Part(self.names().insert_full(name).0 + 1)
    }

    /// Something begins, and ends when the answer is dropped. Of the training thread alone.
    pub fn begin(&self, part: Part) -> At<'_> {
        let before = self.0.at.load(Ordering::Relaxed);
        self.0.at.store(part.0, Ordering::Relaxed);
        At { busy: self, before }
    }

    /// What is at work now, if anything is.
    pub fn now(&self) -> Option<Part> {
        Some(self.0.at.load(Ordering::Relaxed)).filter(|at| *at > 0).map(Part)
    }

    /// By which name it was asked for.
    pub fn name(&self, part: Part) -> String {
        self.names().get_index(part.0 - 1).cloned().unwrap_or_default()
    }

    fn names(&self) -> MutexGuard<'_, IndexSet<String>> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is at work.
pub struct At<'a> {
    busy: &'a Busy,
    before: usize,
}

impl Drop for At<'_> {
    fn drop(&mut self) {
        self.busy.0.at.store(self.before, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_is_told() {
        let busy = Busy::default();
        let there = busy.clone();
        let glance = || there.now().map(|part| there.name(part));
        let told = || std::thread::scope(|scope| scope.spawn(glance).join().unwrap());
        let (outer, inner) = (busy.part("outer".into()), busy.part("inner".into()));
        assert_eq!((busy.part("outer".into()), told()), (outer, None));
        let at_outer = busy.begin(outer);
        assert_eq!(told().as_deref(), Some("outer"));
        let at_inner = busy.begin(inner);
        assert_eq!(told().as_deref(), Some("inner"));
        drop(at_inner);
        assert_eq!(told().as_deref(), Some("outer"));
        drop(at_outer);
        assert_eq!(told(), None);
    }
}
