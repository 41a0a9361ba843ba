//! Whether the difference of two results is more than chance: a paired bootstrap over images.

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::dice::Dice;
use crate::eval::{ALL, Marks, RECALLS, State, THRESHOLDS, falling, recall_threshold};
use crate::index::Index;
use crate::parallel::parallel;

/// Two results on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Images of both.
    pub images: usize,
    /// How often images were drawn anew.
    pub resamples: usize,
    /// What the drawing started from.
    pub seed: u64,
    /// Average precision over IoU 0.50 … 0.95.
    #[serde(rename = "AP")]
    pub ap: Difference,
    /// Average precision at IoU 0.50.
    #[serde(rename = "AP50")]
    pub ap50: Difference,
}

/// One number of two results.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Of the first.
    pub first: f64,
    /// Of the second.
    pub second: f64,
    /// The first less the second.
    pub difference: f64,
    /// Where 95 % of the resamples' differences lie: their 2.5th and 97.5th percentile, interpolated as by `numpy.quantile`.
    pub interval: [f64; 2],
    /// Share of the resamples in which the first is higher.
    pub first_higher: f64,
}

/// Compares two evaluations of the same images with the same annotations.
///
/// In each of `resamples` as many images are drawn as there are, with replacement and the same for both, and average precision is
/// computed anew of what was drawn, an image drawn twice counting twice (the percentile bootstrap, Efron & Tibshirani 1993, chapter 13). A
/// class whose objects are in none of the images drawn is left out of that mean.
///
/// # Errors
/// Evaluations of different kinds or images; no image, or none with an object.
pub fn compare(truth: &Index, first: &State, second: &State, resamples: usize, seed: u64) -> Result<Comparison> {
    ensure!(first.iou == second.iou, "`{}` cannot be compared with `{}`", first.iou.name(), second.iou.name());
    ensure!(first.images.keys().eq(second.images.keys()), "the two were evaluated on different images");
    let images = first.images.len();
    let both = [first, second].map(|state| Resampled::new(truth, state));
    let once = vec![1; images];
    let whole = both.each_ref().map(|one| one.average(&once));
    ensure!(!whole[0][0].is_nan(), "there are no objects in the {images} images");
    let numbers: Vec<u64> = (0..resamples as u64).collect();
    let drawn: Vec<[[f64; 2]; 2]> = parallel(&numbers, |&number| {
        let mut dice = Dice::new(seed, number);
        let mut weights = vec![0u32; images];
        (0..images).for_each(|_| weights[dice.below(images)] += 1);
        both.each_ref().map(|one| one.average(&weights))
    });
    let difference = |at: usize| {
        let differences = drawn.iter().map(|[first, second]| first[at] - second[at]);
        let mut differences: Vec<f64> = differences.filter(|difference| !difference.is_nan()).collect();
        differences.sort_by(f64::total_cmp);
        let higher = differences.iter().filter(|difference| **difference > 0.0).count();
        Difference {
            first: whole[0][at],
            second: whole[1][at],
            difference: whole[0][at] - whole[1][at],
            interval: [0.025, 0.975].map(|share| quantile(&differences, share)),
            first_higher: higher as f64 / differences.len().max(1) as f64,
        }
    };
    Ok(Comparison { images, resamples, seed, ap: difference(0), ap50: difference(1) })
}

/// The number below which a share of the sorted `values` lies, between two of them in proportion.
fn quantile(values: &[f64], share: f64) -> f64 {
    let Some(last) = values.len().checked_sub(1) else { return f64::NAN };
    let at = last as f64 * share;
    let (low, rest) = (at.floor() as usize, at.fract());
    values[low] + (values[(low + 1).min(last)] - values[low]) * rest
}

/// An evaluation whose images can be weighted.
struct Resampled {
    classes: Vec<Class>,
}

/// One category.
#[derive(Default)]
struct Class {
    /// Images that have objects of it, by their order, and how many.
    truths: Vec<(u32, u32)>,
    /// Detections that count at some threshold, in falling order of their scores: the image, and bits of the thresholds.
    found: Vec<Found>,
}

