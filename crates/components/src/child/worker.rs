//! The thread that writes to a child, and restarts it when it fails.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde_json::Value;

use super::config::{ChildConfig, Policy};
use super::output;

/// The longest wait before a restart.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How often to check whether the process has exited.
const POLL: Duration = Duration::from_millis(5);

/// State shared by the training thread and the worker.
#[derive(Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The worker has ended, and the process with it.
    gone: AtomicBool,
    /// No further process may be started.
    stopping: AtomicBool,
}

#[derive(Default)]
struct State {
    process: Option<std::process::Child>,
    /// Since when a line is being written.
    writing: Option<Instant>,
    /// Why the process was killed.
    killed: Option<String>,
    /// Why there is no process any more, permanently.
    ended: Option<String>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the child is gone for good, if it failed or ended by itself.
    pub fn ended(&self) -> Option<String> {
        self.lock().ended.clone()
    }

    /// Whether the worker has ended.
    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    /// How long the line that is being written has waited for the child.
    pub fn writing_for(&self) -> Option<Duration> {
        self.lock().writing.map(|since| since.elapsed())
    }

    /// Kills the process; the worker decides what happens then.
    pub fn kill(&self, why: &str) {
        let mut state = self.lock();
        state.writing = None;
        let Some(process) = &mut state.process else { return };
        // Fails only if it has just exited by itself.
        let _ = process.kill();
        state.killed.get_or_insert_with(|| why.to_owned());
    }

    /// Kills the process for good.
    pub fn stop(&self, why: &str) {
        self.stopping.store(true, Ordering::Release);
        self.kill(why);
    }

    fn end(&self, why: &str) {
        self.lock().ended = Some(why.to_owned());
    }

    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// What to write.
enum Next {
    /// A line.
    Line(String),
    /// Nothing more: the run has ended.
    NoMore,
    /// Nobody to write to: the process has ended.
    Ended,
}

/// See the module.
pub(super) struct Worker {
    node: String,
    config: ChildConfig,
    hello: String,
    lines: Receiver<String>,
    answers: Sender<Value>,
    shared: Arc<Shared>,
    restarts: u32,
}

impl Worker {
    /// Starts the child, and the thread that writes to it.
    pub fn start(
        node: &str,
        config: &ChildConfig,
        hello: String,
        lines: Receiver<String>,
        answers: Sender<Value>,
        shared: Arc<Shared>,
    ) -> Result<JoinHandle<()>> {
        let mut worker =
            Worker { node: node.into(), config: config.clone(), hello, lines, answers, shared, restarts: 0 };
        let stdin = worker.spawn()?;
        let thread = std::thread::Builder::new().name(format!("to {node}"));
        let thread = thread.spawn(move || {
            worker.work(stdin);
            worker.shared.gone.store(true, Ordering::Release);
        });
        thread.context("cannot start a thread for the child process")
    }

    fn spawn(&self) -> Result<ChildStdin> {
        let (program, arguments) = self.config.command.split_first().context("`command` is empty")?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(self.config.env.iter().map(|(name, value)| (name, value.reveal())));
        if let Some(dir) = self.config.dir.as_ref().and_then(|dir| dir.path()) {
            command.current_dir(dir);
        }
        // Ctrl-C in a terminal goes to every process of the group: the child is told by us, after the last line.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.spawn().with_context(|| format!("cannot start `{program}`"))?;
        let (stdin, stdout, stderr) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        if let Some(stdout) = stdout {
            let (node, answers) = (self.node.clone(), self.answers.clone());
            read_aside(move || output::read(&node, stdout, false, Some(answers)))?;
        }
        if let Some(stderr) = stderr {
            let node = self.node.clone();
            read_aside(move || output::read(&node, stderr, true, None))?;
        }
        let mut state = self.shared.lock();
        state.process = Some(process);
        state.killed = None;
        stdin.context("the child process has no standard input")
    }

