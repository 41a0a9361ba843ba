//! Results files: `[{"image_id", "category_id", "score", "bbox", "segmentation" and/or "keypoints"}, …]`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use pipe_vocab::files;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::evaluator::Evaluator;
use super::oks;
use super::summary::Summary;
use super::types::{Detection, IouType, State};
use crate::index::{Image, Index, LoadOptions, PythonJson, Segmentation, Whole, explain};
use crate::pieces::{self, Lists};

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
    /// x, y and any third number of each keypoint, in pixels; empty where the results have none.
    pub keypoints: Box<[[f64; 3]]>,
    /// The name of the image's file, where the results say it.
    pub file_name: Option<Box<str>>,
    /// The name of the category, where the results say it.
    pub category_name: Option<Box<str>>,
}

impl ResultEntry {
    /// A detection as results files have it. With the names of image and category it is found again where ids are others.
    pub fn to_json(image_id: i64, found: &Detection, file_name: &str, category_name: Option<&str>) -> Value {
        let mut entry = json!({
            "image_id": image_id, "category_id": found.category_id, "bbox": found.bbox, "score": found.score,
        });
        if let Some(mask) = &found.mask {
            entry["segmentation"] = json!({ "size": [mask.height(), mask.width()], "counts": mask.to_compressed() });
        }
        if !found.keypoints.is_empty() {
            entry["keypoints"] = json!(found.keypoints.as_flattened());
        }
        entry["file_name"] = file_name.into();
        if let Some(name) = category_name {
            entry["category_name"] = name.into();
        }
        entry
    }
}

impl<'de> Deserialize<'de> for ResultEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Fields {
            image_id: Whole,
            category_id: Whole,
            #[serde(default)]
            score: Option<f64>,
            #[serde(default)]
            bbox: Numbers,
            #[serde(default)]
            segmentation: Segmentation,
            #[serde(default)]
            keypoints: Option<Vec<Option<f64>>>,
            #[serde(default)]
            file_name: Option<Box<str>>,
            #[serde(default)]
            category_name: Option<Box<str>>,
        }
        let fields = Fields::deserialize(deserializer)?;
        let not_finite =
            |what: &str| D::Error::custom(format!("{what} is no finite number (missing, null, NaN or Infinity)"));
        let bbox = match (fields.bbox.count, fields.bbox.first) {
            (0, _) => None,
            (4, [Some(x), Some(y), Some(w), Some(h)]) => Some([x, y, w, h]),
            (4, _) => return Err(not_finite("a number of the box")),
            (count, _) => return Err(D::Error::custom(format!("a box of {count} numbers; expected 4"))),
        };
        let keypoints: Option<Vec<f64>> = fields.keypoints.unwrap_or_default().into_iter().collect();
        let keypoints = keypoints.ok_or_else(|| not_finite("a number of the keypoints"))?;
        let (points, []) = keypoints.as_chunks::<3>() else {
            let count = keypoints.len();
            return Err(D::Error::custom(format!("keypoints of {count} numbers; expected three for each")));
        };
        Ok(Self {
            image_id: fields.image_id.0,
            category_id: fields.category_id.0,
            score: fields.score.ok_or_else(|| not_finite("the score"))?,
            bbox,
            segmentation: fields.segmentation,
            keypoints: points.into(),
            file_name: fields.file_name,
            category_name: fields.category_name,
        })
    }
}

/// A list of numbers, of which a box needs four.
#[derive(Default)]
struct Numbers {
    count: usize,
    first: [Option<f64>; 4],
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Numbers;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Numbers, A::Error> {
                let mut numbers = Numbers::default();
                while let Some(number) = seq.next_element()? {
                    if let Some(place) = numbers.first.get_mut(numbers.count) {
                        *place = number;
                    }
                    numbers.count += 1;
                }
                Ok(numbers)
            }
        }
        deserializer.deserialize_seq(List)
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
    /// For keypoints, the constant of each; by default COCO's for a person's 17, otherwise 0.067 for each.
    pub oks_sigmas: Option<Vec<f64>>,
    /// Whether annotations that point nowhere or come twice are left out, in place of an error.
    pub lenient: bool,
    /// Whether the state keeps the kinds of errors, for [`crate::diagnose::diagnose`].
    pub errors: bool,
}

