//! Writes what a run shows beside numbers, in a thread: an image takes long to encode.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Result;
use pipe_vocab::Record;

use crate::media::Writer;

/// So many records wait at most; whoever adds one more waits for the first of them.
const WAITING: usize = 16;

/// What was written is visible to readers after so long.
const VISIBLE: Duration = Duration::from_millis(500);

enum Work {
    Add(Box<Record>),
    /// Makes all visible, and tells how many bytes there are; none where something went wrong.
    Length(SyncSender<Option<u64>>),
    /// Goes back to so many bytes; without a number to where it is.
    Cut(Option<u64>, SyncSender<Option<u64>>),
}

/// The thread, from the first record on.
pub struct Recorder {
    run: PathBuf,
    thread: Mutex<Option<(SyncSender<Work>, JoinHandle<()>)>>,
}

impl Recorder {
    pub fn of(run: &Path) -> Recorder {
        Recorder { run: run.to_owned(), thread: Mutex::default() }
    }

    /// Adds a record.
    pub fn add(&self, record: &Record) {
        self.send(Work::Add(Box::new(record.clone())));
    }

    /// Bytes of what was added, once it is written; `None` where something went wrong.
    pub fn length(&self) -> Option<u64> {
        if !self.works() {
            return Writer::open(&self.run).ok().map(|writer| writer.length());
        }
        self.answer(Work::Length)
    }

    /// Goes back to what there was.
    pub fn cut(&self, length: Option<u64>) {
        self.answer(|answer| Work::Cut(length, answer));
    }

    /// Makes what was added visible to readers.
    pub fn flush(&self) {
        if self.works() {
            self.answer(Work::Length);
        }
    }

    fn works(&self) -> bool {
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn answer(&self, work: impl FnOnce(SyncSender<Option<u64>>) -> Work) -> Option<u64> {
        let (answer, answered) = sync_channel(1);
        self.send(work(answer));
        answered.recv().ok().flatten()
    }

    fn send(&self, work: Work) {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            let (sender, todo) = sync_channel(WAITING);
            let run = self.run.clone();
            // Without a thread to be had nothing is shown; nobody waits for it.
            let started = std::thread::Builder::new().name("media".into()).spawn(move || write(&run, &todo));
            *thread = started.ok().map(|thread| (sender, thread));
        }
        let sender = thread.as_ref().map(|(sender, _)| sender.clone());
        drop(thread);
        if let Some(sender) = sender {
            let _ = sender.send(work);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, thread)) = thread {
            drop(sender);
            let _ = thread.join();
        }
    }
}

/// What a thread writes with; nothing any more once something went wrong, which is said.
struct State<'a> {
    run: &'a Path,
    writer: Option<Writer>,
    broken: bool,
    /// Whether there is something that readers do not see yet.
    hidden: bool,
}

impl State<'_> {
    fn attempt<T>(&mut self, what: impl FnOnce(&mut Writer) -> Result<T>) -> Option<T> {
        if self.broken {
            return None;
        }
        let work = || {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => none.insert(Writer::open(self.run)?),
            };
            what(writer)
        };
        let error = match work() {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        (self.broken, self.writer) = (true, None);
        tracing::warn!("images of the run and what else it shows beside numbers are not kept any more: {error:#}");
        None
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.hidden) {
            self.attempt(Writer::flush);
        }
    }
}

fn write(run: &Path, todo: &Receiver<Work>) {
    let mut state = State { run, writer: None, broken: false, hidden: false };
    let mut seen = Instant::now();
    loop {
        // Also where one comes after the other.
        if seen.elapsed() >= VISIBLE {
            state.flush();
            seen = Instant::now();
        }
        match todo.recv_timeout(VISIBLE) {
            Ok(Work::Add(record)) => {
                state.attempt(|writer| writer.add(&record));
                state.hidden = true;
            }
            Ok(Work::Length(answer)) => {
                state.flush();
                let length = state.attempt(|writer| Ok(writer.length()));
                let _ = answer.send(length);
            }
            Ok(Work::Cut(length, answer)) => {
                (state.broken, state.writer) = (false, None);
                let cut = state.attempt(|writer| {
                    let length = length.map_or(writer.length(), |length| length.min(writer.length()));
                    writer.cut(length)?;
                    Ok(length)
                });
                let _ = answer.send(cut);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return state.flush(),
        }
    }
}
