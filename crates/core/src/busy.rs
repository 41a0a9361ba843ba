//! What the training thread is at, told to a thread that looks every few seconds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indexmap::IndexMap;

/// What the training thread is at, each as long as nothing inside of it is.
#[derive(Debug, Clone, Default)]
pub struct Busy(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What is at work, the innermost last.
    at: Vec<String>,
    /// Since when the innermost is.
    since: Option<Instant>,
    spent: IndexMap<String, Duration>,
}

impl State {
    fn charge(&mut self) {
        let now = Instant::now();
        if let (Some(name), Some(since)) = (self.at.last(), self.since) {
            match self.spent.get_mut(name) {
                Some(spent) => *spent += now - since,
                None => drop(self.spent.insert(name.clone(), now - since)),
            }
        }
        self.since = Some(now);
    }
}

impl Busy {
    /// Something begins, and ends when the answer is dropped.
    pub fn begin(&self, name: String) -> At<'_> {
        let mut state = self.state();
        state.charge();
        state.at.push(name);
        At(self)
    }

    /// How long what was at work since this was last asked, the part of what still is with it.
    pub fn take(&self) -> IndexMap<String, Duration> {
        let mut state = self.state();
        state.charge();
        std::mem::take(&mut state.spent)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that is at work.
pub struct At<'a>(&'a Busy);

impl Drop for At<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.charge();
        state.at.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_not_counted_twice() {
        let busy = Busy::default();
        let outer = busy.begin("outer".into());
        let wait = Duration::from_millis(20);
        std::thread::sleep(wait);
        let inner = busy.begin("inner".into());
        std::thread::sleep(wait);
        // What still is at work is told, too, and once.
        let first = busy.take();
        assert!(first["outer"] >= wait && first["inner"] >= wait);
        drop(inner);
        drop(outer);
        let then = busy.take();
        assert!(then["inner"] < first["inner"] + wait && then["outer"] < first["outer"], "{first:?} {then:?}");
        assert!(busy.take().is_empty());
    }
}
