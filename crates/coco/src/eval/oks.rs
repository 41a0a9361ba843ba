//! How near keypoints are to those of an object (`COCOeval.computeOks`).

use anyhow::{Result, ensure};

use crate::index::{Annotation, Index};

/// COCO's constants of a person's 17 keypoints, in the order of its annotations: how far apart people put the same keypoint.
const PERSON: [f64; 17] = [
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089,
    0.089,
];
/// The constant of other keypoints: about the mean of a person's.
const OTHER: f64 = 0.067;

/// The constants for so many keypoints, where none are given: COCO's for a person's 17, and for any other number 0.067 each.
pub(super) fn usual_sigmas(count: usize) -> Vec<f64> {
    if count == PERSON.len() { PERSON.to_vec() } else { vec![OTHER; count] }
}

/// Fails unless the constants are as many as the keypoints, and above 0.
pub(super) fn check_sigmas(sigmas: &[f64], index: &Index) -> Result<()> {
    let count = index.keypoint_count();
    ensure!(
        sigmas.len() == count,
        "{} constants of OKS are given, but the annotations have {count} keypoints an object",
        sigmas.len()
    );
    ensure!(sigmas.iter().all(|sigma| sigma.is_finite() && *sigma > 0.0), "constants of OKS are above 0");
    Ok(())
}

/// Object keypoint similarity of detected keypoints and an object, 0 to 1: the mean of `exp(-d² / (2 · area · (2 sigma)²))` over the keypoints
/// that are labelled. Of an object without, `d` is how far a keypoint lies outside the box three times as large.
pub(super) fn oks(found: &[[f64; 3]], truth: &Annotation, keypoints: &[[f32; 3]], sigmas: &[f64]) -> f64 {
    let area = truth.area + f64::EPSILON;
    let near = |[dx, dy]: [f64; 2], sigma: f64| {
        let variance = (sigma * 2.0) * (sigma * 2.0);
        (-((dx * dx + dy * dy) / variance / area / 2.0)).exp()
    };
    let (mut sum, mut count) = (0.0, 0u32);
    let mut take = |similarity: f64| {
        sum += similarity;
        count += 1;
    };
    if labelled(keypoints) > 0 {
        for ((own, [x, y, _]), sigma) in keypoints.iter().zip(found).zip(sigmas) {
            if own[2] > 0.0 {
                take(near([x - f64::from(own[0]), y - f64::from(own[1])], *sigma));
            }
        }
    } else {
        let [left, top, width, height] = truth.bbox;
        let beyond =
            |at: f64, start: f64, length: f64| (start - length - at).max(0.0) + (at - (start + length * 2.0)).max(0.0);
        for ([x, y, _], sigma) in found.iter().zip(sigmas) {
            take(near([beyond(*x, left, width), beyond(*y, top, height)], *sigma));
        }
    }
    sum / f64::from(count.max(1))
}

/// How many keypoints are labelled.
pub(super) fn labelled(keypoints: &[[f32; 3]]) -> usize {
    keypoints.iter().filter(|[_, _, v]| *v > 0.0).count()
}

/// The box around keypoints: `[x, y, width, height]`.
pub(super) fn around(keypoints: &[[f64; 3]]) -> [f64; 4] {
    let span = |axis: usize| {
        let ends = keypoints.iter().map(|point| point[axis]);
        (ends.clone().fold(f64::INFINITY, f64::min), ends.fold(f64::NEG_INFINITY, f64::max))
    };
    let ((x1, x2), (y1, y2)) = (span(0), span(1));
    if keypoints.is_empty() { [0.0; 4] } else { [x1, y1, x2 - x1, y2 - y1] }
}
