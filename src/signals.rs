//! Signals: the first asks for a checkpoint and the end, the second ends the process at once.

use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipe_core::{Requests, terminal};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What is said when a signal has come.
#[derive(Debug, Clone, Copy)]
pub struct Words {
    /// At once, where the end takes long enough to read it.
    pub first: Option<&'static str>,
    /// From time to time, while it is not done.
    pub still: &'static str,
    /// As lines of JSON.
    pub json: bool,
}

/// What a command says that has nothing to save.
pub const STOPPING: Words = Words {
    first: Some("stopping; press Ctrl-C again to stop immediately"),
    still: "the batch is still running",
    json: false,
};

/// How often it is said that the end takes long.
const PATIENCE: Duration = Duration::from_secs(10);

type Undo = Box<dyn FnOnce() + Send>;

/// What a command is asked by signals.
#[derive(Clone, Default)]
pub struct Signals {
    /// What was asked.
    pub requests: Requests,
    /// The first signal that asked for the end; 0 while there was none.
    number: Arc<AtomicI32>,
    /// What is done before the process ends, where a signal comes before there is anything to save; none once there is.
    before: Arc<Mutex<Option<Undo>>>,
}

impl Signals {
    /// Listens for SIGINT, SIGTERM and SIGUSR1 from now on.
    ///
    /// # Errors
    /// When the process cannot listen for signals.
    pub fn listen(words: Words) -> Result<Signals> {
        let signals = Signals::default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::user_defined1()] {
            signals.ends_on(kind, words)?;
        }
        Ok(signals)
    }

    /// As [`Signals::listen`] for a run, which ends at once until it has [begun](Signals::begun): also for SIGHUP, unless that
    /// is to be ignored (`nohup`) or, as soon as the run has begun, to `reload`; SIGUSR2 asks for a checkpoint.
    ///
    /// # Errors
    /// As [`Signals::listen`].
    pub fn listen_for_run(words: Words, reload: bool) -> Result<Signals> {
        let signals = Signals::listen(words)?;
        signals.before_it_begins(|| {});
        let hangup = SignalKind::hangup();
        if !is_ignored(hangup) {
            let asked = signals.clone();
            on_signal(hangup, move || {
                if !reload || asked.is_beginning() {
                    asked.end(hangup, words);
                }
            })?;
        }
        let checkpoint = signals.requests.checkpoint.clone();
        on_signal(SignalKind::user_defined2(), move || checkpoint.store(true, Ordering::Relaxed))?;
        Ok(signals)
    }

    /// What is to be done before the process ends, while there is nothing to save.
    pub fn before_it_begins(&self, undo: impl FnOnce() + Send + 'static) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(undo));
    }

    /// From now on there is something to save.
    pub fn begun(&self) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The exit status of a command that a signal ended: 128 and the signal's number, SIGINT's where there was none.
    pub fn status(&self) -> u8 {
        let number = self.number.load(Ordering::Relaxed);
        u8::try_from(128 + number).ok().filter(|_| number > 0).unwrap_or(130)
    }

    fn is_beginning(&self) -> bool {
        self.before.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn ends_on(&self, kind: SignalKind, words: Words) -> Result<()> {
        let signals = self.clone();
        on_signal(kind, move || signals.end(kind, words))
    }

    /// Asks for the end; a second time, ends.
    fn end(&self, kind: SignalKind, words: Words) {
        let number = kind.as_raw_value();
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.number.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if before.take().map(|undo| undo()).is_some() || !first {
            // Not by way of libtorch's own ending, which takes away what is at work still uses. The lock is held: a run that
            // had not begun does not begin any more.
            pipe_native::exit_now(128 + number);
        }
        drop(before);
        self.requests.interrupt.store(true, Ordering::Relaxed);
        // On a thread of its own: nobody may read what is said, and the second signal is still to be heard.
        std::thread::spawn(move || words.say());
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals")
            .field("requests", &self.requests)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

impl Words {
    fn say(self) -> ! {
        let say = |text: &str| if self.json { tracing::warn!("{text}") } else { terminal::line(text) };
        let asked = Instant::now();
        // After the `^C` that the terminal shows.
        if let Some(first) = self.first {
            say(&if self.json { first.to_owned() } else { format!("\n{first}") });
        }
        loop {
            std::thread::sleep(PATIENCE);
            say(&format!("{} ({} s); press Ctrl-C again to stop immediately", self.still, asked.elapsed().as_secs()));
        }
    }
}

/// Whether whoever started the process wants a signal to be ignored.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}

/// Does something on each signal of a kind, on a thread of its own.
///
/// # Errors
/// When the process cannot listen for it.
pub fn on_signal(kind: SignalKind, mut action: impl FnMut() + Send + 'static) -> Result<()> {
    let listening = || -> Result<(tokio::runtime::Runtime, Signal)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let signals = signal(kind)?;
        drop(guard);
        Ok((runtime, signals))
    };
    let (runtime, mut signals) =
        listening().with_context(|| format!("cannot listen for signal {}", kind.as_raw_value()))?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            while signals.recv().await.is_some() {
                action();
            }
        });
    })?;
    Ok(())
}
