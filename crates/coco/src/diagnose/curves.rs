//! Precision, recall and F1 over confidence.

use serde::Serialize;

use super::lines::{Found, Line};
use crate::eval::falling;

/// Thresholds of a curve.
const POINTS: usize = 101;
/// Differences of F1 below it are those of adding in another order.
const SAME: f64 = 1e-12;

/// Precision, recall and F1 of the detections whose confidence, the score, is a threshold or more, at IoU 0.5.
///
/// Precision is TP / (TP + FP), recall TP / objects, F1 2 TP / (2 TP + FP + FN) with the matches of `COCOeval`, in which a
/// detection on a crowd counts neither way and 100 of an image and category at most. Unlike the curves of average precision they
/// are not made to fall.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curves {
    /// `[101]` thresholds, evenly spaced from 0 to 1, or to the lowest and highest score beyond.
    pub confidence: Vec<f64>,
    /// `[101]`: means over the classes that have objects; precision over those that also have a detection there.
    pub precision: Vec<Option<f64>>,
    /// `[101]`.
    pub recall: Vec<f64>,
    /// `[101]`.
    pub f1: Vec<f64>,
    /// The one threshold for all classes with the highest mean F1, as Ultralytics chooses it; none where nothing is found.
    pub best: Option<Best>,
    /// Every category, in order of the ids.
    pub classes: Vec<ClassCurve>,
}

/// What a threshold gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Best {
    /// The threshold, a detection's score: detections with it or more are kept. The highest one of equal F1.
    pub confidence: f64,
    /// Of what is kept the share that is right; over several classes the mean of those of which something is kept.
    pub precision: f64,
    /// Of the objects the share that is found; over several classes the mean.
    pub recall: f64,
    /// The harmonic mean of the two; over several classes the mean of theirs.
    pub f1: f64,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassCurve {
    /// The category's id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Objects to be found.
    pub objects: u32,
    /// `[101]` true positives with each confidence or more.
    pub true_positives: Vec<u32>,
    /// `[101]` false positives.
    pub false_positives: Vec<u32>,
    /// `[101]`; none where nothing is kept.
    pub precision: Vec<Option<f64>>,
    /// `[101]`; none without objects.
    pub recall: Vec<Option<f64>>,
    /// `[101]`.
    pub f1: Vec<f64>,
    /// Its own best threshold; none where nothing is found.
    pub best: Option<Best>,
}

/// Right and wrong detections so far.
#[derive(Clone, Copy, Default)]
struct Counts {
    right: u32,
    wrong: u32,
}

impl Counts {
    fn add(&mut self, found: &Found) {
        self.right += u32::from(found.right);
        self.wrong += u32::from(found.wrong());
    }

    fn precision(self) -> Option<f64> {
        let kept = self.right + self.wrong;
        (kept > 0).then(|| f64::from(self.right) / f64::from(kept))
    }

    fn recall(self, truths: u32) -> f64 {
        if truths == 0 { 0.0 } else { f64::from(self.right) / f64::from(truths) }
    }

    fn f1(self, truths: u32) -> f64 {
        let all = f64::from(self.right + self.wrong) + f64::from(truths);
        if all == 0.0 { 0.0 } else { 2.0 * f64::from(self.right) / all }
    }

    fn best(self, confidence: f64, truths: u32) -> Best {
        let precision = self.precision().unwrap_or(0.0);
        Best { confidence, precision, recall: self.recall(truths), f1: self.f1(truths) }
    }
}

