//! A journal in the format of Optuna's `JournalFileBackend`: a line for everything that is done, which is never changed.
//!
//! - `lines`: what a line says
//! - `lock`: who writes
//! - [`Replay`]: what the lines come to

mod lines;
mod lock;
mod replay;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use lines::Operation;
pub use replay::Replay;

/// A journal, and what it comes to as far as it was read.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    worker: String,
    read: u64,
    replay: Replay,
}

impl Journal {
    /// Opens a journal, which is made where there is none. `alone` says that no other process of this program has it open: then a lock that
    /// one has left is removed.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn open(path: &Path, alone: bool) -> Result<Journal> {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        if alone {
            lock::remove_own(path);
        }
        let unique = jiff::Timestamp::now().as_nanosecond();
        let worker = format!("pipe-{:x}-{unique:x}", std::process::id());
        let mut journal = Journal { path: path.to_owned(), worker, read: 0, replay: Replay::default() };
        journal.refresh()?;
        Ok(journal)
    }

    /// What it came to when it was last read.
    pub fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Reads what has come since. The last line counts once it is whole.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is none.
    pub fn refresh(&mut self) -> Result<()> {
        let mut file = File::open(&self.path).with_context(|| format!("cannot read {}", self.path.display()))?;
        let length = file.metadata()?.len();
        ensure!(length >= self.read, "{} was made shorter while it was in use", self.path.display());
        if length == self.read {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.read))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).with_context(|| format!("cannot read {}", self.path.display()))?;
        self.read += self.replay.append(&bytes, &self.path.display())? as u64;
        Ok(())
    }

    /// Writes what `decide` makes of the journal as it is now, while nobody else writes: all of it, or nothing.
    ///
    /// # Errors
    /// Those of `decide`, or when the journal cannot be written.
    pub fn write<T>(&mut self, decide: impl FnOnce(&Replay) -> Result<(Vec<Operation>, T)>) -> Result<T> {
        let held = lock::take(&self.path)?;
        self.refresh()?;
        let (operations, answer) = decide(&self.replay)?;
        if !operations.is_empty() {
            let text: String = operations.iter().map(|operation| operation.line(&self.worker)).collect();
            self.append(text.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))?;
            self.refresh()?;
        }
        drop(held);
        Ok(answer)
    }

    /// Part of a line at the end was left by a writer that was killed: whoever has the lock takes it away.
    fn append(&self, text: &[u8]) -> Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        if file.metadata()?.len() > self.read {
            file.set_len(self.read)?;
        }
        file.write_all(text)?;
        file.sync_data()?;
        Ok(())
    }
}
