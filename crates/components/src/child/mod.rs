//! Child processes that take JSON lines: what `sink.process` and `handler.process` share. `docs/child_processes.md` has the
//! protocol.
//!
//! - [`config`]: the options
//! - [`worker`]: the thread that writes to the child and starts it again
//! - [`output`]: the threads that read what the child writes
//! - this file: what the training thread holds
//!
//! The training thread never waits for the child but where the options say so, and then for a bounded time.

pub mod config;
mod output;
mod worker;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError, bounded};
use serde_json::{Value, json};

pub use config::{ChildConfig, OnFailure, Policy, Restart, WhenFull};
use worker::{Shared, Worker};

/// The version of the protocol, told in the first line.
pub const PROTOCOL: u32 = 1;

/// How often a wait looks whether the child is still there.
const SLICE: Duration = Duration::from_millis(20);

/// A child process, started again when the options say so.
pub struct Child {
    node: String,
    config: ChildConfig,
    shared: Arc<Shared>,
    /// `None` once it was told to end.
    queue: Option<Sender<String>>,
    answers: Receiver<Value>,
    worker: Option<std::thread::JoinHandle<()>>,
    /// Lines that the child did not get.
    lost: u64,
    told_lost: bool,
    told_end: bool,
}

impl Child {
    /// Starts the child and greets it.
    ///
    /// # Errors
    /// When there is no such program, or it may not be started.
    pub fn start(node: &str, config: ChildConfig, run_folder: &Path) -> Result<Child> {
        let folder = std::path::absolute(run_folder).unwrap_or_else(|_| run_folder.to_owned());
        let hello = json!({
            "type": "hello", "protocol": PROTOCOL, "pipe": env!("CARGO_PKG_VERSION"), "node": node,
            "run": folder.display().to_string(),
        });
        let (queue, lines) = bounded(config.queue);
        // Answers are asked for one at a time: one that nobody waits for any more makes room for the next.
        let (answer, answers) = bounded(16);
        let shared = Arc::new(Shared::default());
        let worker = Worker::start(node, &config, hello.to_string(), lines, answer, shared.clone())?;
        Ok(Child {
            node: node.to_owned(),
            config,
            shared,
            queue: Some(queue),
            answers,
            worker: Some(worker),
            lost: 0,
            told_lost: false,
            told_end: false,
        })
    }

    /// Gives the child a line.
    ///
    /// # Errors
    /// With `on_failure = "raise"`: when the child has ended for good, with the reason.
    pub fn send(&mut self, message: &Value) -> Result<()> {
        self.put(message, self.config.when_full == WhenFull::Block)
    }

    fn put(&mut self, message: &Value, wait: bool) -> Result<()> {
        self.kill_if_stuck();
        let Some(queue) = &self.queue else { return Ok(()) };
        if self.shared.ended().is_some() {
            self.lost += 1;
            return self.ended();
        }
        match queue.try_send(message.to_string()) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(_)) => {
                self.lost += 1;
                self.ended()
            }
            Err(TrySendError::Full(line)) if wait => self.wait_for_room(line),
            Err(TrySendError::Full(_)) => {
                self.lose();
                Ok(())
            }
        }
    }

    fn wait_for_room(&mut self, mut line: String) -> Result<()> {
        let deadline = Instant::now() + self.config.timeout.get();
        while Instant::now() < deadline {
            let Some(queue) = &self.queue else { return Ok(()) };
            match queue.send_timeout(line, SLICE) {
                Ok(()) => return Ok(()),
                Err(SendTimeoutError::Timeout(back)) => line = back,
                Err(SendTimeoutError::Disconnected(_)) => break,
            }
            if self.shared.ended().is_some() {
                break;
            }
        }
        if self.shared.ended().is_some() {
            self.lost += 1;
            return self.ended();
        }
        self.shared.kill(&format!("took nothing for {}", self.config.timeout));
        self.lose();
        Ok(())
    }

    /// Waits for the answer to the line of this number.
    ///
    /// # Errors
    /// As [`Child::send`]. A child that does not answer in time is stopped, which its restart policy sees.
    pub fn answer(&mut self, id: u64) -> Result<Option<Value>> {
        let deadline = Instant::now() + self.config.timeout.get();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left.min(SLICE)) {
                Ok(answer) if answer.get("id").and_then(Value::as_u64) == Some(id) => return Ok(Some(answer)),
                Ok(_) => continue,
                Err(_) => {}
            }
            if self.shared.ended().is_some() {
                return self.ended().map(|()| None);
            }
            if left.is_zero() {
                self.shared.kill(&format!("gave no answer for {}", self.config.timeout));
                return Ok(None);
            }
        }
    }

    /// A child that does not read is stopped once a line has waited for it too long.
    fn kill_if_stuck(&self) {
        if self.shared.writing_for().is_some_and(|waited| waited > self.config.timeout.get()) {
            self.shared.kill(&format!("took nothing for {}", self.config.timeout));
        }
    }

    fn lose(&mut self) {
        self.lost += 1;
        if !self.told_lost {
            self.told_lost = true;
            tracing::warn!("{}: the child is slower than the run; lines are left out and counted", self.node);
        }
    }

    /// Says once that the child has ended for good, or raises it.
    fn ended(&mut self) -> Result<()> {
        let reason = self.shared.ended().unwrap_or_else(|| "ended".into());
        if self.config.on_failure == OnFailure::Raise {
            bail!("{}: the child process {reason}", self.node);
        }
        if !self.told_end {
            self.told_end = true;
            tracing::warn!("{}: the child process {reason}; the run goes on without it", self.node);
        }
        Ok(())
    }

    /// Gives the child its last line, closes its input and waits for it to end, for a bounded time.
    ///
    /// # Errors
    /// As [`Child::send`]; and when it ended badly.
    pub fn finish(&mut self, last: &Value) -> Result<()> {
        if self.queue.is_none() {
            return Ok(());
        }
        let sent = self.put(last, true);
        self.queue = None;
        let deadline = Instant::now() + self.config.timeout.get();
        while !self.shared.gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if !self.shared.gone() {
            self.shared.stop(&format!("did not end for {} after it was told to", self.config.timeout));
        }
        self.join();
        if self.lost > 0 {
            tracing::warn!("{}: the child did not get {} lines", self.node, self.lost);
        }
        sent?;
        match self.shared.ended() {
            Some(_) => self.ended().context("at the end of the run"),
            None => Ok(()),
        }
    }

    fn join(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(2);
        while !self.shared.gone() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.shared.gone()
            && let Some(worker) = self.worker.take()
            && worker.join().is_err()
        {
            tracing::warn!("{}: the thread that writes to the child panicked", self.node);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.queue = None;
        if !self.shared.gone() {
            self.shared.stop("was stopped with the run");
            self.join();
        }
    }
}

#[cfg(test)]
mod tests;
