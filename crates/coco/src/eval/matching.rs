//! One image: which detections find which objects (`COCOeval.computeIoU` and `evaluateImg`).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::types::{AREAS, ClassMatches, Detection, ImageMatches, IouType, MAX_DETECTIONS, Marks, THRESHOLDS};
use crate::index::{Annotation, Index};
use crate::mask::{Rle, box_iou, iou_matrix};

/// The objects and detections of one category.
#[derive(Default)]
struct Class<'a> {
    truths: Vec<&'a Annotation>,
    detections: Vec<&'a Detection>,
}

/// Matches all detections of the image at a position.
pub(super) fn match_image(
    index: &Index,
    position: usize,
    iou: IouType,
    detections: &[Detection],
) -> Result<ImageMatches> {
    let image = &index.images()[position];
    let mut classes: BTreeMap<u32, Class> = BTreeMap::new();
    for annotation in index.annotations(position) {
        classes.entry(annotation.category_id).or_default().truths.push(annotation);
    }
    let size = [image.height, image.width];
    let mut unknown_categories = 0;
    for (i, detection) in detections.iter().enumerate() {
        check(detection, iou, size).with_context(|| format!("detection {i}"))?;
        if index.category_name(detection.category_id).is_some() {
            classes.entry(detection.category_id).or_default().detections.push(detection);
        } else {
            unknown_categories += 1;
        }
    }
    let classes = classes.into_iter().map(|(category_id, class)| match_class(index, size, iou, category_id, class));
    Ok(ImageMatches { classes: classes.collect::<Result<_>>()?, detections: detections.len(), unknown_categories })
}

fn check(detection: &Detection, iou: IouType, [height, width]: [u32; 2]) -> Result<()> {
    ensure!(detection.score.is_finite(), "its score is {}", detection.score);
    ensure!(detection.bbox.iter().all(|v| v.is_finite()), "its box is {:?}", detection.bbox);
    if iou == IouType::Segm {
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

fn match_class(
    index: &Index,
    size: [u32; 2],
    iou: IouType,
    category_id: u32,
    Class { truths, mut detections }: Class,
) -> Result<ClassMatches> {
    detections.sort_by(|a, b| falling(a.score, b.score));
    detections.truncate(MAX_DETECTIONS[2]);
    let crowd: Vec<bool> = truths.iter().map(|truth| truth.crowd).collect();
    let (areas, ious) = match iou {
        IouType::Bbox => {
            let areas = detections.iter().map(|d| d.area.unwrap_or(d.bbox[2] * d.bbox[3])).collect();
            let row = |d: &&Detection| truths.iter().map(|g| box_iou(d.bbox, g.bbox, g.crowd)).collect::<Vec<_>>();
            (areas, detections.iter().flat_map(row).collect())
        }
        IouType::Segm => mask_ious(index, size, &truths, &crowd, &detections)?,
    };

    let mut matches = ClassMatches {
        category_id,
        truths: [0; AREAS.len()],
        scores: detections.iter().map(|d| d.score).collect(),
        marks: vec![Default::default(); detections.len()],
    };
    for (range, &[low, high]) in AREAS.iter().enumerate() {
        let ignore: Vec<bool> = truths.iter().map(|g| g.crowd || g.area < low || g.area > high).collect();
        matches.truths[range] = ignore.iter().filter(|ignored| !**ignored).count() as u32;
        let marks = match_range(&ious, &crowd, &ignore, detections.len());
        for ((all, marks), &area) in matches.marks.iter_mut().zip(marks).zip(&areas) {
            let mut marks = marks;
            if area < low || area > high {
                marks.ignored |= !marks.matched & ALL;
            }
            all[range] = marks;
        }
    }
    Ok(matches)
}

/// A bit for every threshold.
const ALL: u16 = (1 << THRESHOLDS) - 1;

/// Areas of the detections, and IoUs `[D, G]` of masks.
fn mask_ious(
    index: &Index,
    [height, width]: [u32; 2],
    truths: &[&Annotation],
    crowd: &[bool],
    detections: &[&Detection],
) -> Result<(Vec<f64>, Vec<f64>)> {
    let masks: Vec<Rle> = detections.iter().filter_map(|d| d.mask.clone()).collect();
    let area = |(d, mask): (&&Detection, &Rle)| d.area.unwrap_or(mask.area() as f64);
    let areas = detections.iter().zip(&masks).map(area).collect();
    if detections.is_empty() || truths.is_empty() {
        return Ok((areas, Vec::new()));
    }
    let truth = |g: &&Annotation| if g.mask_usable { index.mask(g) } else { Ok(Rle::empty(height, width)?) };
    let truths = truths.iter().map(truth).collect::<Result<Vec<_>>>()?;
    Ok((areas, iou_matrix(&masks, &truths, crowd)?))
}

/// Matches at every threshold. Detections choose in order of their scores: the unmatched object of the highest IoU (the
/// last of equal ones), ignored objects only when no other is left; crowds may be chosen by many.
fn match_range(ious: &[f64], crowd: &[bool], ignore: &[bool], detections: usize) -> Vec<Marks> {
    let mut marks = vec![Marks::default(); detections];
    let mut order: Vec<usize> = (0..ignore.len()).collect();
    order.sort_by_key(|&g| ignore[g]);
    let mut taken = vec![0u16; ignore.len()];
    if order.is_empty() {
        return marks;
    }
    for (marks, row) in marks.iter_mut().zip(ious.chunks(ignore.len())) {
        for threshold in 0..THRESHOLDS {
            let bit = 1 << threshold;
            let mut best = iou_threshold(threshold).min(1.0 - 1e-10);
            let mut chosen: Option<usize> = None;
            for &g in &order {
                if taken[g] & bit != 0 && !crowd[g] {
                    continue;
                }
                if ignore[g] && chosen.is_some_and(|c| !ignore[c]) {
                    break;
                }
                if row[g] >= best {
                    best = row[g];
                    chosen = Some(g);
                }
            }
            if let Some(g) = chosen {
                taken[g] |= bit;
                marks.matched |= bit;
                marks.ignored |= if ignore[g] { bit } else { 0 };
            }
        }
    }
    marks
}

/// Order of finite scores, the highest first; 0 and -0 are equal.
pub(super) fn falling(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// The threshold at a position, with the very bits of `numpy.linspace(.5, .95, 10)`.
pub(super) fn iou_threshold(position: usize) -> f64 {
    if position + 1 == THRESHOLDS { 0.95 } else { position as f64 * ((0.95 - 0.5) / 9.0) + 0.5 }
}
