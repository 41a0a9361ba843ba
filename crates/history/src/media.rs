//! What a run shows beside numbers: images, distributions, curves, texts, in `media.jsonl`, a line each as those of `records.jsonl`, but
//! whole. Images are files in `images/`, named after their content.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use pipe_vocab::record::number;
use pipe_vocab::{Record, RecordValue, files};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::scalars::Refresh;

/// The file of the lines.
pub const FILE: &str = "media.jsonl";

/// The folder of the images.
pub const IMAGES: &str = "images";

/// No line is longer.
const LONGEST: u64 = 64 << 20;

/// Of a distribution no more bars are kept.
const BARS: usize = 64;

/// Writes what a run shows.
pub struct Writer {
    run: PathBuf,
    file: Option<BufWriter<File>>,
    length: u64,
}

impl Writer {
    /// Goes on in a run's folder; nothing is written before there is something to show.
    ///
    /// # Errors
    /// When a file that is there cannot be opened.
    pub fn open(run: &Path) -> Result<Writer> {
        let length = fs::metadata(run.join(FILE)).map_or(0, |meta| meta.len());
        Ok(Writer { run: run.to_owned(), file: None, length })
    }

    /// Adds a record that is no number.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, record: &Record) -> Result<()> {
        let value = match &record.value {
            RecordValue::Image { height, width, rgb, objects } => {
                let file = self.image(*height, *width, rgb)?;
                let mut value = json!({ "file": file, "height": height, "width": width });
                if let Some(objects) = objects {
                    // By way of a text a number of 32 bits stays as short as it is.
                    value["objects"] = serde_json::from_str(&serde_json::to_string(objects)?)?;
                }
                value
            }
            RecordValue::Confusion { names, cells } => json!({ "names": names, "cells": cells }),
            RecordValue::Histogram(values) => bars(values),
            RecordValue::PrCurve { true_positives, false_positives, positives } => {
                json!({ "true_positives": true_positives, "false_positives": false_positives, "positives": positives })
            }
            _ => record.to_json()["value"].take(),
        };
        let line = json!({
            "kind": record.value.kind(), "tag": record.tag, "step": record.step, "epoch": record.epoch,
            "node": record.node.to_string(), "time": record.time, "value": value,
        });
        let path = self.run.join(FILE);
        let mut write = || -> Result<()> {
            let file = match &mut self.file {
                Some(file) => file,
                None => {
                    let file = OpenOptions::new().create(true).append(true).open(&path)?;
                    self.file.insert(BufWriter::new(file))
                }
            };
            let line = format!("{line}\n");
            file.write_all(line.as_bytes())?;
            self.length += line.len() as u64;
            Ok(())
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }

    /// Keeps an image under the name of its content, and returns that below the run's folder.
    fn image(&self, height: usize, width: usize, rgb: &[u8]) -> Result<String> {
        let mut hash = Sha256::new();
        hash.update(format!("{height} {width} "));
        hash.update(rgb);
        let digest = hash.finalize();
        let digits: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{IMAGES}/{digits}.png");
        let path = self.run.join(&name);
        if path.exists() {
            return Ok(name);
        }
        let write = || -> Result<()> {
            let bytes = encoded(height, width, rgb)?;
            let folder = self.run.join(IMAGES);
            if !folder.is_dir() {
                fs::create_dir(&folder)?;
            }
            // Complete or absent; after a loss of power it is made again with its line.
            let new = folder.join("new");
            fs::write(&new, bytes)?;
            Ok(fs::rename(&new, &path)?)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        Ok(name)
    }

    /// Makes all lines visible to readers.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        let flushed = self.file.as_mut().map_or(Ok(()), Write::flush);
        flushed.with_context(|| format!("cannot write {}", self.run.join(FILE).display()))
    }