pub(super) fn curves(lines: &[Line], names: &[String]) -> Curves {
    let scores = || lines.iter().flat_map(|line| line.found.first().into_iter().chain(line.found.last()));
    let low = scores().fold(0.0f64, |low, found| low.min(found.score));
    let high = scores().fold(1.0f64, |high, found| high.max(found.score));
    let last = (POINTS - 1) as f64;
    // 0.01, 0.02, … as one would write them.
    let confidence: Vec<f64> = (0..POINTS).map(|i| low + (high - low) * (i as f64 / last)).collect();
    let classes: Vec<ClassCurve> =
        lines.iter().zip(names).map(|(line, name)| class_curve(line, name, &confidence)).collect();
    let present: Vec<&ClassCurve> = classes.iter().filter(|class| class.objects > 0).collect();
    let at =
        |i: usize, of: fn(&ClassCurve, usize) -> Option<f64>| mean(present.iter().filter_map(|class| of(class, i)));
    let all = |of: fn(&ClassCurve, usize) -> Option<f64>| (0..POINTS).map(move |i| at(i, of));
    Curves {
        precision: all(|class, i| class.precision[i]).collect(),
        recall: all(|class, i| class.recall[i]).map(|mean| mean.unwrap_or(0.0)).collect(),
        f1: all(|class, i| Some(class.f1[i])).map(|mean| mean.unwrap_or(0.0)).collect(),
        best: best_of_all(lines),
        confidence,
        classes,
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn class_curve(line: &Line, name: &str, confidence: &[f64]) -> ClassCurve {
    let mut at = vec![Counts::default(); confidence.len()];
    let (mut counts, mut best, mut next) = (Counts::default(), None::<Best>, 0);
    for (i, threshold) in confidence.iter().enumerate().rev() {
        while let Some(found) = line.found.get(next).filter(|found| found.score >= *threshold) {
            counts.add(found);
            next += 1;
        }
        at[i] = counts;
    }
    let mut counts = Counts::default();
    for (i, found) in line.found.iter().enumerate() {
        counts.add(found);
        // Equal scores are kept or left together.
        let last = line.found.get(i + 1).is_none_or(|next| next.score < found.score);
        if last && line.truths > 0 && counts.f1(line.truths) > best.map_or(0.0, |best| best.f1 + SAME) {
            best = Some(counts.best(found.score, line.truths));
        }
    }
    ClassCurve {
        id: line.id,
        name: name.to_owned(),
        objects: line.truths,
        true_positives: at.iter().map(|counts| counts.right).collect(),
        false_positives: at.iter().map(|counts| counts.wrong).collect(),
        precision: at.iter().map(|counts| counts.precision()).collect(),
        recall: at.iter().map(|counts| (line.truths > 0).then(|| counts.recall(line.truths))).collect(),
        f1: at.iter().map(|counts| counts.f1(line.truths)).collect(),
        best,
    }
}

/// The threshold with the highest mean F1 over the classes that have objects.
fn best_of_all(lines: &[Line]) -> Option<Best> {
    let lines: Vec<&Line> = lines.iter().filter(|line| line.truths > 0).collect();
    let mut all: Vec<(usize, &Found)> =
        lines.iter().enumerate().flat_map(|(k, line)| line.found.iter().map(move |found| (k, found))).collect();
    all.sort_by(|a, b| falling(a.1.score, b.1.score));
    let mut counts = vec![Counts::default(); lines.len()];
    let (mut sum, mut best) = (0.0, None::<(f64, f64)>);
    for (i, &(k, found)) in all.iter().enumerate() {
        let before = counts[k].f1(lines[k].truths);
        counts[k].add(found);
        sum += counts[k].f1(lines[k].truths) - before;
        let last = all.get(i + 1).is_none_or(|next| next.1.score < found.score);
        if last && sum > best.map_or(0.0, |(best, _)| best) + SAME {
            best = Some((sum, found.score));
        }
    }
    let (_, confidence) = best?;
    let kept = |line: &&Line| {
        let mut counts = Counts::default();
        line.found.iter().take_while(|found| found.score >= confidence).for_each(|found| counts.add(found));
        (counts, line.truths)
    };
    let each: Vec<(Counts, u32)> = lines.iter().map(kept).collect();
    let of = |value: fn(Counts, u32) -> Option<f64>| {
        mean(each.iter().filter_map(|&(counts, truths)| value(counts, truths))).unwrap_or(0.0)
    };
    Some(Best {
        confidence,
        precision: of(|counts, _| counts.precision()),
        recall: of(|counts, truths| Some(counts.recall(truths))),
        f1: of(|counts, truths| Some(counts.f1(truths))),
    })
}
