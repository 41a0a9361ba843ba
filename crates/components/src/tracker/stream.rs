//! The records of a run since a place in `records.jsonl`, in batches that a server takes at once.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use pipe_history::Media;
use pipe_vocab::files;
use pipe_vocab::record::read_number;
use serde::Deserialize;
use serde_json::Value;

use crate::scene::Kept;

/// No line of `records.jsonl` is longer.
const LONGEST: u64 = 64 << 20;
/// So many numbers at once: what MLflow takes in a request.
pub const MOST: usize = 1000;

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// Its tag.
    pub tag: String,
    /// Its value.
    pub value: f64,
    /// Iterations of the outermost engine.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
}

/// Something else: an image's file, or a text.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown<T> {
    /// Its tag.
    pub tag: String,
    /// What is shown.
    pub what: T,
    /// Iterations of the outermost engine.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
}

/// What is sent at once.
#[derive(Debug, Clone, PartialEq)]
pub enum Batch {
    /// At most [`MOST`] numbers.
    Scalars(Vec<Scalar>),
    /// An image.
    Image(Shown<Kept>),
    /// A text in Markdown.
    Text(Shown<String>),
    /// Nothing that a tracker takes.
    Nothing,
}

/// A batch, and where the records stand behind it.
#[derive(Debug)]
pub struct Next {
    /// What is to be sent.
    pub batch: Batch,
    /// Bytes of `records.jsonl` with it.
    pub upto: u64,
    /// Of the last line that concerns the tracker: where it begins and ends, and its CRC-32.
    pub last: Option<(u64, u64, u32)>,
    /// Images among it that the run has not kept.
    pub missing: u64,
}

#[derive(Deserialize)]
struct Line {
    kind: String,
    tag: String,
    value: Value,
    step: u64,
    node: String,
    time: f64,
}

/// Reads the records of some nodes of a run, while it writes them or after.
pub struct Stream {
    folder: PathBuf,
    /// Names of nodes; all when empty.
    inputs: Vec<String>,
    media: Option<Media>,
    /// Of the items of `media` those before are done with.
    shown: usize,
    /// How often the image that comes next was looked for.
    looked: u32,
    /// How often it is at most.
    looks: u32,
}

/// An image that is not there after so many looks never will be: it is written beside the record that tells of it, and soon.
const LOOKS: u32 = 5;

impl Stream {
    /// Of the run in this folder.
    pub fn new(folder: &Path, inputs: &[String]) -> Stream {
        Stream { folder: folder.to_owned(), inputs: inputs.to_vec(), media: None, shown: 0, looked: 0, looks: LOOKS }
    }

    /// Says that the run has ended, so that what is not there never will be.
    pub fn ended(&mut self) {
        self.looks = 0;
    }

    /// What comes behind the first `from` bytes; `None` where there is no more, or an image is not there yet.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn next(&mut self, from: u64) -> Result<Option<Next>> {
        let path = self.folder.join("records.jsonl");
        let cannot = || format!("cannot read {}", path.display());
        let mut file = files::open(&path).with_context(cannot)?;
        file.seek(SeekFrom::Start(from)).with_context(cannot)?;
        self.batch(BufReader::new(file), from).with_context(cannot)
    }

    fn batch(&mut self, mut reader: BufReader<File>, from: u64) -> Result<Option<Next>> {
        let mut next = Next { batch: Batch::Nothing, upto: from, last: None, missing: 0 };
        let (mut scalars, mut text) = (Vec::new(), Vec::new());
        while scalars.len() < MOST {
            text.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut text)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            let line = serde_json::from_slice(&text).ok().filter(|line: &Line| self.wanted(line));
            let concerns = line.is_some();
            match line.map(|line| self.read(line)) {
                Some(Found::Scalar(scalar)) => scalars.push(scalar),
                // Numbers before it are sent first.
                Some(Found::Other(_) | Found::Later) if !scalars.is_empty() => break,
                Some(Found::Later) => break,
                Some(Found::Other(batch)) => next.batch = batch,
                Some(Found::Missing) => next.missing += 1,
                None => {}
            }
            let end = next.upto + read as u64;
            if concerns {
                next.last = Some((next.upto, end, crc32fast::hash(&text)));
            }
            next.upto = end;
            if next.batch != Batch::Nothing {
                break;
            }
        }
        if !scalars.is_empty() {
            next.batch = Batch::Scalars(scalars);
        }
        Ok((next.upto > from).then_some(next))
    }

    fn wanted(&self, line: &Line) -> bool {
        let kinds = ["scalar", "image", "text"];
        kinds.contains(&line.kind.as_str()) && (self.inputs.is_empty() || self.inputs.contains(&line.node))
    }

    fn read(&mut self, line: Line) -> Found {
        match line.kind.as_str() {
            "image" => self.image(line),
            "text" => {
                let Value::String(what) = line.value else { return Found::Missing };
                Found::Other(Batch::Text(Shown { tag: line.tag, what, step: line.step, time: line.time }))
            }
            _ => match read_number(&line.value) {
                Some(value) => Found::Scalar(Scalar { tag: line.tag, value, step: line.step, time: line.time }),
                None => Found::Missing,
            },
        }
    }

    /// Finds the file of an image: what is shown comes in the order of the records.
    fn image(&mut self, line: Line) -> Found {
        let mut find = || -> Result<Option<Kept>> {
            let media = match &mut self.media {
                Some(media) => {
                    media.refresh()?;
                    media
                }
                None => self.media.insert(Media::open(&self.folder)?),
            };
            let at = |item: &pipe_history::Item| {
                item.kind == "image"
                    && (&item.tag, item.step, &item.node, item.time) == (&line.tag, line.step, &line.node, line.time)
            };
            let begin = self.shown.min(media.items.len());
            let found = media.items[begin..].iter().position(at).map(|place| begin + place);
            let Some(place) = found else { return Ok(None) };
            self.shown = place;
            let value = media.value(&media.items[place])?;
            let path = value["file"].as_str().and_then(|file| media.image(file)).filter(|path| path.is_file());
            let objects = value.get("objects").and_then(|objects| serde_json::from_value(objects.clone()).ok());
            Ok(path.map(|path| Kept { path, objects }))
        };
        let found = find().ok().flatten();
        self.looked = if found.is_some() { 0 } else { self.looked + 1 };
        match found {
            Some(what) => Found::Other(Batch::Image(Shown { tag: line.tag, what, step: line.step, time: line.time })),
            None if self.looked < self.looks => Found::Later,
            None => {
                self.looked = 0;
                Found::Missing
            }
        }
    }

    /// How many records that are to be sent come behind the first `from` bytes.
    pub fn left(&self, from: u64) -> u64 {
        let count = || -> Result<u64> {
            let mut file = files::open(&self.folder.join("records.jsonl"))?;
            file.seek(SeekFrom::Start(from))?;
            let lines = BufReader::new(file).split(b'\n').map_while(std::io::Result::ok);
            let wanted = lines.filter(|line| serde_json::from_slice(line).is_ok_and(|line: Line| self.wanted(&line)));
            Ok(wanted.count() as u64)
        };
        count().unwrap_or_default()
    }
}

/// What a line tells of.
enum Found {
    Scalar(Scalar),
    Other(Batch),
    /// Something that may come yet.
    Later,
    /// Something that is not there, or is no number.
    Missing,
}
