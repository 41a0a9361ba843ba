//! Child processes that read JSON lines, shared by `sink.process` and `handler.process`. The protocol is in
//! `docs/child_processes.md`.
//!
//! - [`config`]: the options
//! - [`worker`]: the thread that writes to the child and restarts it
//! - [`output`]: the threads that read the child's output
//! - this file: the training thread's side
//!
//! The training thread never waits for the child unless the options say so, and then only for a bounded time.

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

/// The version of the protocol, sent in the first line.
pub const PROTOCOL: u32 = 1;

/// How often a wait checks whether the child is still alive.
const SLICE: Duration = Duration::from_millis(20);

/// A child process, restarted when the options say so.
pub struct Child {
    node: String,
    config: ChildConfig,
    shared: Arc<Shared>,
    /// `None` once it was told to exit.
    queue: Option<Sender<String>>,
    answers: Receiver<Value>,
    worker: Option<std::thread::JoinHandle<()>>,
    /// Lines that were not delivered.
    lost: u64,
    told_lost: bool,
    told_end: bool,
}

impl Child {
    /// Starts the child and sends it the first line.
    ///
    /// # Errors
    /// When the program does not exist or cannot be started.
    pub fn start(node: &str, config: ChildConfig, run_folder: &Path) -> Result<Child> {
        let folder = std::path::absolute(run_folder).unwrap_or_else(|_| run_folder.to_owned());
        let hello = json!({
            "type": "hello", "protocol": PROTOCOL, "pipe": env!("CARGO_PKG_VERSION"), "node": node,
            "run": folder.display().to_string(),
        });
        let (queue, lines) = bounded(config.queue);
        // Answers are requested one at a time: one that nobody waits for any more makes room for the next.
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

    /// Sends the child a line.
    ///
    /// # Errors
    /// With `on_failure = "raise"`: when the child has failed for good, with the reason.
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
        self.shared.kill(&format!("read nothing for {}", self.config.timeout));
        self.lose();
        Ok(())
    }

    /// Waits for the answer to the line with this number.
    ///
    /// # Errors
    /// As [`Child::send`]. A child that does not answer in time is killed, which counts for its restart policy.
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

    /// A child that does not read is killed once a line has waited too long.
    fn kill_if_stuck(&self) {
        if self.shared.writing_for().is_some_and(|waited| waited > self.config.timeout.get()) {
            self.shared.kill(&format!("read nothing for {}", self.config.timeout));
        }
    }

    fn lose(&mut self) {
        self.lost += 1;
        if !self.told_lost {
            self.told_lost = true;
            tracing::warn!("{}: the child is slower than the run; lines are dropped and counted", self.node);
        }
    }

    /// Warns once that the child has ended for good, or returns it as an error.
    fn ended(&mut self) -> Result<()> {
        let reason = self.shared.ended().unwrap_or_else(|| "ended".into());
        if self.config.on_failure == OnFailure::Raise {
            bail!("{}: the child process {reason}", self.node);
        }
        if !self.told_end {
            self.told_end = true;
            tracing::warn!("{}: the child process {reason}; the run continues without it", self.node);
        }
        Ok(())
    }

    /// Sends the child its last line, closes its input and waits for it to exit, for a bounded time.
    ///
    /// # Errors
    /// As [`Child::send`]; and when it failed.
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
            self.shared.stop(&format!("did not exit within {} after it was told to", self.config.timeout));
        }
        self.join();
        if self.lost > 0 {
            tracing::warn!("{}: {} lines were not delivered to the child", self.node, self.lost);
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