/// The result of scoring, and what is to be known of it.
#[derive(Clone, Debug)]
pub struct Score {
    /// The numbers.
    pub summary: Summary,
    /// The matches behind them.
    pub state: State,
    /// The annotations.
    pub truth: Arc<Index>,
    /// What was odd, a line each.
    pub notes: Vec<String>,
}

/// Evaluates a results file against an annotation file.
///
/// As in pycocotools, areas of detections are their boxes' when the first entry has a box, else their masks'; and a file
/// of masks or keypoints alone can be scored by the boxes around them.
///
/// # Errors
/// Files that cannot be read, with the entry at fault; images that the annotations do not have; for `segm`, annotations of which
/// none has a mask, and an entry without or with a damaged one; for `keypoints` likewise.
pub fn score(truth: &Path, results: &Path, iou: IouType, options: &ScoreOptions) -> Result<Score> {
    let index = open_truth(truth, iou, options)?;
    let mut score = score_on(&index, results, iou, options)?;
    score.notes.splice(0..0, index.audit().to_string().lines().map(str::to_owned));
    Ok(score)
}

/// Evaluates two results files on the same images: those that `options` name, or that have a detection in either. What the annotations
/// have that is odd is noted with the first.
///
/// # Errors
/// As [`score`].
pub fn score_both(truth: &Path, results: [&Path; 2], iou: IouType, options: &ScoreOptions) -> Result<[Score; 2]> {
    let index = open_truth(truth, iou, options)?;
    let each = |options: &ScoreOptions| -> Result<[Score; 2]> {
        let [first, second] = results.map(|path| score_on(&index, path, iou, options));
        Ok([first?, second?])
    };
    let mut scores = each(options)?;
    if !scores[0].state.images.keys().eq(scores[1].state.images.keys()) {
        let ids = scores.iter().flat_map(|score| score.state.images.keys().copied());
        scores = each(&ScoreOptions { images: Scored::Images(ids.collect()), ..options.clone() })?;
    }
    scores[0].notes.splice(0..0, index.audit().to_string().lines().map(str::to_owned));
    Ok(scores)
}

fn open_truth(truth: &Path, iou: IouType, options: &ScoreOptions) -> Result<Arc<Index>> {
    let load = LoadOptions { strict: !options.lenient, images: false, keypoints: iou == IouType::Keypoints };
    let index = Arc::new(Index::open(truth, &load)?);
    if iou == IouType::Segm {
        refuse_without_masks(&index).with_context(|| format!("in {}", truth.display()))?;
    }
    ensure!(
        iou != IouType::Keypoints || index.keypoint_count() > 0,
        "no object of {} has keypoints; those of COCO are in a file of their own, person_keypoints_….json",
        truth.display()
    );
    Ok(index)
}

fn score_on(index: &Arc<Index>, results: &Path, iou: IouType, options: &ScoreOptions) -> Result<Score> {
    let place = || format!("in {}", results.display());
    let mut entries = read_results(results)?;
    let named = take_ids_by_name(index, &mut entries).with_context(place)?;
    let unknown = names_without_category(index, &entries);
    let renamed = take_categories_by_name(index, &mut entries);
    let images = by_image(index, &entries, &options.images).with_context(place)?;
    let box_areas = entries.first().is_some_and(|entry| entry.bbox.is_some());
    let mut evaluator = Evaluator::new(index, iou).diagnosing(options.errors);
    if let Some(sigmas) = options.oks_sigmas.as_ref().filter(|_| iou == IouType::Keypoints) {
        evaluator = evaluator.with_sigmas(sigmas.clone())?;
    }
    let made = |position: usize, i: usize| {
        let detection = detection(&index.images()[position], &entries[i], iou, box_areas);
        detection.with_context(|| format!("results[{i}], image {}", entries[i].image_id)).map_err(|error| (i, error))
    };
    let all = |position, own: &[usize]| own.iter().map(|&i| made(position, i)).collect::<Result<Vec<_>, _>>();
    evaluator.add_made(&images, |position, own| all(position, own).map(Cow::Owned)).with_context(place)?;
    let mut notes = Vec::new();
    if named > 0 {
        notes.push(format!(
            "{named} detections were given to their images by `file_name`: the annotations have other ids"
        ));
    }
    if !unknown.is_empty() {
        let names = unknown[..unknown.len().min(5)].join(", ");
        notes.push(format!(
            "the annotations have no category called {names}{}: such detections go by their ids",
            if unknown.len() > 5 { ", …" } else { "" }
        ));
    }
    if renamed > 0 {
        notes.push(format!(
            "{renamed} detections were given to their categories by `category_name`: the annotations have other ids"
        ));
    }
    let summary = evaluator.finish();
    Ok(Score { summary, state: evaluator.into_state(), truth: Arc::clone(index), notes })
}

