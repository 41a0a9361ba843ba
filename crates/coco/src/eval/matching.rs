//! One image: which detections find which objects (`COCOeval.computeIoU`, `computeOks` and `evaluateImg`).

use std::cmp::Ordering;

use anyhow::{Context, Result, ensure};

use super::oks::{self, oks};
use super::types::{ALL, AREAS, ClassMatches, Detection, ImageMatches, IouType, Marks, THRESHOLDS};
use crate::index::{Annotation, Index};
use crate::mask::{Rle, box_iou, iou_matrix};

/// By what detections and objects are compared.
#[derive(Clone, Copy)]
pub(super) struct Measure<'a> {
    pub iou: IouType,
    /// For keypoints, a constant of each.
    pub sigmas: &'a [f64],
}

impl Measure<'_> {
    /// Whether an object counts neither for nor against, of whatever size it is.
    pub fn ignores(self, index: &Index, truth: &Annotation) -> bool {
        truth.crowd || self.iou == IouType::Keypoints && oks::labelled(index.keypoints(truth)) == 0
    }

    /// IoU, or for keypoints OKS, of each detection with each object: `[D, G]`. Those of masks below `least` need not be exact.
    pub fn similarities(
        self,
        index: &Index,
        size: [u32; 2],
        truths: &[&Annotation],
        detections: &[&Detection],
        least: f64,
    ) -> Result<Vec<f64>> {
        let all = |one: &dyn Fn(&Detection, &Annotation) -> f64| {
            detections.iter().flat_map(|d| truths.iter().map(move |g| one(d, g))).collect()
        };
        Ok(match self.iou {
            _ if detections.is_empty() || truths.is_empty() => Vec::new(),
            IouType::Bbox => all(&|d, g| box_iou(d.bbox, g.bbox, g.crowd)),
            IouType::Keypoints => all(&|d, g| oks(&d.keypoints, g, index.keypoints(g), self.sigmas)),
            IouType::Segm => mask_ious(index, size, truths, detections, least)?,
        })
    }
}

/// Matches all detections of the image at a position.
pub(super) fn match_image(
    index: &Index,
    position: usize,
    measure: Measure<'_>,
    detections: &[Detection],
) -> Result<ImageMatches> {
    let image = &index.images()[position];
    let size = [image.height, image.width];
    let mut truths: Vec<&Annotation> = index.annotations(position).iter().collect();
    truths.sort_by_key(|truth| truth.category_id);
    let mut found: Vec<(u32, f64, usize)> = Vec::with_capacity(detections.len());
    for (i, detection) in detections.iter().enumerate() {
        check(detection, measure, size).with_context(|| format!("detection {i}"))?;
        found.push((detection.category_id, detection.score, i));
    }
    // Equal scores stay in the order they were given.
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| falling(a.1, b.1)).then(a.2.cmp(&b.2)));
    let found: Vec<&Detection> = found.into_iter().map(|(_, _, i)| &detections[i]).collect();

    let [.., most] = measure.iou.limits();
    let (mut classes, mut truths, mut found, mut unknown_categories) = (Vec::new(), &truths[..], &found[..], 0);
    while let Some(category_id) =
        [truths.first().map(|g| g.category_id), found.first().map(|d| d.category_id)].into_iter().flatten().min()
    {
        let (own, others) = truths.split_at(truths.partition_point(|truth| truth.category_id == category_id));
        let (detections, rest) = found.split_at(found.partition_point(|found| found.category_id == category_id));
        (truths, found) = (others, rest);
        if index.category_name(category_id).is_none() {
            unknown_categories += detections.len();
            continue;
        }
        let best = &detections[..detections.len().min(most)];
        classes.push(match_class(index, size, measure, category_id, own, best)?);
    }
    Ok(ImageMatches { classes, errors: None, detections: detections.len(), unknown_categories })
}

fn check(detection: &Detection, measure: Measure<'_>, [height, width]: [u32; 2]) -> Result<()> {
    ensure!(detection.score.is_finite(), "its score is {}", detection.score);
    ensure!(detection.bbox.iter().all(|v| v.is_finite()), "its box is {:?}", detection.bbox);
    if measure.iou == IouType::Keypoints {
        let (count, points) = (measure.sigmas.len(), &detection.keypoints);
        ensure!(points.len() == count, "it has {} keypoints, objects of the annotations {count}", points.len());
        ensure!(points.iter().all(|[x, y, _]| x.is_finite() && y.is_finite()), "its keypoints are {points:?}");
    }
    if measure.iou == IouType::Segm {
        let mask = detection.mask.as_ref().context("it has no mask, which `segm` needs")?;
        ensure!(
            mask.height() == height && mask.width() == width,
            "its mask is height × width {} × {}, its image {height} × {width}; masks must have the size of the original image",
            mask.height(),
            mask.width()
        );
    }
    Ok(())
}

