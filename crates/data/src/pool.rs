//! Worker threads that make numbered things and hand them over in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use pipe_native::fault::guarded;

/// Tells a worker that nobody waits for its work any more.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Whether to give up.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a pool does: makes the thing of a number. Called from many threads.
pub type Make<T> = dyn Fn(usize, &Stop) -> Result<T> + Send + Sync;

/// Threads that make the things of a range of numbers; as an iterator it hands them over in order.
///
/// No more than `ahead` things exist or are being made beyond the one asked for last. An error comes out at its place in
/// order. Dropping the pool stops the threads and waits for them, but not long for one that does not stop.
pub struct Pool<T> {
    tasks: Option<Sender<usize>>,
    results: Receiver<(usize, Result<T>)>,
    waiting: BTreeMap<usize, Result<T>>,
    next: usize,
    issued: usize,
    end: usize,
    ahead: usize,
    stop: Stop,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Pool<T> {
    /// Starts `workers` threads named `name` on `range`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, workers: usize, ahead: usize, range: Range<usize>, make: Arc<Make<T>>) -> Result<Pool<T>> {
        let (tasks, inbox) = unbounded::<usize>();
        let (outbox, results) = unbounded();
        let (ready, started) = unbounded();
        let mut pool = Pool {
            tasks: Some(tasks),
            results,
            waiting: BTreeMap::new(),
            next: range.start,
            issued: range.start,
            end: range.end,
            ahead: ahead.max(workers),
            stop: Stop::default(),
            threads: Vec::with_capacity(workers),
        };
        // Asking makes libtorch settle this thread's own number before the workers set theirs.
        let torch_threads = tch::get_num_threads();
        for worker in 0..workers {
            let (inbox, outbox, ready) = (inbox.clone(), outbox.clone(), ready.clone());
            let (make, stop) = (make.clone(), pool.stop.clone());
            let body = move || {
                single_threaded_torch();
                drop(ready);
                work(&inbox, &outbox, &*make, &stop);
            };
            let thread = std::thread::Builder::new().name(format!("{name}-{worker}")).spawn(body);
            pool.threads.push(thread.with_context(|| format!("starting worker thread {worker} of {name}"))?);
        }
        // The channel closes when every worker has set its number; theirs must not become everybody's.
        drop::<Sender<()>>(ready);
        let _ = started.recv();
        tch::set_num_threads(torch_threads);
        pool.issue();
        Ok(pool)
    }

    /// Waits until [`Pool::next`] has something to give, but not longer than that; `false` where it has not yet.
    pub fn wait(&mut self, longest: Duration) -> bool {
        self.issue();
        let asked = Instant::now();
        while self.next < self.end && !self.waiting.contains_key(&self.next) {
            match self.results.recv_timeout(longest.saturating_sub(asked.elapsed())) {
                Ok((number, made)) => self.waiting.insert(number, made),
                Err(RecvTimeoutError::Timeout) => return false,
                // Which `next` tells of.
                Err(RecvTimeoutError::Disconnected) => return true,
            };
        }
        true
    }

    /// Hands out numbers, as many as may be ahead.
    fn issue(&mut self) {
        let Some(tasks) = &self.tasks else { return };
        while self.issued < self.end.min(self.next + self.ahead) {
            // A closed channel shows in `next`, as a missing result.
            let _ = tasks.send(self.issued);
            self.issued += 1;
        }
    }
}

impl<T: Send + 'static> Iterator for Pool<T> {
    type Item = Result<T>;

    /// The thing of the next number, or `None` after the last. After an error the rest can still be asked for; a panic
    /// is an error too.
    fn next(&mut self) -> Option<Result<T>> {
        self.issue();
        if self.next >= self.end {
            return None;
        }
        loop {
            if let Some(made) = self.waiting.remove(&self.next) {
                self.next += 1;
                self.issue();
                return Some(made);
            }
            match self.results.recv() {
                Ok((number, made)) => self.waiting.insert(number, made),
                Err(_) => return Some(Err(anyhow!("the worker threads exited early"))),
            };
        }
    }
}