    /// Writes lines until there are no more, across restarts of the child.
    fn work(&mut self, stdin: ChildStdin) {
        let mut stdin = Some(stdin);
        // The line that was not delivered before the restart.
        let mut waiting: Option<String> = None;
        loop {
            let finished = stdin.take().is_some_and(|stdin| self.feed(stdin, &mut waiting));
            let why = match self.wait() {
                Ok(()) if finished => return,
                Ok(()) => return self.shared.end("ended by itself, with status 0"),
                // Told to exit: its status matters, but it is not restarted.
                Err(why) if finished || self.shared.stopping() || !self.may_restart() => return self.shared.end(&why),
                Err(why) => why,
            };
            tracing::warn!("{}: the child process {why}; it is restarted", self.node);
            match self.restart() {
                Some(new) => stdin = Some(new),
                None => return self.shared.end(&why),
            }
        }
    }

    fn may_restart(&self) -> bool {
        self.config.restart.policy == Policy::OnFailure && self.restarts < self.config.restart.max
    }

    /// Waits and restarts the child, as often as the policy allows.
    fn restart(&mut self) -> Option<ChildStdin> {
        while self.may_restart() && !self.shared.stopping() {
            let wait = self.config.restart.backoff.get().saturating_mul(1 << self.restarts.min(16));
            self.restarts += 1;
            let until = Instant::now() + wait.min(LONGEST_BACKOFF);
            while Instant::now() < until && !self.shared.stopping() {
                std::thread::sleep(POLL.min(until.saturating_duration_since(Instant::now())));
            }
            match self.spawn() {
                Ok(stdin) => return Some(stdin),
                Err(error) => tracing::warn!("{}: {error:#}", self.node),
            }
        }
        None
    }

    /// Writes lines to one process; returns whether all were written.
    fn feed(&self, mut stdin: ChildStdin, waiting: &mut Option<String>) -> bool {
        if self.write(&mut stdin, &self.hello).is_err() {
            return false;
        }
        loop {
            let line = match waiting.take() {
                Some(line) => line,
                None => match self.next() {
                    Next::Line(line) => line,
                    Next::NoMore => return true,
                    Next::Ended => return false,
                },
            };
            if self.write(&mut stdin, &line).is_err() {
                *waiting = Some(line);
                return false;
            }
        }
    }

    fn next(&self) -> Next {
        loop {
            match self.lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => return Next::Line(line),
                Err(RecvTimeoutError::Disconnected) => return Next::NoMore,
                Err(RecvTimeoutError::Timeout) => {
                    let mut state = self.shared.lock();
                    if let Some(process) = &mut state.process
                        && matches!(process.try_wait(), Ok(Some(_)))
                    {
                        return Next::Ended;
                    }
                }
            }
        }
    }

    fn write(&self, stdin: &mut ChildStdin, line: &str) -> std::io::Result<()> {
        self.shared.lock().writing = Some(Instant::now());
        let written = writeln!(stdin, "{line}").and_then(|()| stdin.flush());
        self.shared.lock().writing = None;
        written
    }

    /// Waits for the process to end.
    ///
    /// Its input is closed by now. One that does not exit is killed by the training thread at the end of the run; one that has
    /// closed its input and keeps running is killed here.
    fn wait(&self) -> std::result::Result<(), String> {
        let deadline = Instant::now() + self.config.timeout.get();
        loop {
            let mut state = self.shared.lock();
            let Some(process) = &mut state.process else { return Ok(()) };
            match process.try_wait() {
                Ok(Some(status)) => {
                    state.process = None;
                    let killed = state.killed.take();
                    return match (killed, status.success()) {
                        (Some(why), _) => Err(format!("{why} and was stopped")),
                        (None, true) => Ok(()),
                        (None, false) => Err(format!("failed ({status})")),
                    };
                }
                Ok(None) if Instant::now() >= deadline => {
                    let _ = process.kill();
                    let why = format!("did not exit within {} after its input was closed", self.config.timeout);
                    state.killed.get_or_insert(why);
                }
                Ok(None) => {}
                Err(error) => {
                    state.process = None;
                    return Err(format!("cannot be waited for: {error}"));
                }
            }
            drop(state);
            std::thread::sleep(POLL);
        }
    }
}

fn read_aside(read: impl FnOnce() + Send + 'static) -> Result<()> {
    std::thread::Builder::new().name("from child".into()).spawn(read).context("cannot start a thread")?;
    Ok(())
}
