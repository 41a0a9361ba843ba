//! Precision and recall of each category over all images (`COCOeval.accumulate`).

use std::collections::BTreeMap;

use super::matching::falling;
use super::types::{ALL, AREAS, ClassMatches, ImageMatches, LIMITS, Marks, THRESHOLDS};
use crate::index::Index;
use crate::parallel::parallel;

/// Recall thresholds of a precision curve: 0.00, 0.01, … 1.00.
pub(crate) const RECALLS: usize = 101;

/// Precision and recall of every category. `T` = 10 IoU thresholds 0.50 … 0.95, `R` = 101 recall thresholds, `K`
/// categories in order of their ids, `A` = 4 area ranges (all, small, medium, large), `M` = 3 limits of detections an
/// image (1, 10, 100; of keypoints 1, 10, 20). A category without ground truth has −1 everywhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Curves {
    /// `[T, R, K, A, M]`: the highest precision at that recall or more.
    pub precision: Vec<f64>,
    /// `[T, R, K, A, M]`: the score at which that recall is reached.
    pub scores: Vec<f64>,
    /// `[T, K, A, M]`: the recall reached.
    pub recall: Vec<f64>,
    /// Number of categories `K`.
    pub classes: usize,
}

impl Curves {
    /// Precision at `[t, r, k, a, m]`.
    pub fn precision_at(&self, at: [usize; 5]) -> f64 {
        self.precision[self.place(at)]
    }

    /// Score at `[t, r, k, a, m]`.
    pub fn score_at(&self, at: [usize; 5]) -> f64 {
        self.scores[self.place(at)]
    }

    fn place(&self, [t, r, k, a, m]: [usize; 5]) -> usize {
        (((t * RECALLS + r) * self.classes + k) * AREAS.len() + a) * LIMITS + m
    }

    /// Recall at `[t, k, a, m]`.
    pub fn recall_at(&self, [t, k, a, m]: [usize; 4]) -> f64 {
        self.recall[((t * self.classes + k) * AREAS.len() + a) * LIMITS + m]
    }
}

/// One detection in the line of all detections of a category.
struct Ranked {
    score: f64,
    /// Its rank in its image.
    rank: u32,
    marks: [Marks; AREAS.len()],
}

/// One category's part of the curves, for an area range and limit.
struct Part {
    area: usize,
    limit: usize,
    threshold: usize,
    recall: f64,
    precision: [f64; RECALLS],
    scores: [f64; RECALLS],
}

pub(super) fn accumulate(truth: &Index, images: &BTreeMap<i64, ImageMatches>, limits: [usize; LIMITS]) -> Curves {
    let ids: Vec<u32> = truth.categories().iter().map(|category| category.id).collect();
    let mut classes: Vec<Vec<&ClassMatches>> = vec![Vec::new(); ids.len()];
    for matches in images.values().flat_map(|image| &image.classes) {
        if let Ok(k) = ids.binary_search(&matches.category_id) {
            classes[k].push(matches);
        }
    }
    let parts = parallel(&classes, |matches| class_parts(matches, limits));

    let cells = ids.len() * AREAS.len() * LIMITS;
    let mut by_cell: Vec<Option<&Part>> = vec![None; THRESHOLDS * cells];
    for (k, part) in parts.iter().enumerate().flat_map(|(k, parts)| parts.iter().map(move |part| (k, part))) {
        let cell = (k * AREAS.len() + part.area) * LIMITS + part.limit;
        by_cell[part.threshold * cells + cell] = Some(part);
    }
    let [mut precision, mut scores] = [(); 2].map(|()| Vec::with_capacity(by_cell.len() * RECALLS));
    for parts in by_cell.chunks(cells.max(1)) {
        for r in 0..RECALLS {
            precision.extend(parts.iter().map(|part| part.map_or(-1.0, |part| part.precision[r])));
            scores.extend(parts.iter().map(|part| part.map_or(-1.0, |part| part.scores[r])));
        }
    }
    let recall = by_cell.iter().map(|part| part.map_or(-1.0, |part| part.recall)).collect();
    Curves { precision, scores, recall, classes: ids.len() }
}

