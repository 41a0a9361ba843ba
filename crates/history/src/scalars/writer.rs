//! The numbers of a run, written while it is at work.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;

use super::log::{self, Head};
use super::reader::{Scalars, Stream as Read};
use super::summary::{SIZE, Summary};
use super::tree::{self, Group};
use super::{BLOCK, FOLDER, block, file_name};
use crate::point::{Point, micros, put_text, seconds};

/// A log that is longer than this, and than four times what would be in a new one, is written anew.
const LONG: usize = 1 << 18;

/// The bytes of a point in the log.
const LOGGED: usize = 45;

/// What is not yet written is, when it comes to so much.
const MUCH: usize = 1 << 18;

const MAGIC: &[u8; 8] = b"pipepts1";

/// A tag.
struct Stream {
    number: u32,
    node: String,
    /// Its whole blocks.
    blocks: u64,
    /// The points behind them.
    open: Vec<Point>,
    /// Of each level from 1 the group at work, and how many parts it has.
    groups: Vec<(Summary, u64)>,
    /// The length of its file of points, with what is not yet written.
    length: u64,
    /// What is not yet written.
    points: Vec<u8>,
    index: Vec<u8>,
}

/// Writes the numbers of a run.
pub struct Writer {
    folder: PathBuf,
    head: Head,
    streams: IndexMap<String, Stream>,
    log: Option<File>,
    length: usize,
    /// Entries of the log that are not yet written.
    entries: Vec<u8>,
    /// What is not yet written in all.
    waiting: usize,
}

impl Writer {
    /// Goes on in a run's folder, behind what is there; with `keep` only behind the first so many points of each tag, and none of others.
    /// Nothing is written where there is nothing yet.
    ///
    /// # Errors
    /// When something that is to be kept is not there or is damaged; when the folder cannot be written.
    pub fn open(run: &Path, keep: Option<&BTreeMap<String, u64>>) -> Result<Writer> {
        let head = Head { incarnation: micros_now(), number: 0 };
        let (folder, streams) = (run.join(FOLDER), IndexMap::new());
        let mut writer = Writer { folder, head, streams, log: None, length: 0, entries: Vec::new(), waiting: 0 };
        let Some(there) = Scalars::of_log(run)? else {
            let missing = keep.is_some_and(|keep| keep.values().any(|count| *count > 0));
            ensure!(!missing, "{} is not there", writer.folder.display());
            return Ok(writer);
        };
        let old = there.head().unwrap_or_default();
        writer.head = Head { incarnation: old.incarnation, number: old.number.wrapping_add(1) };
        let (mut lengths, mut dropped, mut goes_back) = (Vec::new(), Vec::new(), false);
        for (tag, read) in &there.streams {
            let count = there.count(tag);
            let wanted = keep.map_or(count, |keep| keep.get(tag).copied().unwrap_or_default());
            ensure!(wanted <= count, "{tag} has {count} points there, and is to have {wanted}");
            goes_back |= wanted < count;
            if wanted == 0 {
                dropped.push(read.number);
                continue;
            }
            let stream = Stream::go_on(&there, tag, read, wanted)?;
            // What begins with no block has no head yet.
            let points = if stream.blocks > 0 { stream.length } else { 0 };
            lengths.push((stream.number, points, tree::entries(stream.blocks) * SIZE as u64));
            writer.streams.insert(tag.clone(), stream);
        }
        let missing = keep.and_then(|keep| keep.iter().find(|(tag, count)| **count > 0 && there.count(tag) == 0));
        ensure!(missing.is_none(), "a curve is not there: {missing:?}");
        if goes_back {
            // Of another incarnation before the files are cut and after: a reader that looks on meanwhile starts over behind it.
            writer.head = Head { incarnation: micros_now().max(old.incarnation.wrapping_add(1)), number: 0 };
            writer.renew()?;
            writer.head = Head { incarnation: writer.head.incarnation.wrapping_add(1), number: 0 };
        }
        writer.trim(&lengths, &dropped)?;
        writer.renew()?;
        Ok(writer)
    }

    /// Cuts the files off: what is behind a checkpoint, and what was not written to its end. Each tag's number, and how much of its points
    /// and index stays.
    fn trim(&self, lengths: &[(u32, u64, u64)], dropped: &[u32]) -> Result<()> {
        for (number, points, index) in lengths.iter().copied() {
            for (what, length) in [("points", points), ("index", index)] {
                let path = self.folder.join(file_name(number, what));
                let cut = || match OpenOptions::new().write(true).open(&path) {
                    Ok(file) if file.metadata()?.len() > length => file.set_len(length),
                    Ok(_) => Ok(()),
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                    Err(error) => Err(error),
                };
                cut().with_context(|| format!("cannot cut {}", path.display()))?;
            }
        }
        for number in dropped {
            for what in ["points", "index"] {
                // Most have none.
                let _ = fs::remove_file(self.folder.join(file_name(*number, what)));
            }
        }
        Ok(())
    }