/// Matches the detections of one category, which fall in score.
fn match_class(
    index: &Index,
    size: [u32; 2],
    measure: Measure<'_>,
    category_id: u32,
    truths: &[&Annotation],
    detections: &[&Detection],
) -> Result<ClassMatches> {
    let ious = measure.similarities(index, size, truths, detections, iou_threshold(0))?;
    let mut matches = ClassMatches {
        category_id,
        truths: [0; AREAS.len()],
        scores: detections.iter().map(|d| d.score).collect(),
        marks: vec![Default::default(); detections.len()],
    };
    let rows = Row::all(&ious, truths.len());
    for (range, &[low, high]) in AREAS.iter().enumerate() {
        let ignore = truths.iter().map(|g| measure.ignores(index, g) || g.area < low || g.area > high);
        let ignore: Vec<bool> = ignore.collect();
        matches.truths[range] = ignore.iter().filter(|ignored| !**ignored).count() as u32;
        let mut taken = vec![0; truths.len()];
        for row in &rows {
            matches.marks[row.detection][range] = row.choose(truths, &ignore, &mut taken);
        }
    }
    for (all, detection) in matches.marks.iter_mut().zip(detections) {
        let area = area(detection, measure.iou);
        for (marks, &[low, high]) in all.iter_mut().zip(&AREAS) {
            if area < low || area > high {
                marks.ignored |= !marks.matched & ALL;
            }
        }
    }
    Ok(matches)
}

fn area(detection: &Detection, iou: IouType) -> f64 {
    detection.area.unwrap_or_else(|| match (iou, &detection.mask) {
        (IouType::Segm, Some(mask)) => mask.area() as f64,
        (IouType::Keypoints, _) => {
            let [_, _, width, height] = oks::around(&detection.keypoints);
            width * height
        }
        _ => detection.bbox[2] * detection.bbox[3],
    })
}

/// IoUs `[D, G]` of masks; what is less than `least` may be 0.
fn mask_ious(
    index: &Index,
    [height, width]: [u32; 2],
    truths: &[&Annotation],
    detections: &[&Detection],
    least: f64,
) -> Result<Vec<f64>> {
    let masks: Vec<&Rle> = detections.iter().filter_map(|d| d.mask.as_ref()).collect();
    let truth = |g: &&Annotation| if g.mask_usable { index.mask(g) } else { Ok(Rle::empty(height, width)?) };
    let crowd: Vec<bool> = truths.iter().map(|truth| truth.crowd).collect();
    let truths = truths.iter().map(truth).collect::<Result<Vec<_>>>()?;
    Ok(iou_matrix(&masks, &truths, &crowd, least)?)
}

/// A detection that is near some objects.
pub(super) struct Row {
    pub detection: usize,
    /// Those objects and their IoUs, of the lowest threshold or more.
    near: Vec<(usize, f64)>,
    /// Thresholds that one of them reaches.
    thresholds: usize,
}

impl Row {
    /// Those of IoUs `[D, G]`; most detections are near no object, and match none at any threshold.
    pub fn all(ious: &[f64], truths: usize) -> Vec<Self> {
        let row = |(detection, ious): (usize, &[f64])| {
            let near: Vec<_> = ious.iter().copied().enumerate().filter(|(_, iou)| *iou >= iou_threshold(0)).collect();
            let reached = |threshold: &usize| near.iter().any(|(_, iou)| *iou >= iou_threshold(*threshold));
            let thresholds = (0..THRESHOLDS).take_while(reached).count();
            (thresholds > 0).then_some(Self { detection, near, thresholds })
        };
        ious.chunks(truths.max(1)).enumerate().filter_map(row).collect()
    }

    /// What it is at each threshold. Detections choose in order of their scores: the unmatched object of the highest IoU (the last of
    /// equal ones), ignored objects only when no other is left; crowds may be chosen by many. `taken` has a bit for each threshold at
    /// which an object was chosen.
    pub fn choose(&self, truths: &[&Annotation], ignore: &[bool], taken: &mut [u16]) -> Marks {
        let mut marks = Marks::default();
        for threshold in 0..self.thresholds {
            let bit = 1 << threshold;
            let best_of = |ignored: bool| {
                let (mut best, mut chosen) = (iou_threshold(threshold), None);
                for &(g, iou) in &self.near {
                    if ignore[g] == ignored && iou >= best && (taken[g] & bit == 0 || truths[g].crowd) {
                        (best, chosen) = (iou, Some(g));
                    }
                }
                chosen
            };
            if let Some(g) = best_of(false).or_else(|| best_of(true)) {
                taken[g] |= bit;
                marks.matched |= bit;
                marks.ignored |= if ignore[g] { bit } else { 0 };
            }
        }
        marks
    }
}

/// Order of finite scores, the highest first; 0 and -0 are equal.
pub(crate) fn falling(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// The threshold at a position, with the very bits of `numpy.linspace(.5, .95, 10)`.
pub(super) fn iou_threshold(position: usize) -> f64 {
    if position + 1 == THRESHOLDS { 0.95 } else { position as f64 * ((0.95 - 0.5) / 9.0) + 0.5 }
}
