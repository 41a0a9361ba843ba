//! A run's folder, as those read it who look at runs: curves, images and texts, what its owners say of it.
//!
//! An input is the folder's files one after another, each behind a line `#NAME`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use pipe_history::scalars::Writer;
use pipe_history::{Media, Point, Scalars, Span};
use pipe_runs::{About, Run, compare};

/// Marks and the names of the files behind them.
const FILES: [(&[u8], &str); 8] = [
    (b"\n#log\n", "scalars/open.log"),
    (b"\n#points\n", "scalars/0000.points"),
    (b"\n#index\n", "scalars/0000.index"),
    (b"\n#records\n", "records.jsonl"),
    (b"\n#media\n", "media.jsonl"),
    (b"\n#about\n", "about.json"),
    (b"\n#run\n", "run.json"),
    (b"\n#edits\n", "pipelines/index.jsonl"),
];

/// What the formats are made of.
pub const WORDS: &[&[u8]] = &[
    b"\n#log\n",
    b"\n#points\n",
    b"\n#index\n",
    b"\n#records\n",
    b"\n#media\n",
    b"\n#about\n",
    b"\n#run\n",
    b"\n#edits\n",
    b"pipelog1",
    b"pipepts1",
    b"{\"kind\":\"scalar\",\"tag\":\"a\",\"value\":1.5,\"step\":1,\"epoch\":1,\"node\":\"n\",\"time\":1.0}\n",
    b"\"step\":18446744073709551615",
    b"\"value\":\"NaN\"",
    b"\"time\":1e300",
    b"\"status\":\"running\"",
    b"\"tags\":[",
    b"images/../../x.png",
];

/// Reads all of it, and goes on with it as the next life of the run would.
pub fn read(folder: &Path, bytes: &[u8]) -> Result<()> {
    let run = folder.join("run");
    let _ = fs::remove_dir_all(&run);
    for name in ["scalars", "pipelines"] {
        fs::create_dir_all(run.join(name))?;
    }
    fs::write(run.join("run.json"), r#"{"status":"done"}"#)?;
    for (name, part) in parts(bytes) {
        let part = match name {
            "scalars/open.log" => sums_after(part, 24, 0),
            "scalars/0000.points" => points(part),
            "scalars/0000.index" => summaries(part),
            _ => part.to_vec(),
        };
        fs::write(run.join(name), part)?;
    }
    let curves = Scalars::open(&run).and_then(|mut scalars| {
        looked_at(&scalars)?;
        scalars.refresh()
    });
    let media = Media::open(&run).map(|mut media| {
        for item in media.items.iter().take(8) {
            let value = media.value(item).unwrap_or_default();
            let _ = value["file"].as_str().map(|file| media.image(file));
        }
        let _ = media.refresh();
    });
    let _ = About::of(&run);
    let known = Run::of(&run).map(|known| compare::compare(&[known.clone(), known]));
    // It may be damaged, but not so that a run ends by it.
    let _ = Writer::open(&run, None).and_then(|mut writer| {
        writer.push("a", &"n", Point { step: 1, epoch: 1, time: 1.0, value: 1.0 })?;
        writer.flush()
    });
    let _ = pipe_history::media::Writer::open(&run).and_then(|mut writer| writer.cut(writer.length() / 2));
    curves.and(media).and(known.context("no run").map(drop))
}

/// Curves as a page draws them.
fn looked_at(scalars: &Scalars) -> Result<()> {
    let tags: Vec<String> = scalars.tags().take(4).map(str::to_owned).collect();
    for tag in &tags {
        let Some(curve) = scalars.curve(tag)? else { continue };
        scalars.view(tag, Span::steps(curve.steps.0, curve.steps.1), 50)?;
        scalars.view(tag, Span::times(curve.times.0, curve.times.1), 1)?;
        scalars.view(tag, Span::steps(0, u64::MAX), 300)?;
        scalars.points(tag, curve.count.saturating_sub(300)..u64::MAX)?;
    }
    Ok(())
}

/// The parts of an input, by the names of their files.
fn parts(bytes: &[u8]) -> Vec<(&'static str, &[u8])> {
    let mark_at = |at: usize| FILES.iter().find(|(mark, _)| bytes[at..].starts_with(mark));
    let mut parts = Vec::new();
    let mut open: Option<(&'static str, usize)> = None;
    for at in 0..bytes.len() {
        if let Some((mark, name)) = mark_at(at) {
            parts.extend(open.map(|(name, from)| (name, &bytes[from.min(at)..at])));
            open = Some((name, at + mark.len()));
        }
    }
    parts.extend(open.map(|(name, from)| (name, &bytes[from.min(bytes.len())..])));
    parts
}

/// Whoever writes a file of sums can write a right one: pieces behind `head`, each a length, the sum, and what is summed. `counted`: how many
/// of the eight bytes in front the length has in it.
fn sums_after(bytes: &[u8], head: usize, counted: usize) -> Vec<u8> {
    let (mut bytes, mut at) = (bytes.to_vec(), head);
    while let Some(length) = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
        let end = (at + 8).saturating_add((u32::from_le_bytes(*length) as usize).saturating_sub(counted));
        if end > bytes.len() || end == at + 8 {
            break;
        }
        let sum = crc32fast::hash(&bytes[at + 8..end]);
        bytes[at + 4..at + 8].copy_from_slice(&sum.to_le_bytes());
        at = end;
    }
    bytes
}

/// A file of points: its head ends with a tag that has its length before it.
fn points(bytes: &[u8]) -> Vec<u8> {
    let tag = bytes.get(8..12).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |length| u32::from_le_bytes(*length));
    sums_after(bytes, 12usize.saturating_add(tag as usize), 8)
}

/// An index: summaries of 132 bytes, the last four of which are the sum.
fn summaries(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for summary in bytes.chunks_exact_mut(SUMMARY) {
        let sum = crc32fast::hash(&summary[..SUMMARY - 4]);
        summary[SUMMARY - 4..].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

const SUMMARY: usize = 8 + 8 + 16 + 16 + 32 + 32 + 8 + 4;
