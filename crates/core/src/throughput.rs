//! How fast the outermost engine gets on, for whoever looks from another thread.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// What the outermost engine has done since the process began. Nothing of it waits for the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Where it is.
    pub clock: Clock,
    /// Images in its finished iterations.
    pub images: u64,
    /// The time that these took, without engines that ran inside of them.
    pub took: Duration,
    /// How much of that it waited for batches.
    pub waited: Duration,
}

/// Counts what the outermost engine does, an iteration at once, so that images and times always belong together.
#[derive(Debug, Default)]
pub struct Throughput(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    done: Done,
    /// Of the iteration at work: what it waited, and what other engines took of it.
    waited: Duration,
    aside: Duration,
}

impl Throughput {
    /// Everything so far.
    pub fn done(&self) -> Done {
        self.counts().done
    }

    /// Where the engine is now.
    pub fn at(&self, clock: Clock) {
        self.counts().done.clock = clock;
    }

    /// The iteration at work has waited for its batch.
    pub fn waited(&self, time: Duration) {
        self.counts().waited += time;
    }

    /// An engine has run inside the iteration at work, or between two.
    pub fn aside(&self, time: Duration) {
        self.counts().aside += time;
    }

    /// An iteration begins.
    pub fn begin(&self) {
        let mut counts = self.counts();
        (counts.waited, counts.aside) = Default::default();
    }

    /// It is done.
    pub fn end(&self, images: u64, time: Duration) {
        let mut counts = self.counts();
        let took = time.saturating_sub(counts.aside);
        let waited = counts.waited.min(took);
        counts.done.images += images;
        counts.done.took += took;
        counts.done.waited += waited;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_engines_take_no_time_of_an_iteration() {
        let (throughput, clock) = (Throughput::default(), Clock { step: 1, epoch: 1 });
        let seconds = Duration::from_secs;
        throughput.aside(seconds(100));
        throughput.begin();
        throughput.waited(seconds(1));
        throughput.aside(seconds(6));
        assert_eq!(throughput.done(), Done::default(), "only whole iterations count");
        throughput.at(clock);
        throughput.end(8, seconds(10));
        throughput.begin();
        throughput.end(8, seconds(2));
        assert_eq!(throughput.done(), Done { clock, images: 16, took: seconds(6), waited: seconds(1) });
    }
}