/// All parts of one category. Sorted once: leaving out low ranks keeps a stable order.
fn class_parts(matches: &[&ClassMatches], limits: [usize; LIMITS]) -> Vec<Part> {
    let mut ranked: Vec<Ranked> = (matches.iter())
        .flat_map(|class| class.scores.iter().zip(&class.marks).enumerate())
        .map(|(rank, (&score, &marks))| Ranked { score, rank: rank as u32, marks })
        .collect();
    ranked.sort_by(|a, b| falling(a.score, b.score));

    let mut parts = Vec::new();
    let mut found: [Vec<Point>; THRESHOLDS] = Default::default();
    for area in 0..AREAS.len() {
        let truths: u32 = matches.iter().map(|class| class.truths[area]).sum();
        if truths == 0 {
            continue;
        }
        for (limit, most) in limits.into_iter().enumerate() {
            let line = || ranked.iter().filter(|detection| (detection.rank as usize) < most);
            find(line(), area, &mut found);
            let first = line().next().map(|detection| detection.score);
            for (threshold, found) in found.iter_mut().enumerate() {
                let recall = found.len() as f64 / f64::from(truths);
                let (precision, scores) = sample(found, truths, first);
                parts.push(Part { area, limit, threshold, recall, precision, scores });
            }
        }
    }
    parts
}

/// A curve's point at a detection that finds an object: only there does recall rise, and between two of them precision falls.
struct Point {
    precision: f64,
    score: f64,
}

/// The points of each threshold's curve.
fn find<'a>(line: impl Iterator<Item = &'a Ranked>, area: usize, points: &mut [Vec<Point>; THRESHOLDS]) {
    points.iter_mut().for_each(Vec::clear);
    // Most wrong detections are wrong at all thresholds.
    let (mut always, mut wrong) = (0u32, [0u32; THRESHOLDS]);
    for Ranked { score, marks, .. } in line {
        let Marks { matched, ignored } = marks[area];
        let (right, other) = (matched & !ignored, !matched & !ignored & ALL);
        if other == ALL {
            always += 1;
            continue;
        }
        for (threshold, points) in points.iter_mut().enumerate() {
            wrong[threshold] += u32::from(other >> threshold & 1);
            if right >> threshold & 1 == 1 {
                let (found, wrong) = ((points.len() + 1) as f64, f64::from(always + wrong[threshold]));
                // The tiny number keeps 0 / 0 out, as numpy.spacing(1) does.
                points.push(Point { precision: found / (wrong + found + f64::EPSILON), score: *score });
            }
        }
    }
}

/// Average precision over the recall thresholds of detections that count, in falling order of their scores; each says whether it is right.
pub(crate) fn average_precision(line: impl Iterator<Item = bool>, truths: u32) -> f64 {
    let (mut found, mut wrong) = (Vec::new(), 0u32);
    for right in line {
        if right {
            let count = (found.len() + 1) as f64;
            found.push(Point { precision: count / (f64::from(wrong) + count + f64::EPSILON), score: 0.0 });
        } else {
            wrong += 1;
        }
    }
    sample(&mut found, truths, Some(0.0)).0.iter().sum::<f64>() / RECALLS as f64
}

/// The recall threshold at a position, with the bits of `numpy.linspace(0, 1, 101)`.
pub(crate) fn recall_threshold(position: usize) -> f64 {
    if position + 1 == RECALLS { 1.0 } else { position as f64 * 0.01 }
}

/// Precision and score at the recall thresholds, the precision made to fall; 0 where that recall is never reached. A recall of 0 is
/// reached with the `first` detection, right or wrong.
fn sample(found: &mut [Point], truths: u32, first: Option<f64>) -> ([f64; RECALLS], [f64; RECALLS]) {
    let mut highest = 0.0f64;
    for point in found.iter_mut().rev() {
        highest = highest.max(point.precision);
        point.precision = highest;
    }
    let (mut precision, mut scores) = ([0.0; RECALLS], [0.0; RECALLS]);
    let Some(first) = first else { return (precision, scores) };
    (precision[0], scores[0]) = (highest, first);
    let mut at = 0;
    for r in 1..RECALLS {
        let recall = recall_threshold(r);
        while at < found.len() && (at + 1) as f64 / f64::from(truths) < recall {
            at += 1;
        }
        let Some(point) = found.get(at) else { break };
        (precision[r], scores[r]) = (point.precision, point.score);
    }
    (precision, scores)
}
