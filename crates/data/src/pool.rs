//! Worker threads that make numbered things of parts, and hand them over in order.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use pipe_native::fault::guarded;

/// What a pool does. Called from many threads; a panic is an error of its part or thing.
pub trait Work: Send + Sync + 'static {
    /// A part of a thing, such as a sample.
    type Part: Send;
    /// A thing, such as a batch.
    type Whole: Send;

    /// How many parts the thing of a number has.
    fn parts(&self, number: usize) -> usize;

    /// Makes a part.
    ///
    /// # Errors
    /// As the work has it; [`Work::whole`] decides what becomes of it.
    fn part(&self, number: usize, index: usize) -> Result<Self::Part>;

    /// Makes the thing of its parts, which are in order.
    ///
    /// # Errors
    /// As the work has it.
    fn whole(&self, number: usize, parts: Vec<Result<Self::Part>>) -> Result<Self::Whole>;
}

/// How many threads there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Threads {
    /// Those that always work, each on a thing of its own as long as there are enough.
    pub workers: usize,
    /// Those that help only while [`Pool::next`] or [`Pool::wait`] waits: then the cores of whoever asks idle.
    pub helpers: usize,
}

/// Threads that make the things of a range of numbers; as an iterator it hands them over in order.
///
/// No more than `ahead` things exist or are being made beyond the one asked for last; with 0 one is begun when it is asked for. An
/// error comes out at its place in order. Dropping the pool stops the threads between two parts and waits for them, but not long for
/// one that does not stop.
pub struct Pool<W: Work> {
    shared: Arc<Shared<W>>,
    next: usize,
    issued: usize,
    end: usize,
    ahead: usize,
    /// Is disconnected when all threads have ended.
    alive: Receiver<()>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<W: Work> {
    work: W,
    board: Mutex<Board<W>>,
    /// There is something to do, or to stop.
    news: Condvar,
    /// A thing is made.
    made: Condvar,
    stop: AtomicBool,
}

struct Board<W: Work> {
    /// Things of which parts are missing, in order.
    jobs: VecDeque<Arc<Job<W>>>,
    made: BTreeMap<usize, Result<W::Whole>>,
    /// Whether somebody waits for a thing.
    awaited: bool,
}

/// A thing in the making.
struct Job<W: Work> {
    number: usize,
    count: usize,
    /// How many parts threads have taken on.
    taken: AtomicUsize,
    parts: Mutex<Parts<W::Part>>,
}

struct Parts<T> {
    made: Vec<Option<Result<T>>>,
    missing: usize,
}

impl<W: Work> Pool<W> {
    /// Starts threads named `name` on `range`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(name: &str, threads: Threads, ahead: usize, range: Range<usize>, work: W) -> Result<Pool<W>> {
        let board = Board { jobs: VecDeque::new(), made: BTreeMap::new(), awaited: false };
        let (news, made, stop) = (Condvar::new(), Condvar::new(), AtomicBool::new(false));
        let shared = Arc::new(Shared { work, board: Mutex::new(board), news, made, stop });
        let (living, alive) = unbounded();
        let (ready, started) = unbounded();
        let (next, issued, end) = (range.start, range.start, range.end);
        let ahead = if threads.workers == 0 { ahead } else { ahead.max(threads.workers) };
        let mut pool = Pool { shared, next, issued, end, ahead, alive, threads: Vec::new() };
        // Asking makes libtorch settle this thread's own number before the workers set theirs.
        let torch_threads = tch::get_num_threads();
        for index in 0..threads.workers + threads.helpers.max(usize::from(threads.workers == 0)) {
            let (shared, living, ready) = (pool.shared.clone(), living.clone(), ready.clone());
            let body = move || {
                single_threaded_torch();
                drop(ready);
                if index < threads.workers {
                    shared.work()
                } else {
                    shared.help()
                }
                drop::<Sender<()>>(living);
            };
            let thread = std::thread::Builder::new().name(format!("{name}-{index}")).spawn(body);
            pool.threads.push(thread.with_context(|| format!("starting worker thread {index} of {name}"))?);
        }
        // The channel closes when every worker has set its number; theirs must not become everybody's.
        drop::<Sender<()>>(ready);
        let _ = started.recv();
        tch::set_num_threads(torch_threads);
        pool.issue(pool.ahead);
        Ok(pool)
    }

    /// Waits until [`Pool::next`] has something to give, but not longer than that; `false` where it has not yet.
    pub fn wait(&mut self, longest: Duration) -> bool {
        self.issue(self.ahead.max(1));
        self.next >= self.end || self.awaited(Some(longest)).made.contains_key(&self.next)
    }

