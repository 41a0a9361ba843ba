//! Whether the other ranks are there: each says so in the store every second, by a thread that no step holds up. Collectives find out at once
//! when a process has ended; one that is frozen, or whose machine is gone, they would wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use pipe_core::terminal;
use pipe_native::distributed::Store;

/// How often a rank says that it is there.
const EVERY: Duration = Duration::from_secs(1);
/// For how long one may say nothing.
const LONGEST: Duration = Duration::from_secs(6);
/// How often it is looked whether that is over.
const TICK: Duration = Duration::from_millis(50);

/// Says that this rank is there until it is dropped, and ends the process when another has said nothing for too long.
pub struct Beats {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beats {
    /// By a connection to the store of its own.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(store: Store, rank: usize, size: usize) -> Result<Beats> {
        let over = Arc::new(AtomicBool::new(false));
        let heard = over.clone();
        let thread = thread::Builder::new().name("beats".into());
        let thread = thread.spawn(move || beat(&store, (rank, size), &heard)).context("cannot start a thread")?;
        Ok(Beats { over, thread: Some(thread) })
    }
}

impl Drop for Beats {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn beat(store: &Store, (rank, size): (usize, usize), over: &AtomicBool) {
    let others = (0..size).filter(|other| *other != rank);
    let mut heard: Vec<(usize, i64, Instant)> = others.map(|other| (other, -1, Instant::now())).collect();
    let mut said = Instant::now() - EVERY;
    loop {
        if over.load(Ordering::Relaxed) {
            let _gone = store.add(&format!("left/{rank}"), 1);
            return;
        }
        if said.elapsed() < EVERY {
            thread::sleep(TICK);
            continue;
        }
        said = Instant::now();
        // Without the store, rank 0 or who started it is gone, which collectives find out.
        if store.add(&format!("beat/{rank}"), 1).is_err() {
            return;
        }
        for (other, last, since) in &mut heard {
            let Ok(now) = store.add(&format!("beat/{other}"), 0) else { return };
            if now != *last {
                (*last, *since) = (now, Instant::now());
            } else if since.elapsed() > LONGEST {
                let failed = store.add("failed", 0).is_ok_and(|failed| failed > 0);
                let left = store.add(&format!("left/{other}"), 0).is_ok_and(|left| left > 0);
                if !failed && !left {
                    let seconds = LONGEST.as_secs();
                    terminal::line(&format!(
                        "error: rank {other} has not answered for {seconds} s: it hangs, or its machine is gone"
                    ));
                    pipe_native::exit_now(1);
                }
            }
        }
    }
}
