//! What a run at work writes of its numbers and images.
//!
//! It is there to be looked at, so nothing that goes wrong with it ends a run: that is said once, and readers go by `records.jsonl`, from
//! which the next life makes the curves again. Nothing of it is synced, for the same reason.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use pipe_vocab::{Record, RecordValue};
use serde::{Deserialize, Serialize};

use crate::media;
use crate::point::Point;
use crate::recorder::Recorder;
use crate::scalars::{self, each_scalar};

/// What was measured is visible to readers after so long, whether or not more comes.
const VISIBLE: Duration = Duration::from_millis(500);

/// How much there was at some time, for a run that goes back there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Points of each tag.
    pub scalars: BTreeMap<String, u64>,
    /// Bytes of `media.jsonl`.
    pub media: u64,
}

/// What a run at work writes.
pub struct History {
    state: Arc<Mutex<State>>,
    media: Recorder,
    flusher: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

struct State {
    run: PathBuf,
    scalars: Option<scalars::Writer>,
    /// Whether something went wrong, and was said.
    broken: bool,
}

impl History {
    /// That of the run in this folder. Nothing is written or read before there is something to write.
    pub fn of(run: &Path) -> History {
        let state = State { run: run.to_owned(), scalars: None, broken: false };
        History { state: Arc::new(Mutex::new(state)), media: Recorder::of(run), flusher: Mutex::default() }
    }

    /// Adds a record: before it comes into `records.jsonl`, from which curves that are not there are made first.
    pub fn add(&self, record: &Record) {
        let RecordValue::Scalar(value) = record.value else { return self.media.add(record) };
        let mut state = self.state();
        state.attempt(|state| {
            let Record { step, epoch, time, .. } = *record;
            state.scalars()?.push(&record.tag, &record.node, Point { step, epoch, time, value })
        });
        let works = !state.broken;
        drop(state);
        if works {
            self.flush_from_now_on();
        }
    }

    /// How much there is; `None` where something went wrong.
    pub fn lengths(&self) -> Option<Lengths> {
        let (media, mut lengths) = (self.media.length()?, None);
        self.state().attempt(|state| {
            state.flush()?;
            lengths = Some(Lengths { scalars: state.scalars()?.counts(), media });
            Ok(())
        });
        lengths
    }

    /// Goes back to what there was, after `records.jsonl` did; where that is not known or not there, the numbers are made again from it.
    pub fn cut(&self, lengths: Option<&Lengths>) {
        self.state().attempt(|state| {
            state.flush()?;
            (state.scalars, state.broken) = (None, false);
            let cut = lengths.map(|lengths| scalars::Writer::open(&state.run, Some(&lengths.scalars)));
            match cut {
                Some(Ok(writer)) => state.scalars = Some(writer),
                _ => state.scalars = Some(remade(&state.run)?),
            }
            Ok(())
        });
        self.media.cut(lengths.map(|lengths| lengths.media));
    }

    /// Makes all that was added visible to readers.
    pub fn flush(&self) {
        self.flush_numbers();
        self.media.flush();
    }

    /// The same of the numbers alone, which waits for no image.
    pub fn flush_numbers(&self) {
        self.state().attempt(State::flush);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_from_now_on(&self) {
        let mut flusher = self.flusher.lock().unwrap_or_else(PoisonError::into_inner);
        if flusher.is_some() {
            return;
        }
        let (stop, stopped) = mpsc::channel::<()>();
        let state = self.state.clone();
        let body = move || {
            while stopped.recv_timeout(VISIBLE) == Err(RecvTimeoutError::Timeout) {
                state.lock().unwrap_or_else(PoisonError::into_inner).attempt(State::flush);
            }
        };
        // Without a thread to be had, it is written when there is much of it, and at the end.
        if let Ok(thread) = std::thread::Builder::new().name("history".into()).spawn(body) {
            *flusher = Some((stop, thread));
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        let flusher = self.flusher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = flusher {
            drop(stop);
            let _ = thread.join();
        }
        self.flush();
    }
}

impl State {
    /// Does something unless nothing can be done any more. What goes wrong is said, once.
    fn attempt(&mut self, what: impl FnOnce(&mut State) -> Result<()>) {
        if self.broken {
            return;
        }
        if let Err(error) = what(self) {
            (self.broken, self.scalars) = (true, None);
            // Readers then go by the records.
            let _ = fs::remove_dir_all(self.run.join(scalars::FOLDER));
            tracing::warn!("curves of the run are not kept apart any more, but read from records.jsonl: {error:#}");
        }
    }

    fn scalars(&mut self) -> Result<&mut scalars::Writer> {
        match &mut self.scalars {
            Some(writer) => Ok(writer),
            empty => Ok(empty.insert(opened(&self.run)?)),
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.scalars.as_mut().map_or(Ok(()), scalars::Writer::flush)
    }
}

/// Goes on behind what is there; where that is damaged or there is nothing, behind the numbers in the records.
fn opened(run: &Path) -> Result<scalars::Writer> {
    if run.join(scalars::FOLDER).exists()
        && let Ok(writer) = scalars::Writer::open(run, None)
    {
        return Ok(writer);
    }
    remade(run)
}

/// Makes the numbers again from the records.
fn remade(run: &Path) -> Result<scalars::Writer> {
    let (folder, records) = (run.join(scalars::FOLDER), run.join("records.jsonl"));
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    let mut writer = scalars::Writer::open(run, None)?;
    let mut outcome = Ok(());
    if records.exists() {
        each_scalar(&records, 0, |found| {
            if outcome.is_ok() {
                outcome = writer.push(&found.tag, &found.node, found.point);
            }
        })?;
    }
    outcome?;
    writer.flush()?;
    Ok(writer)
}

/// Begins a fork's with what another run had shown by then. Its numbers are made from its records.
///
/// # Errors
/// When it cannot be copied.
pub fn copy(from: &Path, to: &Path, lengths: Option<&Lengths>) -> Result<()> {
    clear(to)?;
    lengths.map_or(Ok(()), |lengths| media::copy(from, to, lengths.media))
}

/// Removes all that there is of a run that begins again.
///
/// # Errors
/// When it cannot be removed.
pub fn clear(run: &Path) -> Result<()> {
    let folder = run.join(scalars::FOLDER);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    if run.join(media::FILE).exists() {
        media::Writer::open(run)?.cut(0)?;
        fs::remove_file(run.join(media::FILE))?;
        // Others may have something in it.
        let _ = fs::remove_dir(run.join(media::IMAGES));
    }
    Ok(())
}
