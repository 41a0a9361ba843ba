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
/// SIGTERM.
const TERMINATE: i32 = 15;
/// How often it is looked whether that is over.
const TICK: Duration = Duration::from_millis(50);

/// Says that this rank is there until it is dropped, and ends the process when another has said nothing for too long.
pub struct Beats {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Beats {
    /// By a connection to the store of its own. `started` says whether who started this rank keeps it: when that is gone the run is asked to end.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(store: Store, place: (usize, usize), started: bool) -> Result<Beats> {
        let over = Arc::new(AtomicBool::new(false));
        let heard = over.clone();
        let thread = thread::Builder::new().name("beats".into());
        let work = move || {
            // Where rank 0 keeps it, the store ends before the others do.
            if beat(&store, place, &heard).is_err() && started && !heard.load(Ordering::Relaxed) {
                terminal::line("error: who started this rank is gone");
                pipe_native::signal(std::process::id(), TERMINATE);
            }
        };
        let thread = thread.spawn(work).context("cannot start a thread")?;
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

/// Until it is over, or the store is gone.
fn beat(store: &Store, (rank, size): (usize, usize), over: &AtomicBool) -> Result<()> {
    let others = (0..size).filter(|other| *other != rank);
    let mut heard: Vec<(usize, i64, Instant)> = others.map(|other| (other, -1, Instant::now())).collect();
    let mut said: Option<Instant> = None;
    loop {
        if over.load(Ordering::Relaxed) {
            return store.add(&format!("left/{rank}"), 1).map(drop);
        }
        if said.is_some_and(|said| said.elapsed() < EVERY) {
            thread::sleep(TICK);
            continue;
        }
        said = Some(Instant::now());
        store.add(&format!("beat/{rank}"), 1)?;
        for (other, last, since) in &mut heard {
            let now = store.add(&format!("beat/{other}"), 0)?;
            if now != *last {
                (*last, *since) = (now, Instant::now());
            }
            let silent = since.elapsed() > LONGEST;
            // One that has failed or ended in order has said so.
            if silent && store.add("failed", 0)? == 0 && store.add(&format!("left/{other}"), 0)? == 0 {
                let seconds = LONGEST.as_secs();
                terminal::line(&format!(
                    "error: rank {other} has not answered for {seconds} s: it hangs, or its machine is gone"
                ));
                pipe_native::exit_now(1);
            }
        }
    }
}
