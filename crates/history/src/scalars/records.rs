//! The numbers in `records.jsonl`: of runs that have no other, and to make the other again.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, Result};
use pipe_vocab::files;
use pipe_vocab::record::read_number;
use serde::Deserialize;
use serde_json::Value;

use crate::point::{Point, micros, seconds};

/// A number of `records.jsonl`.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPoint {
    /// Its tag.
    pub tag: String,
    /// The node that measured it.
    pub node: String,
    /// The number.
    pub point: Point,
}

#[derive(Deserialize)]
struct Line<'a> {
    kind: Cow<'a, str>,
    tag: Cow<'a, str>,
    value: Value,
    step: u64,
    epoch: u64,
    node: Cow<'a, str>,
    time: f64,
}

/// Calls `each` with the numbers of a file of records behind its first `from` bytes, and returns where its last whole line ends. What is no
/// record is passed over.
///
/// # Errors
/// When it cannot be read.
pub fn each_scalar(path: &Path, from: u64, mut each: impl FnMut(RecordPoint)) -> Result<u64> {
    let cannot = || format!("cannot read {}", path.display());
    let mut file: File = files::open(path).with_context(cannot)?;
    file.seek(SeekFrom::Start(from)).with_context(cannot)?;
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut at, mut text) = (from, Vec::new());
    loop {
        text.clear();
        let read = reader.read_until(b'\n', &mut text).with_context(cannot)?;
        if text.last() != Some(&b'\n') {
            return Ok(at);
        }
        at += read as u64;
        if let Some(point) = scalar(&text) {
            each(point);
        }
    }
}

fn scalar(text: &[u8]) -> Option<RecordPoint> {
    let line: Line<'_> = serde_json::from_slice(text).ok()?;
    let value = read_number(&line.value).filter(|_| line.kind == "scalar")?;
    let time = seconds(micros(line.time));
    let point = Point { step: line.step, epoch: line.epoch, time, value };
    Some(RecordPoint { tag: line.tag.into_owned(), node: line.node.into_owned(), point })
}