    /// Bytes of the lines.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Cuts the lines off behind so many bytes, with the images that only these name.
    ///
    /// # Errors
    /// When the file cannot be cut, or is shorter.
    pub fn cut(&mut self, length: u64) -> Result<()> {
        self.flush()?;
        self.file = None;
        let path = self.run.join(FILE);
        if self.length == length {
            return Ok(());
        }
        if self.length < length {
            bail!("{} has {} bytes, and is to have {length}", path.display(), self.length);
        }
        let (mut kept, mut gone) = (BTreeSet::new(), BTreeSet::new());
        each_line(&path, 0, |from, text| {
            if let Some(file) = line_image(text) {
                let set = if from < length { &mut kept } else { &mut gone };
                set.insert(file);
            }
        })?;
        let cut = OpenOptions::new().write(true).open(&path).and_then(|file| file.set_len(length));
        cut.with_context(|| format!("cannot cut {}", path.display()))?;
        self.length = length;
        for name in gone.difference(&kept) {
            // One that stays is in nobody's way.
            let _ = fs::remove_file(self.run.join(name));
        }
        Ok(())
    }
}

/// Begins a fork's with the first `length` bytes of another run's, and their images.
///
/// # Errors
/// When they cannot be read or written.
pub fn copy(from: &Path, to: &Path, length: u64) -> Result<()> {
    let (source, target) = (from.join(FILE), to.join(FILE));
    if length == 0 {
        return Ok(());
    }
    let cannot = || format!("cannot copy {} to {}", source.display(), target.display());
    let copied = || std::io::copy(&mut File::open(&source)?.take(length), &mut File::create(&target)?);
    copied().with_context(cannot)?;
    let mut names = BTreeSet::new();
    each_line(&target, 0, |_, text| names.extend(line_image(text)))?;
    if !names.is_empty() {
        fs::create_dir_all(to.join(IMAGES)).with_context(cannot)?;
    }
    for name in names {
        // Never changed, so that two runs may share one. Elsewhere, and of one that was removed, there is none to share.
        let (source, target) = (from.join(&name), to.join(&name));
        if fs::hard_link(&source, &target).is_err() && source.exists() && !target.exists() {
            fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}

/// An image as PNG, quickly rather than small.
fn encoded(height: usize, width: usize, rgb: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.write_header()?.write_image_data(rgb)?;
    Ok(bytes)
}

/// A distribution as bars of the same width.
fn bars(values: &[f32]) -> Value {
    let finite: Vec<f64> = values.iter().filter(|value| value.is_finite()).map(|value| f64::from(*value)).collect();
    let (low, high) = finite.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(*v), b.max(*v)));
    let mean = finite.iter().sum::<f64>() / finite.len() as f64;
    let bars = if low < high { BARS } else { finite.len().min(1) };
    let width = (high - low) / bars as f64;
    let mut counts = vec![0u64; bars];
    for value in &finite {
        let bar = if width > 0.0 { ((value - low) / width) as usize } else { 0 };
        counts[bar.min(bars - 1)] += 1;
    }
    json!({
        "count": values.len(), "non_finite": values.len() - finite.len(), "min": number(low), "max": number(high),
        "mean": number(mean), "counts": counts,
    })
}

/// Something that a run shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Item {
    /// `image`, `histogram`, `pr_curve`, `confusion`, `text`, `hparams`, `artifact`.
    pub kind: String,
    /// Its tag.
    pub tag: String,
    /// Iterations of the outermost engine by then.
    pub step: u64,
    /// The outermost engine's epoch.
    pub epoch: u64,
    /// The node that made it.
    pub node: String,
    /// Seconds since 1970.
    pub time: f64,
    /// Where its line begins, and its length.
    #[serde(skip)]
    place: (u64, u64),
}

#[derive(Deserialize)]
struct Line<V> {
    kind: String,
    tag: String,
    step: u64,
    epoch: u64,
    node: String,
    time: f64,
    value: V,
}

/// What a run shows, read while it is written or after. What the items are like is read when it is asked for.
#[derive(Debug)]
pub struct Media {
    run: PathBuf,
    /// In the order in which they were made.
    pub items: Vec<Item>,
    read: u64,
    /// The last line that was read: another one there means that the run went back.
    last: Vec<u8>,
}

