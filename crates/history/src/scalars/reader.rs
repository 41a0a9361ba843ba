//! The numbers of a run, read while they are written or after.

use std::collections::HashMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use indexmap::IndexMap;
use pipe_vocab::files;
use serde::Serialize;

use super::block::Block;
use super::log::{self, Entry, Head};
use super::summary::{SIZE, Summary};
use super::tree::{self, Group};
use super::{BLOCK, FOLDER, block, file_name, records};
use crate::point::{Point, seconds};

/// No log is longer than a writer lets it be, with many more tags than anyone has.
const LONGEST_LOG: u64 = 1 << 28;

/// What is known of a curve as a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Curve {
    /// Its tag.
    pub tag: String,
    /// The node that measured it first.
    pub node: String,
    /// How many points it has.
    pub count: u64,
    /// How many of them are not finite.
    pub non_finite: u64,
    /// The smallest and the largest step.
    pub steps: (u64, u64),
    /// The earliest and the latest time, in seconds since 1970.
    pub times: (f64, f64),
    /// The latest point.
    pub last: Point,
    /// The first of the smallest finite ones.
    pub min: Option<Point>,
    /// The first of the largest finite ones.
    pub max: Option<Point>,
}

/// What has come since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Nothing.
    Same,
    /// Points, behind those that were there.
    Grown,
    /// The run went back, or began anew: what was read of it before is to be forgotten.
    Restarted,
}

/// A tag as far as it is read: the points in whole blocks lie in its files, the others here.
#[derive(Debug)]
pub(super) struct Stream {
    pub number: u32,
    pub node: String,
    /// Its whole blocks.
    pub blocks: u64,
    /// The ordinal of the first point of `tail`.
    from: u64,
    pub tail: Vec<Point>,
}

impl Stream {
    fn count(&self) -> u64 {
        self.from.saturating_add(self.tail.len() as u64)
    }

    /// The points before this one lie in blocks, where they are not here.
    fn behind(&mut self, ordinal: u64) {
        if ordinal > self.count() {
            (self.from, self.tail) = (ordinal, Vec::new());
        }
    }
}

/// Where the latest points come from.
#[derive(Debug, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Nothing,
    /// `open.log`, up to this byte.
    Log(Head, u64),
    /// `records.jsonl`, up to this byte.
    Records(u64),
}

/// The numbers of a run.
#[derive(Debug)]
pub struct Scalars {
    run: PathBuf,
    pub(super) folder: PathBuf,
    source: Source,
    pub(super) streams: IndexMap<String, Stream>,
    names: HashMap<u32, String>,
}

impl Scalars {
    /// What the run in this folder has measured so far; of one that has no `scalars`, from its records.
    ///
    /// # Errors
    /// When what is there cannot be read or is damaged.
    pub fn open(run: &Path) -> Result<Scalars> {
        let mut scalars = Scalars::nothing(run);
        scalars.refresh()?;
        Ok(scalars)
    }

    /// As [`Scalars::open`], without the records: `None` where there is no `scalars`.
    pub(super) fn of_log(run: &Path) -> Result<Option<Scalars>> {
        let mut scalars = Scalars::nothing(run);
        scalars.read_log()?;
        Ok((scalars.source != Source::Nothing).then_some(scalars))
    }

    fn nothing(run: &Path) -> Scalars {
        let (run, folder) = (run.to_owned(), run.join(FOLDER));
        Scalars { run, folder, source: Source::Nothing, streams: IndexMap::new(), names: HashMap::new() }
    }

    /// Reads what has come since.
    ///
    /// # Errors
    /// As [`Scalars::open`].
    pub fn refresh(&mut self) -> Result<Refresh> {
        match self.read_log()? {
            Some(refresh) => Ok(refresh),
            None => self.read_records(),
        }
    }

    /// The log's head, where the points come from one.
    pub(super) fn head(&self) -> Option<Head> {
        match self.source {
            Source::Log(head, _) => Some(head),
            _ => None,
        }
    }