    /// The board when the next thing is made, or the time is over.
    fn awaited(&self, longest: Option<Duration>) -> MutexGuard<'_, Board<W>> {
        let asked = Instant::now();
        let mut board = lock(&self.shared.board);
        while !board.made.contains_key(&self.next) {
            let left = longest.map(|longest| longest.saturating_sub(asked.elapsed()));
            if left == Some(Duration::ZERO) {
                break;
            }
            if !std::mem::replace(&mut board.awaited, true) {
                self.shared.news.notify_all();
            }
            let made = &self.shared.made;
            board = match left {
                Some(left) => made.wait_timeout(board, left).unwrap_or_else(PoisonError::into_inner).0,
                None => made.wait(board).unwrap_or_else(PoisonError::into_inner),
            };
        }
        board.awaited = false;
        board
    }

    /// Hands out numbers, as many as there may be from the next one on.
    fn issue(&mut self, ahead: usize) {
        let first = self.issued;
        self.issued = first.max(self.end.min(self.next + ahead));
        if first == self.issued {
            return;
        }
        let mut board = lock(&self.shared.board);
        for number in first..self.issued {
            let count = self.shared.work.parts(number);
            if count == 0 {
                let whole = guarded(|| self.shared.work.whole(number, Vec::new()));
                board.made.insert(number, whole);
                continue;
            }
            let parts = Parts { made: (0..count).map(|_| None).collect(), missing: count };
            board.jobs.push_back(Arc::new(Job { number, count, taken: AtomicUsize::new(0), parts: Mutex::new(parts) }));
        }
        drop(board);
        self.shared.news.notify_all();
    }
}

impl<W: Work> Iterator for Pool<W> {
    type Item = Result<W::Whole>;

    /// The thing of the next number, or `None` after the last. After an error the rest can still be asked for.
    fn next(&mut self) -> Option<Result<W::Whole>> {
        if self.next >= self.end {
            return None;
        }
        self.issue(self.ahead.max(1));
        let made = self.awaited(None).made.remove(&self.next);
        self.next += 1;
        self.issue(self.ahead);
        made
    }
}

impl<W: Work> Drop for Pool<W> {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Under the lock, so that no thread is between looking and waiting.
        let mut board = lock(&self.shared.board);
        board.jobs.clear();
        let unwanted = std::mem::take(&mut board.made);
        drop(board);
        drop(unwanted);
        self.shared.news.notify_all();
        // One that reads a file which does not come is left to itself.
        if self.alive.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Disconnected) {
            self.threads.drain(..).for_each(|thread| drop(thread.join()));
        }
    }
}

/// How long a thread that was asked to stop is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

impl<W: Work> Shared<W> {
    /// What a worker does: things that nobody has begun, else what is left of others.
    fn work(&self) {
        let find = |board: &Board<W>| {
            let fresh = board.jobs.iter().find(|job| job.taken.load(Ordering::Relaxed) == 0);
            fresh.or_else(|| board.jobs.iter().find(|job| job.is_left())).cloned()
        };
        while let Some(job) = self.job(find) {
            let mut left = true;
            while left && !self.stop.load(Ordering::Relaxed) {
                left = self.part(&job);
            }
        }
    }

    /// What a helper does: the next part, while somebody waits.
    fn help(&self) {
        let find = |board: &Board<W>| board.jobs.iter().find(|job| board.awaited && job.is_left()).cloned();
        while let Some(job) = self.job(find) {
            self.part(&job);
        }
    }

    /// Waits until `find` finds something to do; `None` to stop.
    fn job(&self, find: impl Fn(&Board<W>) -> Option<Arc<Job<W>>>) -> Option<Arc<Job<W>>> {
        let mut board = lock(&self.board);
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            if let Some(job) = find(&board) {
                return Some(job);
            }
            board = self.news.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Makes one part, if one is left; whoever makes the last one makes the thing.
    fn part(&self, job: &Job<W>) -> bool {
        let index = job.taken.fetch_add(1, Ordering::Relaxed);
        if index >= job.count {
            return false;
        }
        let part = guarded(|| self.work.part(job.number, index));
        let mut parts = lock(&job.parts);
        parts.made[index] = Some(part);
        parts.missing -= 1;
        if parts.missing > 0 {
            return true;
        }
        let all = std::mem::take(&mut parts.made).into_iter().flatten().collect();
        drop(parts);
        let whole = guarded(|| self.work.whole(job.number, all));
        let mut board = lock(&self.board);
        board.jobs.retain(|other| other.number != job.number);
        if !self.stop.load(Ordering::Relaxed) {
            board.made.insert(job.number, whole);
        }
        drop(board);
        self.made.notify_all();
        true
    }
}

impl<W: Work> Job<W> {
    /// Whether there are parts that nobody has taken on.
    fn is_left(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < self.count
    }
}

/// Nothing panics while it holds a lock, and if something did, what is under it would be as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    use anyhow::anyhow;

    /// Things of as many parts, each made by a function of number and index, which are listed.
    struct Numbers<F> {
        parts: usize,
        make: F,
    }

    impl<T: Send + 'static, F: Fn(usize, usize) -> Result<T> + Send + Sync + 'static> Work for Numbers<F> {
        type Part = T;
        type Whole = Vec<T>;