    /// How many points each tag has.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.streams.iter().map(|(tag, stream)| (tag.clone(), stream.count())).collect()
    }

    /// One more point. It is written some time, see [`Writer::flush`].
    ///
    /// # Errors
    /// When it comes to be written and cannot be.
    pub fn push(&mut self, tag: &str, node: &dyn std::fmt::Display, point: Point) -> Result<()> {
        let point = Point { time: seconds(micros(point.time)), ..point };
        let stream = match self.streams.get_mut(tag) {
            Some(stream) => stream,
            None => {
                let last = self.streams.values().map(|stream| stream.number).max();
                let number =
                    last.map_or(Some(0), |last| last.checked_add(1)).context("no number is left for a curve")?;
                let stream = Stream::new(number, tag, node.to_string());
                log::put_tag(number, 0, tag, &stream.node, &mut self.entries);
                self.streams.entry(tag.to_owned()).or_insert(stream)
            }
        };
        log::put_measured(stream.number, stream.count(), &point, &mut self.entries);
        stream.open.push(point);
        self.waiting += LOGGED;
        if stream.open.len() == BLOCK {
            stream.seal(tag);
        }
        if self.waiting >= MUCH { self.flush() } else { Ok(()) }
    }

    /// Makes all points visible to readers.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        if self.log.is_none() {
            let made = fs::create_dir(&self.folder);
            let there = made.is_ok() || self.folder.is_dir();
            ensure!(there, "cannot create {}", self.folder.display());
        }
        for stream in self.streams.values_mut().filter(|stream| !stream.points.is_empty()) {
            stream.write(&self.folder)?;
        }
        let live = || self.streams.values().map(|stream| stream.open.len()).sum::<usize>() * LOGGED;
        if self.log.is_none() || self.length > LONG && self.length > LONG + 4 * live() {
            return self.renew();
        }
        let frame = log::frame(&self.entries);
        let path = self.folder.join(log::NAME);
        if let Some(file) = &mut self.log {
            file.write_all(&frame).with_context(|| format!("cannot write {}", path.display()))?;
        }
        self.length += frame.len();
        self.entries.clear();
        self.waiting = 0;
        Ok(())
    }

    /// Writes the log anew, with what lies in no block.
    fn renew(&mut self) -> Result<()> {
        let mut entries = Vec::new();
        for (tag, stream) in &self.streams {
            let before = stream.blocks * BLOCK as u64;
            log::put_tag(stream.number, before, tag, &stream.node, &mut entries);
            for (ordinal, point) in (before..).zip(&stream.open) {
                log::put_measured(stream.number, ordinal, point, &mut entries);
            }
        }
        let mut bytes = self.head.encode();
        if !entries.is_empty() {
            bytes.extend(log::frame(&entries));
        }
        let (path, new) = (self.folder.join(log::NAME), self.folder.join("open.new"));
        let write = || {
            fs::write(&new, &bytes)?;
            fs::rename(&new, &path)?;
            OpenOptions::new().append(true).open(&path)
        };
        self.log = Some(write().with_context(|| format!("cannot write {}", path.display()))?);
        self.head.number = self.head.number.wrapping_add(1);
        self.length = bytes.len();
        self.entries.clear();
        self.waiting = 0;
        Ok(())
    }
}

impl Stream {
    fn new(number: u32, tag: &str, node: String) -> Stream {
        let (points, index) = (Vec::new(), Vec::new());
        let length = head_of(tag).len() as u64;
        Stream { number, node, blocks: 0, open: Vec::new(), groups: Vec::new(), length, points, index }
    }

    /// The first `wanted` points of a tag that is there. Each block is read, so that a damaged one is found.
    fn go_on(there: &Scalars, tag: &str, read: &Read, wanted: u64) -> Result<Stream> {
        let mut stream = Stream::new(read.number, tag, read.node.clone());
        let size = BLOCK as u64;
        let blocks = (wanted / size).min(read.blocks);
        stream.open = there.points(tag, blocks * size..wanted)?;
        stream.blocks = blocks;
        if blocks == 0 {
            return Ok(stream);
        }
        let (index, points) = (there.index(read)?, there.blocks(read)?);
        for number in 0..blocks {
            let summary = index.one(Group { level: 0, number }.position())?;
            let (own, end) = points.sized(summary.offset)?;
            let same = Summary { offset: summary.offset, ..Summary::of(&own) } == summary;
            ensure!(same && summary.offset == stream.length, "{tag}: block {number} is damaged");
            stream.length = end;
            stream.group(summary, false);
        }
        Ok(stream)
    }

    fn count(&self) -> u64 {
        self.blocks * BLOCK as u64 + self.open.len() as u64
    }

    /// Makes a block of the open points.
    fn seal(&mut self, tag: &str) {
        if self.blocks == 0 {
            self.points = head_of(tag);
        }
        let summary = Summary { offset: self.length, ..Summary::of(&self.open) };
        let bytes = block::encode(&self.open);
        self.length += bytes.len() as u64;
        self.points.extend(bytes);
        self.open.clear();
        self.blocks += 1;
        self.group(summary, true);
    }

    /// Adds the summary of a block to its groups; those that are full come into the index, if they are `new`.
    fn group(&mut self, summary: Summary, new: bool) {
        let mut whole = summary;
        for level in 0.. {
            if new {
                whole.encode(&mut self.index);
            }
            if self.groups.len() == level {
                self.groups.push((Summary::default(), 0));
            }
            let (group, parts) = &mut self.groups[level];
            group.append(&whole);
            *parts += 1;
            if *parts < tree::GROUP {
                return;
            }
            whole = std::mem::take(&mut self.groups[level]).0;
        }
    }

    /// Writes its blocks, and then what is known of them: nobody looks for a block that the index does not have.
    fn write(&mut self, folder: &Path) -> Result<()> {
        for (what, bytes) in [("points", &mut self.points), ("index", &mut self.index)] {
            let path = folder.join(file_name(self.number, what));
            let write = || OpenOptions::new().create(true).append(true).open(&path)?.write_all(bytes);
            write().with_context(|| format!("cannot write {}", path.display()))?;
            bytes.clear();
        }
        Ok(())
    }
}

/// The beginning of a tag's file of points.
fn head_of(tag: &str) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    put_text(tag, &mut head);
    head
}

fn micros_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(0))
}