#[derive(Clone, Copy)]
struct Found {
    image: u32,
    right: u16,
    wrong: u16,
}

impl Resampled {
    fn new(truth: &Index, state: &State) -> Self {
        let ids: Vec<u32> = truth.categories().iter().map(|category| category.id).collect();
        let mut classes: Vec<Class> = ids.iter().map(|_| Class::default()).collect();
        let mut all: Vec<Vec<(f64, Found)>> = vec![Vec::new(); ids.len()];
        for (image, matches) in state.images.values().enumerate() {
            let image = image as u32;
            for class in &matches.classes {
                let Ok(k) = ids.binary_search(&class.category_id) else { continue };
                if class.truths[0] > 0 {
                    classes[k].truths.push((image, class.truths[0]));
                }
                let found = class.scores.iter().zip(&class.marks).map(|(&score, marks)| {
                    let Marks { matched, ignored } = marks[0];
                    (score, Found { image, right: matched & !ignored, wrong: !matched & !ignored & ALL })
                });
                all[k].extend(found.filter(|(_, found)| (found.right | found.wrong) != 0));
            }
        }
        for (class, mut all) in classes.iter_mut().zip(all) {
            all.sort_by(|a, b| falling(a.0, b.0));
            // Behind the last right one nothing changes a precision.
            let end = all.iter().rposition(|(_, found)| found.right != 0).map_or(0, |last| last + 1);
            class.found = all[..end].iter().map(|(_, found)| *found).collect();
        }
        Self { classes }
    }

    /// AP and AP50 where each image counts as often as its weight says; NaN where no object is left.
    fn average(&self, weights: &[u32]) -> [f64; 2] {
        let mut points = Points::default();
        let (mut sums, mut classes) = ([0.0; 2], 0u32);
        for class in &self.classes {
            let truths = class.truths.iter().map(|(image, truths)| weights[*image as usize] * truths).sum();
            if truths > 0 {
                let each = class.average(weights, truths, &mut points);
                sums[0] += each.iter().sum::<f64>() / THRESHOLDS as f64;
                sums[1] += each[0];
                classes += 1;
            }
        }
        sums.map(|sum| sum / f64::from(classes))
    }
}

/// What stays allocated from class to class: of each threshold's curve the objects found so far and the precision.
#[derive(Default)]
struct Points([Vec<(u32, f64)>; THRESHOLDS]);

impl Class {
    /// Average precision at each threshold. Several of one detection are one step of the curve: its last point has the highest precision.
    fn average(&self, weights: &[u32], truths: u32, points: &mut Points) -> [f64; THRESHOLDS] {
        points.0.iter_mut().for_each(Vec::clear);
        let (mut always, mut wrong, mut right) = (0u32, [0u32; THRESHOLDS], [0u32; THRESHOLDS]);
        for found in &self.found {
            let weight = weights[found.image as usize];
            if found.wrong == ALL {
                always += weight;
                continue;
            }
            if weight == 0 {
                continue;
            }
            for (threshold, points) in points.0.iter_mut().enumerate() {
                wrong[threshold] += weight * u32::from(found.wrong >> threshold & 1);
                if found.right >> threshold & 1 == 1 {
                    right[threshold] += weight;
                    let (found, wrong) = (f64::from(right[threshold]), f64::from(always + wrong[threshold]));
                    points.push((right[threshold], found / (wrong + found + f64::EPSILON)));
                }
            }
        }
        let needed: [u32; RECALLS] = std::array::from_fn(|r| needed(recall_threshold(r), truths));
        points.0.each_ref().map(|points| area(points, &needed))
    }
}

/// The least number of objects of which the recall is no less than a threshold.
fn needed(recall: f64, truths: u32) -> u32 {
    let enough = |count: u32| f64::from(count) / f64::from(truths) >= recall;
    let about = (recall * f64::from(truths)).round() as u32;
    (about.saturating_sub(1)..=about + 1).find(|count| enough(*count)).unwrap_or(truths)
}

