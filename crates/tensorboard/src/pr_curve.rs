//! Precision and recall over thresholds, for the PR CURVES page.

use anyhow::{Result, ensure};

/// Confusion counts, precision and recall at `T` ascending thresholds `t / (T - 1)`; every vector is `[T]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PrCurve {
    /// Positives scored at or above each threshold.
    pub true_positives: Vec<f64>,
    /// Negatives scored at or above each threshold.
    pub false_positives: Vec<f64>,
    /// Negatives scored below each threshold.
    pub true_negatives: Vec<f64>,
    /// Positives scored below each threshold.
    pub false_negatives: Vec<f64>,
    /// `TP / (TP + FP)`, 0 where nothing is scored above the threshold.
    pub precision: Vec<f64>,
    /// `TP / (TP + FN)`, 0 where there are no positives.
    pub recall: Vec<f64>,
}

/// Keeps a division by an empty count at zero (the constant of TensorBoard's own `pr_curve` summary).
const MINIMUM_COUNT: f64 = 1e-7;

impl PrCurve {
    /// The curve of binary `labels` `[N]` and `scores` `[N]` in `[0, 1]` at `thresholds` evenly spaced thresholds, as
    /// `SummaryWriter.add_pr_curve` computes it (which is limited to 127 of them; this is not).
    ///
    /// # Errors
    /// Lengths that differ, fewer than two thresholds, or a score outside `[0, 1]`.
    pub fn from_scores(labels: &[bool], scores: &[f32], thresholds: usize) -> Result<Self> {
        ensure!(
            labels.len() == scores.len(),
            "a PR curve needs one score per label, got {} labels and {} scores",
            labels.len(),
            scores.len()
        );
        ensure!(thresholds >= 2, "a PR curve needs at least 2 thresholds, got {thresholds}");
        let mut positives = vec![0.0; thresholds];
        let mut negatives = vec![0.0; thresholds];
        for (index, (&label, &score)) in labels.iter().zip(scores).enumerate() {
            ensure!(
                (0.0..=1.0).contains(&score),
                "a PR curve needs scores in [0, 1], got {score} at index {index}: apply a sigmoid or softmax first"
            );
            let bucket = (score * (thresholds - 1) as f32).floor() as usize;
            let side = if label { &mut positives } else { &mut negatives };
            side[bucket.min(thresholds - 1)] += 1.0;
        }
        Ok(Self::from_counts(at_or_above(&positives), at_or_above(&negatives)))
    }

    /// The curve from the positives and negatives counted at or above each threshold; the first entries are the totals.
    fn from_counts(tp: Vec<f64>, fp: Vec<f64>) -> Self {
        let below = |counts: &[f64]| counts.iter().map(|count| counts[0] - count).collect::<Vec<_>>();
        let ratio =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a / (a + b).max(MINIMUM_COUNT)).collect::<Vec<_>>();
        let (tn, fn_) = (below(&fp), below(&tp));
        let (precision, recall) = (ratio(&tp, &fp), ratio(&tp, &fn_));
        Self { true_positives: tp, false_positives: fp, true_negatives: tn, false_negatives: fn_, precision, recall }
    }

    /// The number of thresholds `T`.
    ///
    /// # Errors
    /// Vectors of different lengths, or empty ones.
    pub fn thresholds(&self) -> Result<usize> {
        let lengths = self.rows().map(Vec::len);
        ensure!(
            lengths[0] > 0 && lengths.iter().all(|&length| length == lengths[0]),
            "a PR curve needs six rows of one length, got lengths {lengths:?}"
        );
        Ok(lengths[0])
    }

    /// The rows in the order in which the plugin's tensor `[6, T]` has them.
    pub(super) fn rows(&self) -> [&Vec<f64>; 6] {
        [
            &self.true_positives,
            &self.false_positives,
            &self.true_negatives,
            &self.false_negatives,
            &self.precision,
            &self.recall,
        ]
    }
}

/// The sum of each entry and all after it.
fn at_or_above(buckets: &[f64]) -> Vec<f64> {
    let mut total = 0.0;
    let mut sums: Vec<f64> = buckets
        .iter()
        .rev()
        .map(|count| {
            total += count;
            total
        })
        .collect();
    sums.reverse();
    sums
}

#[cfg(test)]
mod tests {
    use super::PrCurve;

    #[test]
    fn counts_by_hand() {
        // Thresholds 0, 0.5, 1; the score 0.5 counts at its own threshold.
        let curve = PrCurve::from_scores(&[true, true, false, false], &[1.0, 0.4, 0.5, 0.1], 3).unwrap();
        assert_eq!(curve.true_positives, [2.0, 1.0, 1.0]);
        assert_eq!(curve.false_positives, [2.0, 1.0, 0.0]);
        assert_eq!(curve.true_negatives, [0.0, 1.0, 2.0]);
        assert_eq!(curve.false_negatives, [0.0, 1.0, 1.0]);
        assert_eq!(curve.precision, [0.5, 0.5, 1.0]);
        assert_eq!(curve.recall, [1.0, 0.5, 0.5]);
    }

    #[test]
    fn bad_input_is_refused_with_a_reason() {
        let refused = |labels: &[bool], scores: &[f32], thresholds| {
            PrCurve::from_scores(labels, scores, thresholds).unwrap_err().to_string()
        };
        assert!(refused(&[true], &[], 10).contains("1 labels and 0 scores"));
        assert!(refused(&[true], &[0.5], 1).contains("at least 2"));
        assert!(refused(&[true, true], &[0.5, 1.5], 10).contains("got 1.5 at index 1"));
        assert!(refused(&[true], &[f32::NAN], 10).contains("NaN"));
        let empty = PrCurve::from_scores(&[], &[], 5).unwrap();
        assert_eq!(empty.precision, [0.0; 5]);
        assert!(PrCurve::default().thresholds().is_err());
    }
}
