//! Signals: the first asks for a checkpoint and the end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context, Result};
use pipe_core::terminal;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a run is asked from outside.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    /// Set by the first signal.
    pub flag: Arc<AtomicBool>,
    number: Arc<AtomicI32>,
}

impl Interrupt {
    /// The exit status of a command that a signal ended: 128 and the signal's number, SIGINT's where there was none.
    pub fn status(&self) -> u8 {
        let number = self.number.load(Ordering::Relaxed);
        u8::try_from(128 + number).ok().filter(|_| number > 0).unwrap_or(130)
    }
}

/// Listens for SIGINT, SIGTERM and SIGUSR1 from now on. `words` are said at the first.
///
/// # Errors
/// When the process cannot listen for signals.
pub fn listen(words: &'static str, json: bool) -> Result<Interrupt> {
    let interrupt = Interrupt::default();
    let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::user_defined1()];
    for kind in kinds {
        let interrupt = interrupt.clone();
        on_signal(kind, move || {
            let status = 128 + kind.as_raw_value();
            if interrupt.flag.swap(true, Ordering::Relaxed) {
                // Not by way of libtorch's own ending, which takes away what the step at work still uses.
                pipe_native::exit_now(status);
            }
            interrupt.number.store(kind.as_raw_value(), Ordering::Relaxed);
            // After the `^C` that the terminal shows.
            if json { tracing::warn!("{words}") } else { terminal::line(&format!("\n{words}")) }
        })?;
    }
    Ok(interrupt)
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
