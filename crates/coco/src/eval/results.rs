//! Results files: `[{"image_id", "category_id", "score", "bbox" and/or "segmentation"}, …]`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use pipe_vocab::files;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::evaluator::Evaluator;
use super::summary::Summary;
use super::types::{Detection, IouType};
use crate::index::{Index, LoadOptions, Segmentation, Whole, explain};

/// One entry of a results file.
#[derive(Clone, Debug, PartialEq)]
pub struct ResultEntry {
    /// The image's id.
    pub image_id: i64,
    /// The category's id.
    pub category_id: i64,
    /// Higher is surer.
    pub score: f64,
    /// `[x, y, width, height]` in pixels.
    pub bbox: Option<[f64; 4]>,
    /// The mask: run lengths, or polygons.
    pub segmentation: Segmentation,
}

impl<'de> Deserialize<'de> for ResultEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            image_id: Whole,
            category_id: Whole,
            score: f64,
            #[serde(default)]
            bbox: Vec<f64>,
            #[serde(default)]
            segmentation: Segmentation,
        }
        let fields = Fields::deserialize(deserializer)?;
        let bbox = match fields.bbox[..] {
            [] => None,
            [x, y, w, h] => Some([x, y, w, h]),
            _ => return Err(D::Error::custom(format!("a box of {} numbers; expected 4", fields.bbox.len()))),
        };
        Ok(Self {
            image_id: fields.image_id.0,
            category_id: fields.category_id.0,
            score: fields.score,
            bbox,
            segmentation: fields.segmentation,
        })
    }
}

/// Which images are evaluated.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Scored {
    /// All of the annotations, as pycocotools does.
    #[default]
    All,
    /// Those with at least one detection.
    WithDetections,
    /// These ids.
    Images(Vec<i64>),
}

/// How a results file is scored.
#[derive(Clone, Debug, Default)]
pub struct ScoreOptions {
    /// Which images are evaluated.
    pub images: Scored,
}

/// Evaluates a results file against an annotation file.
///
/// As in pycocotools, areas of detections are their boxes' when the first entry has a box, else their masks'; and a file
/// of masks alone can be scored by the boxes around them.
///
/// # Errors
/// Files that cannot be read, with the entry at fault; images that the annotations do not have; for `segm`, an entry
/// without or with a damaged mask.
pub fn score(truth: &Path, results: &Path, iou: IouType, options: &ScoreOptions) -> Result<Summary> {
    let truth = Arc::new(Index::open(truth, &LoadOptions::default())?);
    let entries = read_results(results)?;
    let images =
        by_image(&truth, entries, iou, &options.images).with_context(|| format!("in {}", results.display()))?;
    let mut evaluator = Evaluator::new(&truth, iou);
    evaluator.add_all(images).with_context(|| format!("in {}", results.display()))?;
    Ok(evaluator.finish())
}

/// Reads a results file.
///
/// # Errors
/// A file that cannot be read, is cut short, or has an entry of another shape, with the entry's number.
pub fn read_results(path: &Path) -> Result<Vec<ResultEntry>> {
    let name = path.display().to_string();
    let file = files::open(path).with_context(|| format!("cannot open the results {name}"))?;
    parse_results(BufReader::with_capacity(1 << 18, file), &name)
}

fn parse_results(reader: impl Read, name: &str) -> Result<Vec<ResultEntry>> {
    let mut entries = Vec::new();
    let mut json = serde_json::Deserializer::from_reader(reader);
    let read = Entries(&mut entries).deserialize(&mut json).and_then(|()| json.end());
    read.map_err(|error| explain(&error, name, Some(("results", entries.len()))))?;
    Ok(entries)
}

/// The list, kept as far as it was read so that a message can name the entry at fault.
struct Entries<'a>(&'a mut Vec<ResultEntry>);

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of results (an object is an annotation file)")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(entry) = seq.next_element()? {
            self.0.push(entry);
        }
        Ok(())
    }
}

/// Detections of every image to be evaluated.
fn by_image(
    truth: &Index,
    entries: Vec<ResultEntry>,
    iou: IouType,
    scored: &Scored,
) -> Result<Vec<(i64, Vec<Detection>)>> {
    refuse_unknown(truth, entries.iter().map(|entry| entry.image_id), "the results have")?;
    let mut images: BTreeMap<i64, Vec<Detection>> = match scored {
        Scored::All => truth.images().iter().map(|image| (image.id, Vec::new())).collect(),
        Scored::WithDetections => entries.iter().map(|entry| (entry.image_id, Vec::new())).collect(),
        Scored::Images(ids) => {
            refuse_unknown(truth, ids.iter().copied(), "asked for are")?;
            ids.iter().map(|&id| (id, Vec::new())).collect()
        }
    };
    let box_areas = entries.first().is_some_and(|entry| entry.bbox.is_some());
    for (i, entry) in entries.into_iter().enumerate() {
        let Some(detections) = images.get_mut(&entry.image_id) else { continue };
        let image_id = entry.image_id;
        let detection = detection(truth, entry, iou, box_areas);
        detections.push(detection.with_context(|| format!("results[{i}], image {image_id}"))?);
    }
    Ok(images.into_iter().collect())
}

fn refuse_unknown(truth: &Index, ids: impl Iterator<Item = i64>, whose: &str) -> Result<()> {
    let unknown: BTreeSet<i64> = ids.filter(|&id| truth.position(id).is_none()).collect();
    if !unknown.is_empty() {
        let first: Vec<String> = unknown.iter().take(5).map(i64::to_string).collect();
        let more = if unknown.len() > 5 { ", …" } else { "" };
        bail!(
            "{whose} {} image(s) that are not in the annotations (id {}{more}); is it the same split?",
            unknown.len(),
            first.join(", ")
        );
    }
    Ok(())
}

fn detection(truth: &Index, entry: ResultEntry, iou: IouType, box_areas: bool) -> Result<Detection> {
    let position = truth.position(entry.image_id).context("no such image")?;
    let image = &truth.images()[position];
    let mask = match entry.segmentation {
        Segmentation::None => None,
        _ if iou == IouType::Bbox && entry.bbox.is_some() => None,
        segmentation => Some(segmentation.mask(image.height, image.width)?),
    };
    ensure!(mask.is_some() || iou == IouType::Bbox, "no segmentation; to evaluate the boxes, use `bbox`");
    let around = || mask.as_ref().map(|mask| mask.bbox());
    let bbox = entry.bbox.or_else(around).context("neither a box nor a segmentation")?;
    let mask_area = || mask.as_ref().map(|mask| mask.area() as f64);
    let area = if box_areas { Some(bbox[2] * bbox[3]) } else { mask_area() };
    // A category beyond all ids is as unknown as any other that the annotations do not have.
    let category_id = u32::try_from(entry.category_id).unwrap_or(u32::MAX);
    Ok(Detection { category_id, bbox, score: entry.score, mask, area })
}