/// Fails where masks would be compared with nothing.
fn refuse_without_masks(truth: &Index) -> Result<()> {
    if let Some(image) = truth.images().iter().find(|image| image.width == 0 || image.height == 0) {
        bail!(
            "image {} has no `width` and `height`, which masks need; to evaluate the boxes, use `--iou bbox`",
            image.id
        );
    }
    let all = || truth.images().iter().enumerate().flat_map(|(position, _)| truth.annotations(position));
    ensure!(
        truth.annotation_count() == 0 || all().any(|annotation| annotation.mask_usable),
        "not one of the {} annotations has a mask that lies in its image; to evaluate the boxes, use `--iou bbox`",
        truth.annotation_count()
    );
    Ok(())
}

/// Gives entries that name their image the id that the annotations have for that name, where theirs is another image's or
/// nobody's. Returns how many these were.
fn take_ids_by_name(truth: &Index, entries: &mut [ResultEntry]) -> Result<usize> {
    let base = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let mut ids: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    if entries.iter().any(|entry| entry.file_name.is_some()) {
        for image in truth.images().iter().filter(|image| !image.file_name.is_empty()) {
            ids.entry(base(&image.file_name)).or_default().push(image.id);
        }
    }
    let mut named = 0;
    for (i, entry) in entries.iter_mut().enumerate() {
        let Some(name) = entry.file_name.as_deref().filter(|_| !ids.is_empty()) else { continue };
        let own = truth.position(entry.image_id).map(|position| &truth.images()[position]);
        if own.is_some_and(|image| base(&image.file_name) == base(name)) {
            continue;
        }
        match ids.get(&base(name)).map(Vec::as_slice) {
            Some([id]) => (entry.image_id, named) = (*id, named + 1),
            Some(_) => bail!(
                "results[{i}]: several images of the annotations are called {name}, and none of them has the id {}",
                entry.image_id
            ),
            None => bail!("results[{i}]: the annotations have no image called {name}; is it the same split?"),
        }
    }
    Ok(named)
}

/// The names of categories in results that the annotations do not have.
fn names_without_category(truth: &Index, entries: &[ResultEntry]) -> Vec<String> {
    let known: BTreeSet<&str> = truth.categories().iter().map(|category| category.name.as_str()).collect();
    let named: BTreeSet<&str> = entries.iter().filter_map(|entry| entry.category_name.as_deref()).collect();
    named.difference(&known).map(|name| (*name).to_owned()).collect()
}

/// Gives entries that name their category the id that the annotations have for that name, where theirs is another's. Returns how many
/// these were.
fn take_categories_by_name(truth: &Index, entries: &mut [ResultEntry]) -> usize {
    let mut ids: BTreeMap<&str, Option<i64>> = BTreeMap::new();
    for category in truth.categories() {
        // Of two categories of one name neither is meant by it.
        ids.entry(&category.name).and_modify(|id| *id = None).or_insert(Some(category.id.into()));
    }
    let mut renamed = 0;
    for entry in entries {
        let id = entry.category_name.as_deref().and_then(|name| *ids.get(name)?);
        if let Some(id) = id.filter(|id| *id != entry.category_id) {
            (entry.category_id, renamed) = (id, renamed + 1);
        }
    }
    renamed
}

/// Reads a results file.
///
/// # Errors
/// A file that cannot be read, is cut short, or has an entry of another shape, with the entry's number.
pub fn read_results(path: &Path) -> Result<Vec<ResultEntry>> {
    let name = path.display().to_string();
    let mut file = files::open(path).with_context(|| format!("cannot open the results {name}"))?;
    match read_quickly(&mut file) {
        Some(entries) => Ok(entries),
        None => {
            file.rewind().with_context(|| format!("cannot read the results {name}"))?;
            parse_results(file, &name)
        }
    }
}