impl Media {
    /// What the run in this folder has shown so far.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(run: &Path) -> Result<Media> {
        let mut media = Media { run: run.to_owned(), items: Vec::new(), read: 0, last: Vec::new() };
        media.refresh()?;
        Ok(media)
    }

    /// Reads what has come since. What is no such line is passed over, and one that is not whole is not there yet.
    ///
    /// # Errors
    /// As [`Media::open`].
    pub fn refresh(&mut self) -> Result<Refresh> {
        let path = self.run.join(FILE);
        let mut refresh = Refresh::Same;
        if self.read > 0
            && self.bytes(self.read - self.last.len() as u64, self.last.len() as u64).ok() != Some(self.last.clone())
        {
            (self.items, self.read, self.last) = (Vec::new(), 0, Vec::new());
            refresh = Refresh::Restarted;
        }
        if !path.exists() {
            return Ok(refresh);
        }
        let (items, last, read) = (&mut self.items, &mut self.last, &mut self.read);
        each_line(&path, *read, |from, text| {
            (*read, *last) = (from + text.len() as u64, text.to_vec());
            if refresh == Refresh::Same {
                refresh = Refresh::Grown;
            }
            let place = (from, text.len() as u64);
            if let Ok(Line { kind, tag, step, epoch, node, time, .. }) =
                serde_json::from_slice::<Line<serde::de::IgnoredAny>>(text)
            {
                items.push(Item { kind, tag, step, epoch, node, time, place });
            }
        })?;
        Ok(refresh)
    }

    /// What an item is like: of an image file, height, width and what is to be seen on it, of a distribution its bars, of others as in `records.jsonl`.
    ///
    /// # Errors
    /// When it cannot be read: the run may have gone back meanwhile.
    pub fn value(&self, item: &Item) -> Result<Value> {
        let text = self.bytes(item.place.0, item.place.1)?;
        let line: Line<Value> = serde_json::from_slice(&text).with_context(|| format!("{} has changed", FILE))?;
        Ok(line.value)
    }

    /// The file of an image by the `file` of its value; `None` where that is no name of one, whatever it leads to.
    pub fn image(&self, file: &str) -> Option<PathBuf> {
        is_image(file).then(|| self.run.join(file))
    }

    fn bytes(&self, from: u64, length: u64) -> Result<Vec<u8>> {
        let read = || {
            let mut file = files::open(&self.run.join(FILE))?;
            file.seek(SeekFrom::Start(from))?;
            let mut bytes = Vec::new();
            file.take(length).read_to_end(&mut bytes)?;
            Ok::<_, std::io::Error>(bytes)
        };
        read().with_context(|| format!("cannot read {}", self.run.join(FILE).display()))
    }
}

/// Whether a name is one that a writer gives.
fn is_image(name: &str) -> bool {
    let digits = name.strip_prefix("images/").and_then(|name| name.strip_suffix(".png"));
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The image that a line names.
fn line_image(text: &[u8]) -> Option<String> {
    let line: Value = serde_json::from_slice(text).ok()?;
    let name = line["value"]["file"].as_str().filter(|_| line["kind"] == "image")?;
    is_image(name).then(|| name.to_owned())
}

/// Calls `each` with where a whole line begins, and the line, from a place on.
fn each_line(path: &Path, from: u64, mut each: impl FnMut(u64, &[u8])) -> Result<()> {
    let mut read = || -> std::io::Result<()> {
        let mut file = files::open(path)?;
        file.seek(SeekFrom::Start(from))?;
        let mut reader = BufReader::new(file);
        let (mut at, mut text) = (from, Vec::new());
        loop {
            text.clear();
            let read = reader.by_ref().take(LONGEST).read_until(b'\n', &mut text)?;
            if text.last() != Some(&b'\n') {
                return Ok(());
            }
            each(at, &text);
            at += read as u64;
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}