    /// The tags, in the order in which they were measured first.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.streams.keys().map(String::as_str)
    }

    /// How many points a tag has; none that is not there.
    pub fn count(&self, tag: &str) -> u64 {
        self.streams.get(tag).map_or(0, Stream::count)
    }

    /// What is known of a curve as a whole; `None` where there is none.
    ///
    /// # Errors
    /// When its files cannot be read or are damaged.
    pub fn curve(&self, tag: &str) -> Result<Option<Curve>> {
        let Some(stream) = self.streams.get(tag).filter(|stream| stream.count() > 0) else { return Ok(None) };
        let mut whole = Summary::default();
        if stream.blocks > 0 {
            let index = self.index(stream)?;
            for root in tree::roots(stream.blocks) {
                whole.append(&index.one(root.position())?);
            }
        }
        stream.tail.iter().for_each(|point| whole.add(point));
        let count = stream.count();
        let last = self.points(tag, count - 1..count)?.pop().context("the last point is there")?;
        let times = (seconds(whole.times.0), seconds(whole.times.1));
        let (tag, node) = (tag.to_owned(), stream.node.clone());
        let Summary { non_finite, steps, min, max, .. } = whole;
        Ok(Some(Curve { tag, node, count, non_finite, steps, times, last, min, max }))
    }

    /// All curves, see [`Scalars::curve`].
    ///
    /// # Errors
    /// As [`Scalars::curve`].
    pub fn curves(&self) -> Result<Vec<Curve>> {
        self.tags().filter_map(|tag| self.curve(tag).transpose()).collect()
    }

    /// The points of a tag with these ordinals, as far as they are there.
    ///
    /// # Errors
    /// When its files cannot be read or are damaged.
    pub fn points(&self, tag: &str, ordinals: Range<u64>) -> Result<Vec<Point>> {
        let Some(stream) = self.streams.get(tag) else { return Ok(Vec::new()) };
        let size = BLOCK as u64;
        let (from, to) = (ordinals.start, ordinals.end.min(stream.count()));
        let mut points = Vec::new();
        if from >= to {
            return Ok(points);
        }
        if from < stream.from {
            let (index, blocks) = (self.index(stream)?, self.blocks(stream)?);
            for number in from / size..to.min(stream.from).div_ceil(size) {
                let own = blocks.read(index.one(Group { level: 0, number }.position())?.offset)?;
                let first = number * size;
                let part = from.saturating_sub(first) as usize..(to - first).min(size) as usize;
                points.extend(&own[part]);
            }
        }
        if to > stream.from {
            let part = from.max(stream.from) - stream.from..to - stream.from;
            points.extend(&stream.tail[part.start as usize..part.end as usize]);
        }
        Ok(points)
    }

    pub(super) fn index(&self, stream: &Stream) -> Result<Index> {
        Ok(Index(Opened::of(self.folder.join(file_name(stream.number, "index")))?))
    }

    pub(super) fn blocks(&self, stream: &Stream) -> Result<Blocks> {
        Ok(Blocks(Opened::of(self.folder.join(file_name(stream.number, "points")))?))
    }

    /// Reads on in the log; `None` where there is none.
    fn read_log(&mut self) -> Result<Option<Refresh>> {
        let path = self.folder.join(log::NAME);
        let mut file = match files::open(&path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let cannot = || format!("cannot read {}", path.display());
        let mut head = [0; log::HEAD];
        file.read_exact(&mut head).with_context(cannot)?;
        let head = Head::decode(&head).ok_or_else(|| damaged(&path))?;
        let (mut refresh, from) = match self.source {
            Source::Log(own, offset) if own == head => (Refresh::Same, offset),
            Source::Log(own, _) if own.incarnation == head.incarnation => (Refresh::Same, log::HEAD as u64),
            Source::Nothing => (Refresh::Same, log::HEAD as u64),
            _ => (Refresh::Restarted, log::HEAD as u64),
        };
        if refresh == Refresh::Restarted {
            (self.streams, self.names) = (IndexMap::new(), HashMap::new());
        }
        file.seek(SeekFrom::Start(from)).with_context(cannot)?;
        let mut bytes = Vec::new();
        file.take(LONGEST_LOG).read_to_end(&mut bytes).with_context(cannot)?;
        let before: u64 = self.streams.values().map(Stream::count).sum();
        let whole = log::read(&bytes, |entry| self.enter(entry));
        self.source = Source::Log(head, from + whole as u64);
        self.settle()?;
        let after: u64 = self.streams.values().map(Stream::count).sum();
        if refresh == Refresh::Same && after > before {
            refresh = Refresh::Grown;
        }
        Ok(Some(refresh))
    }

    fn enter(&mut self, entry: Entry) {
        match entry {
            Entry::Tag { number, before, tag, node } => {
                self.names.insert(number, tag.clone());
                let new = || Stream { number, node, blocks: 0, from: 0, tail: Vec::new() };
                self.streams.entry(tag).or_insert_with(new).behind(before);
            }
            Entry::Point { tag, ordinal, point } => {
                let Some(stream) = self.names.get(&tag).and_then(|name| self.streams.get_mut(name)) else { return };
                stream.behind(ordinal);
                if ordinal == stream.count() {
                    stream.tail.push(point);
                }
            }
        }
    }

    /// Takes out of the tails what lies in blocks.
    fn settle(&mut self) -> Result<()> {
        let size = BLOCK as u64;
        for stream in self.streams.values_mut().filter(|stream| stream.from > 0 || stream.tail.len() >= BLOCK) {
            let path = self.folder.join(file_name(stream.number, "index"));
            let length = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            stream.blocks = tree::blocks(length / SIZE as u64);
            let sealed = stream.blocks.saturating_mul(size);
            if sealed < stream.from {
                return Err(damaged(&path));
            }
            let more = sealed.saturating_sub(stream.from).min(stream.tail.len() as u64);
            stream.tail.drain(..more as usize);
            stream.from = sealed;
        }
        Ok(())
    }

    fn read_records(&mut self) -> Result<Refresh> {
        let path = self.run.join("records.jsonl");
        let length = std::fs::metadata(&path).map_or(0, |meta| meta.len());
        let (mut refresh, from) = match self.source {
            Source::Records(read) if read <= length => (Refresh::Same, read),
            Source::Nothing if length == 0 => return Ok(Refresh::Same),
            _ => (Refresh::Restarted, 0),
        };
        if refresh == Refresh::Restarted {
            (self.streams, self.names) = (IndexMap::new(), HashMap::new());
        }
        if length == from {
            return Ok(refresh);
        }
        let mut grown = false;
        let end = records::each_scalar(&path, from, |found| {
            grown = true;
            let new = || Stream { number: 0, node: found.node, blocks: 0, from: 0, tail: Vec::new() };
            self.streams.entry(found.tag).or_insert_with(new).tail.push(found.point);
        })?;
        self.source = Source::Records(end);
        if refresh == Refresh::Same && grown {
            refresh = Refresh::Grown;
        }
        Ok(refresh)
    }
}