/// What [`parse_results`] reads, sooner; `None` where that one is to be asked, which can say what is wrong.
fn read_quickly(file: impl Read + Send) -> Option<Vec<ResultEntry>> {
    let mut entries: Vec<ResultEntry> = Vec::new();
    let part = |_, text: &[u8]| serde_json::from_slice::<Vec<ResultEntry>>(text).ok();
    let join = |part: Vec<ResultEntry>| {
        entries.extend(part);
        Some(())
    };
    let (skeleton, pieces) = pieces::read(file, Lists::Whole, part, join)?;
    let list: Vec<u8> = serde_json::from_slice(&skeleton).ok()?;
    ([list.len()] == pieces[..]).then_some(entries)
}

fn parse_results(reader: impl Read, name: &str) -> Result<Vec<ResultEntry>> {
    let mut entries = Vec::new();
    let mut json = serde_json::Deserializer::from_reader(BufReader::with_capacity(1 << 18, PythonJson::new(reader)));
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

/// Every image to be evaluated, and which entries are its own.
fn by_image(truth: &Index, entries: &[ResultEntry], scored: &Scored) -> Result<Vec<(i64, Vec<usize>)>> {
    refuse_unknown(truth, entries.iter().map(|entry| entry.image_id), "the results have")?;
    if let Scored::Images(ids) = scored {
        refuse_unknown(truth, ids.iter().copied(), "asked for are")?;
    }
    let mut own: Vec<Vec<usize>> = vec![Vec::new(); truth.images().len()];
    for (i, entry) in entries.iter().enumerate() {
        if let Some(position) = truth.position(entry.image_id) {
            own[position].push(i);
        }
    }
    let images = truth.images().iter().map(|image| image.id).zip(own);
    Ok(match scored {
        Scored::All => images.collect(),
        Scored::WithDetections => images.filter(|(_, own)| !own.is_empty()).collect(),
        Scored::Images(ids) => {
            let ids: BTreeSet<i64> = ids.iter().copied().collect();
            images.filter(|(id, _)| ids.contains(id)).collect()
        }
    })
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

fn detection(image: &Image, entry: &ResultEntry, iou: IouType, box_areas: bool) -> Result<Detection> {
    let mask = match &entry.segmentation {
        Segmentation::None => None,
        _ if iou != IouType::Segm && entry.bbox.is_some() => None,
        segmentation => Some(segmentation.mask(image.height, image.width)?),
    };
    let points = &entry.keypoints;
    ensure!(mask.is_some() || iou != IouType::Segm, "no segmentation; to evaluate the boxes, use `bbox`");
    ensure!(!points.is_empty() || iou != IouType::Keypoints, "no keypoints; to evaluate the boxes, use `bbox`");
    let around_points = || (!points.is_empty()).then(|| oks::around(points));
    let around = || mask.as_ref().map(|mask| mask.bbox()).or_else(around_points);
    let bbox = match entry.bbox {
        // Nobody looks at it.
        None if iou != IouType::Bbox && !box_areas => [0.0; 4],
        bbox => bbox.or_else(around).context("neither a box nor a segmentation")?,
    };
    let area = box_areas.then_some(bbox[2] * bbox[3]).or_else(|| mask.as_ref().map(|mask| mask.area() as f64));
    // A category beyond all ids is as unknown as any other that the annotations do not have.
    let category_id = u32::try_from(entry.category_id).unwrap_or(u32::MAX);
    let keypoints = if iou == IouType::Keypoints { points.to_vec() } else { Vec::new() };
    Ok(Detection { category_id, bbox, score: entry.score, mask, keypoints, area })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::pieces::tests::damaged;

    #[test]
    fn what_is_wrong_is_left_to_the_other_reader() {
        let entry = r#"{"image_id": 5.0, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5, "segmentation": [[1, 2, 3, 4, 5, 6]], "keypoints": [1, 2, 1]}"#;
        let mask = r#"{"image_id": 7, "category_id": 2, "score": 1e-3, "segmentation": {"size": [4, 4], "counts": "]}\"0"}, "file_name": "a"}"#;
        let text = format!(" [{entry}, {mask} ,{entry}]\n");
        assert_eq!(read_quickly(Cursor::new(&text)).unwrap(), parse_results(text.as_bytes(), "r.json").unwrap());
        let mut right = 0;
        for text in damaged(&text) {
            let Some(quick) = read_quickly(Cursor::new(&text)) else { continue };
            let slow = parse_results(&text[..], "r.json");
            assert_eq!(quick, slow.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&text))));
            right += 1;
        }
        assert!(right > 100, "{right}");
    }
}