impl<T> Drop for Pool<T> {
    fn drop(&mut self) {
        self.stop.ask();
        self.tasks = None;
        self.waiting.clear();
        // The channel closes when the last thread lets go of it. One that reads a file which does not come is left to itself.
        let asked = Instant::now();
        while let Some(left) = PATIENCE.checked_sub(asked.elapsed()) {
            match self.results.recv_timeout(left) {
                Ok(unwanted) => drop(unwanted),
                Err(RecvTimeoutError::Disconnected) => {
                    return self.threads.drain(..).for_each(|thread| drop(thread.join()));
                }
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
    }
}

/// How long a thread that was asked to stop is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

fn work<T>(inbox: &Receiver<usize>, outbox: &Sender<(usize, Result<T>)>, make: &Make<T>, stop: &Stop) {
    for number in inbox {
        if stop.asked() {
            return;
        }
        if outbox.send((number, guarded(|| make(number, stop)))).is_err() {
            return;
        }
    }
}

/// Workers share the processors already: libtorch's own threads inside each would only fight.
///
/// libtorch keeps one number for threads yet to come and one of each thread. The first question settles this thread's
/// own, which setting then changes; without it the first operator would set it back.
fn single_threaded_torch() {
    tch::get_num_threads();
    tch::set_num_threads(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn pool<T: Send + 'static>(
        workers: usize,
        range: Range<usize>,
        make: impl Fn(usize, &Stop) -> Result<T> + Send + Sync + 'static,
    ) -> Pool<T> {
        Pool::start("test", workers, 2 * workers, range, Arc::new(make)).unwrap()
    }

    #[test]
    fn things_come_in_order_whatever_each_takes() {
        let mut pool = pool(3, 5..25, |n, _| {
            std::thread::sleep(Duration::from_millis((n * 7 % 5) as u64));
            Ok(n)
        });
        let all: Vec<usize> = pool.by_ref().map(Result::unwrap).collect();
        assert_eq!(all, (5..25).collect::<Vec<_>>());
        assert!(pool.next().is_none());
    }

    #[test]
    fn one_that_takes_long_is_not_waited_for_longer_than_that() {
        let (go, gate) = unbounded::<()>();
        let mut pool = pool(1, 0..2, move |n, _| {
            let _ = gate.recv();
            Ok(n)
        });
        assert!(!pool.wait(Duration::from_millis(1)));
        drop(go);
        assert!(pool.wait(Duration::from_secs(600)));
        assert_eq!(pool.next().unwrap().unwrap(), 0);
        assert_eq!(pool.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [1]);
        assert!(pool.wait(Duration::ZERO), "there is nothing to come");
    }

    #[test]
    fn an_empty_range_is_over_at_once() {
        assert!(pool(2, 3..3, |n, _| Ok(n)).next().is_none());
    }

    #[test]
    fn an_error_comes_at_its_place_and_the_rest_after_it() {
        let mut pool = pool(2, 0..4, |n, _| match n {
            1 => Err(anyhow!("no 1")),
            2 => panic!("thing {n} is broken"),
            n => Ok(n),
        });
        assert_eq!(pool.next().unwrap().unwrap(), 0);
        assert_eq!(pool.next().unwrap().unwrap_err().to_string(), "no 1");
        let panicked = pool.next().unwrap().unwrap_err().to_string();
        assert!(panicked.contains("thing 2 is broken"), "{panicked}");
        assert_eq!(pool.next().unwrap().unwrap(), 3);
    }

    #[test]
    fn workers_do_not_run_ahead_without_bound() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut pool = pool(2, 0..1000, move |n, _| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(n)
        });
        for _ in 0..3 {
            pool.next().unwrap().unwrap();
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(made.load(Ordering::SeqCst) <= 3 + 4, "{made:?} made after 3 were asked for");
    }

    #[test]
    fn dropping_stops_work_under_way() {
        let stopped = Arc::new(AtomicUsize::new(0));
        let count = stopped.clone();
        let pool = pool(2, 0..100, move |n, stop: &Stop| {
            while !stop.asked() {
                std::thread::sleep(Duration::from_millis(1));
            }
            count.fetch_add(1, Ordering::SeqCst);
            Ok(n)
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(pool);
        // Both threads were joined; what was only queued was never begun.
        assert!((1..=2).contains(&stopped.load(Ordering::SeqCst)), "{stopped:?}");
    }

    #[test]
    fn a_thread_that_does_not_stop_is_not_waited_for() {
        let (release, held) = unbounded::<()>();
        let pool = pool(1, 0..4, move |n, _| {
            // Until the sender is gone.
            let _ = held.recv();
            Ok(n)
        });
        // Were it waited for, this would never return.
        drop(pool);
        drop(release);
    }

    #[test]
    fn libtorch_has_one_thread_in_workers_and_as_many_as_before_here() {
        let before = tch::get_num_threads();
        let mut pool = pool(2, 0..4, |_, _| {
            let _ = tch::Tensor::ones([1 << 17], tch::kind::FLOAT_CPU).sum(tch::Kind::Float);
            Ok(tch::get_num_threads())
        });
        for threads in pool.by_ref() {
            assert_eq!(threads.unwrap(), 1);
        }
        assert_eq!(tch::get_num_threads(), before);
    }
}