        fn parts(&self, _number: usize) -> usize {
            self.parts
        }

        fn part(&self, number: usize, index: usize) -> Result<T> {
            (self.make)(number, index)
        }

        fn whole(&self, _number: usize, parts: Vec<Result<T>>) -> Result<Vec<T>> {
            parts.into_iter().collect()
        }
    }

    fn pool<T: Send + 'static, F: Fn(usize, usize) -> Result<T> + Send + Sync + 'static>(
        (workers, helpers): (usize, usize),
        parts: usize,
        range: Range<usize>,
        make: F,
    ) -> Pool<Numbers<F>> {
        Pool::start("test", Threads { workers, helpers }, 2 * workers, range, Numbers { parts, make }).unwrap()
    }

    #[test]
    fn things_come_in_order_whatever_each_takes_and_whoever_makes_it() {
        for threads in [(3, 0), (1, 2), (0, 2), (0, 0)] {
            let mut pool = pool(threads, 3, 5..25, |number, index| {
                std::thread::sleep(Duration::from_millis(((number * 7 + index) % 5) as u64));
                Ok(10 * number + index)
            });
            let all: Vec<_> = pool.by_ref().map(Result::unwrap).collect();
            assert_eq!(all, (5..25).map(|n| vec![10 * n, 10 * n + 1, 10 * n + 2]).collect::<Vec<_>>());
            assert!(pool.next().is_none());
        }
    }

    #[test]
    fn one_that_takes_long_is_not_waited_for_longer_than_that() {
        for threads in [(1, 0), (0, 1)] {
            let (go, gate) = unbounded::<()>();
            let mut pool = pool(threads, 1, 0..2, move |number, _| {
                let _ = gate.recv();
                Ok(number)
            });
            assert!(!pool.wait(Duration::from_millis(1)));
            drop(go);
            assert!(pool.wait(Duration::from_secs(600)));
            assert_eq!(pool.next().unwrap().unwrap(), [0]);
            assert_eq!(pool.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [[1]]);
            assert!(pool.wait(Duration::ZERO), "there is nothing to come");
        }
    }

    #[test]
    fn helpers_make_parts_only_while_somebody_waits() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut pool = pool((0, 4), 8, 0..3, move |number, _| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(number)
        });
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 0);
        assert_eq!(pool.next().unwrap().unwrap(), [0; 8]);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), 8);
    }

    #[test]
    fn parts_of_one_thing_are_made_side_by_side() {
        // Each part waits for the other: with one thread this would never return.
        let barrier = Arc::new(std::sync::Barrier::new(2));
        for threads in [(2, 0), (1, 1), (0, 2)] {
            let barrier = barrier.clone();
            let mut pool = pool(threads, 2, 0..3, move |number, _| {
                barrier.wait();
                Ok(number)
            });
            assert_eq!(pool.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [[0, 0], [1, 1], [2, 2]]);
        }
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert!(pool((2, 0), 1, 3..3, |n, _| Ok(n)).next().is_none());
        assert!(pool((2, 0), 0, 3..4, |n, _| Ok(n)).next().unwrap().unwrap().is_empty());
    }

    #[test]
    fn an_error_comes_at_its_place_and_the_rest_after_it() {
        let mut pool = pool((2, 0), 1, 0..4, |n, _| match n {
            1 => Err(anyhow!("no 1")),
            2 => panic!("thing {n} is broken"),
            n => Ok(n),
        });
        assert_eq!(pool.next().unwrap().unwrap(), [0]);
        assert_eq!(pool.next().unwrap().unwrap_err().to_string(), "no 1");
        let panicked = pool.next().unwrap().unwrap_err().to_string();
        assert!(panicked.contains("thing 2 is broken"), "{panicked}");
        assert_eq!(pool.next().unwrap().unwrap(), [3]);
    }

    #[test]
    fn workers_do_not_run_ahead_without_bound() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let mut pool = pool((2, 0), 1, 0..1000, move |n, _| {
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
    fn dropping_stops_between_two_parts() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = made.clone();
        let pool = pool((2, 0), 1_000_000, 0..100, move |n, _| {
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            Ok(n)
        });
        std::thread::sleep(Duration::from_millis(20));
        drop(pool);
        // Both threads were joined.
        let then = made.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(made.load(Ordering::SeqCst), then);
    }

    #[test]
    fn a_thread_that_does_not_stop_is_not_waited_for() {
        let (release, held) = unbounded::<()>();
        let pool = pool((1, 0), 1, 0..4, move |n, _| {
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
        let mut pool = pool((2, 1), 2, 0..4, |_, _| {
            let _ = tch::Tensor::ones([1 << 17], tch::kind::FLOAT_CPU).sum(tch::Kind::Float);
            Ok(tch::get_num_threads())
        });
        for threads in pool.by_ref() {
            assert_eq!(threads.unwrap(), [1, 1]);
        }
        assert_eq!(tch::get_num_threads(), before);
    }
}