/// That a file of `scalars` is not what was written, and what can be done.
pub(super) fn damaged(path: &Path) -> anyhow::Error {
    let folder = path.parent().unwrap_or(path).display();
    anyhow!("{} is damaged: remove {folder}, and the curves are read from records.jsonl", path.display())
}

/// A file that is read here and there.
pub(super) struct Opened {
    path: PathBuf,
    file: File,
}

impl Opened {
    fn of(path: PathBuf) -> Result<Opened> {
        let file = files::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Opened { path, file })
    }

    /// So many bytes, or fewer where the file ends.
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => bail!(anyhow!(error).context(format!("cannot read {}", self.path.display()))),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// The index of a tag.
pub(super) struct Index(Opened);

impl Index {
    /// The summary at a position.
    pub fn one(&self, position: u64) -> Result<Summary> {
        self.many(position, 1)?.pop().ok_or_else(|| damaged(&self.0.path))
    }

    /// So many summaries from a position on.
    pub fn many(&self, position: u64, count: usize) -> Result<Vec<Summary>> {
        let bytes = self.0.read(position.saturating_mul(SIZE as u64), count * SIZE)?;
        let all: Option<Vec<Summary>> = bytes.chunks(SIZE).map(Summary::decode).collect();
        all.filter(|all| all.len() == count).ok_or_else(|| damaged(&self.0.path))
    }
}

/// The blocks of a tag.
pub(super) struct Blocks(Opened);

impl Blocks {
    /// Looks at the block that begins there.
    pub fn with<T>(&self, offset: u64, look: impl FnOnce(Block<'_>) -> T) -> Result<T> {
        // Hardly one is as long as it could be.
        let mut bytes = self.0.read(offset, block::USUAL)?;
        if block::length(&bytes).is_some_and(|length| length > block::USUAL) {
            bytes = self.0.read(offset, block::LONGEST)?;
        }
        Block::of(&bytes).map(look).ok_or_else(|| damaged(&self.0.path))
    }

    /// Its points.
    pub fn read(&self, offset: u64) -> Result<Vec<Point>> {
        self.with(offset, |block| block.points())
    }

    /// As [`Blocks::read`], with where the block ends.
    pub fn sized(&self, offset: u64) -> Result<(Vec<Point>, u64)> {
        self.with(offset, |block| (block.points(), offset + block.length as u64))
    }
}