/// The mean over the recall thresholds of the highest precision at that recall or more.
fn area(points: &[(u32, f64)], needed: &[u32; RECALLS]) -> f64 {
    let reached = points.last().map_or(0, |(count, _)| *count);
    let (mut highest, mut sum) = (0.0f64, 0.0);
    let mut left = needed.partition_point(|count| *count <= reached);
    for (i, (_, precision)) in points.iter().enumerate().rev() {
        highest = highest.max(*precision);
        let before = i.checked_sub(1).map(|i| points[i].0);
        while left > 0 && before.is_none_or(|before| needed[left - 1] > before) {
            sum += highest;
            left -= 1;
        }
    }
    sum / RECALLS as f64
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::eval::{Detection, Evaluator, IouType};
    use crate::index::LoadOptions;

    /// Images with objects of two categories and detections near them, each as often as its weight says.
    fn evaluated(seed: u64, weights: &[u32]) -> (Arc<Index>, Evaluator) {
        let (mut images, mut annotations, mut detections) = (Vec::new(), Vec::new(), Vec::new());
        for (i, &weight) in weights.iter().enumerate() {
            for again in 0..weight {
                let id = 10 * i as i64 + i64::from(again);
                // The same again.
                let mut dice = Dice::new(seed, i as u64);
                images.push(json!({"id": id, "width": 100, "height": 100, "file_name": id.to_string()}));
                let mut found = Vec::new();
                for _ in 0..1 + dice.below(5) {
                    let bbox = [dice.between(0.0, 60.0), dice.between(0.0, 60.0), dice.between(5.0, 40.0), 20.0];
                    let category_id = 1 + dice.below(2) as u32;
                    annotations.push(json!({
                        "id": annotations.len() + 1, "image_id": id, "category_id": category_id, "bbox": bbox,
                        "area": bbox[2] * bbox[3], "iscrowd": u8::from(dice.chance(0.1)),
                    }));
                    for _ in 0..dice.below(4) {
                        let bbox = bbox.map(|side| side + dice.between(-4.0, 4.0));
                        found.push(Detection { category_id, bbox, score: dice.unit(), ..Detection::default() });
                    }
                }
                detections.push((id, found));
            }
        }
        let categories = [1, 2].map(|id| json!({"id": id, "name": id.to_string()}));
        let text = json!({"images": images, "annotations": annotations, "categories": categories}).to_string();
        let truth = Arc::new(Index::read(Cursor::new(text), "drawn", &LoadOptions::default()).unwrap());
        let mut evaluator = Evaluator::new(&truth, IouType::Bbox);
        evaluator.add_all(detections).unwrap();
        (truth, evaluator)
    }

    #[test]
    fn an_image_drawn_twice_counts_as_two_images() {
        for seed in 0..20 {
            let weights: Vec<u32> = (0..30).map(|i| (i * 7 + seed as u32) % 4).collect();
            let (truth, once) = evaluated(seed, &[1; 30]);
            let (_, drawn) = evaluated(seed, &weights);
            let ours = Resampled::new(&truth, once.state()).average(&weights);
            let stats = drawn.finish().stats;
            assert!(stats[0] > 0.1, "{stats:?}");
            assert!((ours[0] - stats[0]).abs() < 1e-12 && (ours[1] - stats[1]).abs() < 1e-12, "{ours:?} {stats:?}");
        }
    }

    #[test]
    fn quantiles_lie_between_values() {
        let values = [1.0, 2.0, 4.0, 8.0];
        // numpy.quantile([1, 2, 4, 8], [0, 0.025, 0.5, 0.975, 1])
        let expected = [1.0, 1.075, 3.0, 7.7, 8.0];
        for (share, expected) in [0.0, 0.025, 0.5, 0.975, 1.0].into_iter().zip(expected) {
            assert!((quantile(&values, share) - expected).abs() < 1e-12, "{share}");
        }
    }

    #[test]
    fn recall_needs_whole_objects() {
        for truths in 1..2000 {
            for recall in (0..RECALLS).map(recall_threshold) {
                let needed = needed(recall, truths);
                let reached = |count: u32| f64::from(count) / f64::from(truths) >= recall;
                assert!(reached(needed) && (needed == 0 || !reached(needed - 1)), "{needed} of {truths} for {recall}");
            }
        }
    }
}
