//! The run's folder: the resolved pipeline, the records and what is drawn of them, the checkpoints, `run.json`.

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use pipe_history::{History, Lengths};
use pipe_vocab::{Record, atomic};

/// The folder of one run.
pub struct RunFolder {
    path: PathBuf,
    records: RefCell<BufWriter<File>>,
    history: History,
}

impl RunFolder {
    /// Opens or makes the folder; records are appended to those of an earlier run in the same folder.
    ///
    /// # Errors
    /// When the folder cannot be created or written.
    pub fn open(path: &Path) -> Result<RunFolder> {
        fs::create_dir_all(path).with_context(|| format!("cannot create the run's folder {}", path.display()))?;
        let name = path.join("records.jsonl");
        let file = OpenOptions::new().create(true).append(true).open(&name);
        let file = file.with_context(|| format!("cannot write {}", name.display()))?;
        Ok(RunFolder { path: path.to_owned(), records: RefCell::new(BufWriter::new(file)), history: History::of(path) })
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of the checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The file of the records.
    pub fn records_path(&self) -> PathBuf {
        self.path.join("records.jsonl")
    }

    /// Appends a record to `records.jsonl`, and to what is drawn of it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append_record(&self, record: &Record) -> Result<()> {
        self.history.add(record);
        let line = record.to_json().to_string();
        let mut file = self.records.borrow_mut();
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", self.records_path().display()))
    }

    /// Bytes of `records.jsonl`, all appended records included.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn records_position(&self) -> Result<u64> {
        self.flush_records()?;
        let length = self.records.borrow().get_ref().metadata();
        Ok(length.with_context(|| format!("cannot read {}", self.records_path().display()))?.len())
    }

    /// How much there is of what is drawn of the records; `None` where it is not kept.
    pub fn history_lengths(&self) -> Option<Lengths> {
        self.history.lengths()
    }

    /// Cuts off the records behind the first `length` bytes, and what is drawn of them behind `history`: what a run measured after the
    /// checkpoint that it goes on from.
    ///
    /// # Errors
    /// When the file of the records cannot be written.
    pub fn cut_records(&self, length: u64, history: Option<&Lengths>) -> Result<()> {
        self.flush_records()?;
        let file = self.records.borrow();
        let cut = || match file.get_ref().metadata()?.len() > length {
            true => file.get_ref().set_len(length),
            false => Ok(()),
        };
        cut().with_context(|| format!("cannot write {}", self.records_path().display()))?;
        drop(file);
        self.history.cut(history);
        Ok(())
    }

    /// Makes appended records visible to readers.
    ///
    /// # Errors
    /// When the file cannot be written, or no longer lies where readers look for it.
    pub fn flush_records(&self) -> Result<()> {
        let flushed = self.records.borrow_mut().flush();
        flushed.with_context(|| format!("cannot write {}", self.records_path().display()))?;
        self.history.flush_numbers();
        self.still_there()
    }

    /// A file without a name takes everything that is written, and nobody ever reads it.
    fn still_there(&self) -> Result<()> {
        let path = self.records_path();
        let file = self.records.borrow();
        let open = file.get_ref().metadata().with_context(|| format!("cannot read {}", path.display()))?;
        let named = fs::metadata(&path).ok();
        if named.is_some_and(|named| (named.dev(), named.ino()) == (open.dev(), open.ino())) {
            return Ok(());
        }
        bail!(
            "{}, or records.jsonl in it, was removed or replaced while the run was at work; what the run wrote since is lost",
            self.path.display()
        )
    }

    /// Writes a file of the run so that a reader sees the old one or the new one, never half of it.
    ///
    /// # Errors
    /// When it cannot be written; the old file is then untouched.
    pub fn write_file(&self, name: &str, text: &str) -> Result<()> {
        atomic::write(&self.path.join(name), text.as_bytes())
    }

    /// Reads `run.json`, or an empty table when there is none.
    pub fn read_info(&self) -> serde_json::Map<String, Value> {
        let text = fs::read_to_string(self.path.join("run.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_info(&self, info: &serde_json::Map<String, Value>) -> Result<()> {
        let text = serde_json::to_string_pretty(info).context("run.json")?;
        self.write_file("run.json", &(text + "\n"))
    }
}
