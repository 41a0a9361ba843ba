//! How far a server has got, in `trackers/<node>.json` of the run's folder. No secrets are in it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_history::standing;
use pipe_vocab::{atomic, files};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// See the module.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// The server and the part of it to which the records were sent.
    pub place: String,
    /// What the server calls the run.
    pub known: Option<Value>,
    /// `generation` of `run.json` by then.
    pub generation: u64,
    /// Bytes of `records.jsonl` up to the last line that was sent.
    pub sent: u64,
    /// Where that line begins, and its CRC-32.
    pub last: (u64, u32),
    /// Images that the run had not kept.
    pub missing: u64,
}

/// The file, held by one thread at a time.
pub struct Book {
    path: PathBuf,
    folder: PathBuf,
    _lock: File,
    /// What is in it.
    pub kept: Kept,
}

impl Book {
    /// That of a node of the run in this folder; waits for a thread that still writes it, such as that of the node before an edit.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn open(folder: &Path, node: &str) -> Result<Book> {
        let trackers = folder.join("trackers");
        std::fs::create_dir_all(&trackers).with_context(|| format!("cannot create {}", trackers.display()))?;
        let path = trackers.join(format!("{node}.json"));
        let cannot = || format!("cannot write {}", path.display());
        let lock = trackers.join(format!(".{node}.lock"));
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(lock).with_context(cannot)?;
        lock.lock().with_context(cannot)?;
        let text = files::read_text(&path, 1 << 20).unwrap_or_default();
        let kept = serde_json::from_str(&text).unwrap_or_default();
        Ok(Book { path, folder: folder.to_owned(), _lock: lock, kept })
    }

    /// Whether what was sent is still the run's: a run that went back behind it has other records there, or none.
    pub fn still_true(&self) -> bool {
        let (from, crc) = self.kept.last;
        let line = || -> std::io::Result<Vec<u8>> {
            let mut file = files::open(&self.folder.join("records.jsonl"))?;
            file.seek(SeekFrom::Start(from))?;
            let mut line = Vec::new();
            file.take(self.kept.sent.saturating_sub(from)).read_to_end(&mut line)?;
            Ok(line)
        };
        self.kept.sent == 0
            || line().is_ok_and(|line| line.len() as u64 == self.kept.sent - from && crc32fast::hash(&line) == crc)
    }

    /// Keeps that nothing has been sent to this place.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn begin(&mut self, place: String, known: Option<Value>) -> Result<()> {
        let generation = standing::generation(&standing::read(&self.folder));
        self.kept = Kept { place, known, generation, ..Kept::default() };
        self.write()
    }

    /// Writes what is kept.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.kept).context("what is kept of a tracker")?;
        atomic::write(&self.path, (text + "\n").as_bytes())
    }
}
