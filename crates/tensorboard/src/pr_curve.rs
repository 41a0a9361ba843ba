//! Precision and recall over thresholds, for the PR CURVES page.

use anyhow::{Result, ensure};

use super::proto::Message;
use super::summary::{DATA_CLASS_TENSOR, DT_FLOAT, plugin_metadata};

/// Keeps a division by an empty count at zero (the constant of TensorBoard's own `pr_curve` summary).
const MINIMUM_COUNT: f64 = 1e-7;

/// Counts at `T` ascending thresholds `t / (T - 1)`, and what follows from them; every row is `[T]`.
pub(super) struct PrCurve([Vec<f64>; 6]);

impl PrCurve {
    /// The curve of the positives and negatives scored at or above each threshold, of `positives` in all. Of a detector those are the right
    /// and wrong detections, and the objects.
    ///
    /// # Errors
    /// Counts of different lengths, fewer than two thresholds, more true positives than positives.
    pub fn new(true_positives: &[u32], false_positives: &[u32], positives: u32) -> Result<Self> {
        let thresholds = true_positives.len();
        ensure!(
            thresholds >= 2 && false_positives.len() == thresholds,
            "a PR curve needs two thresholds or more and the same of both counts, got {thresholds} and {}",
            false_positives.len()
        );
        let most = true_positives.iter().max().copied().unwrap_or(0);
        ensure!(most <= positives, "a PR curve of {positives} positives has {most} true ones");
        let [tp, fp] =
            [true_positives, false_positives].map(|row| row.iter().copied().map(f64::from).collect::<Vec<_>>());
        let below = |counts: &[f64], all: f64| counts.iter().map(|count| all - count).collect::<Vec<_>>();
        let ratio =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a / (a + b).max(MINIMUM_COUNT)).collect::<Vec<_>>();
        let (tn, fn_) = (below(&fp, fp[0]), below(&tp, positives.into()));
        let (precision, recall) = (ratio(&tp, &fp), ratio(&tp, &fn_));
        Ok(Self([tp, fp, tn, fn_, precision, recall]))
    }

    /// The summary, a float tensor `[6, T]`.
    pub fn summary(&self, tag: &str) -> Message {
        let thresholds = self.0[0].len();
        let content = Message::new().int(1, 0).int(2, thresholds as i64);
        let metadata = plugin_metadata("pr_curves", content, Some(DATA_CLASS_TENSOR));
        let dim = |size: usize| Message::new().int(1, size as i64);
        let shape = Message::new().message(2, &dim(self.0.len())).message(2, &dim(thresholds));
        let numbers: Vec<f32> = self.0.iter().flatten().map(|&number| number as f32).collect();
        let tensor = Message::new().int(1, DT_FLOAT).message(2, &shape).floats(5, &numbers);
        Message::new().string(1, tag).message(9, &metadata).message(8, &tensor)
    }
}

#[cfg(test)]
mod tests {
    use super::PrCurve;

    #[test]
    fn rows_equal_torchs() {
        let cases: serde_json::Value =
            serde_json::from_str(include_str!("../../../tests/parity/tensorboard/pr_curves.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let thresholds = case["thresholds"].as_u64().unwrap() as usize;
            let numbers =
                |key: &str| case[key].as_array().unwrap().iter().map(|n| n.as_f64().unwrap_or(0.0)).collect::<Vec<_>>();
            let labels: Vec<bool> = case["labels"].as_array().unwrap().iter().map(|l| l.as_bool().unwrap()).collect();
            let (mut right, mut wrong) = (vec![0u32; thresholds], vec![0u32; thresholds]);
            for (label, score) in labels.iter().zip(numbers("scores")) {
                let bucket = (score as f32 * (thresholds - 1) as f32).floor() as usize;
                let side = if *label { &mut right } else { &mut wrong };
                side[..=bucket].iter_mut().for_each(|count| *count += 1);
            }
            let positives = labels.iter().filter(|label| **label).count() as u32;
            let ours = PrCurve::new(&right, &wrong, positives).unwrap();
            for (row, expected) in ours.0.iter().zip(case["rows"].as_array().unwrap()) {
                for (ours, torchs) in row.iter().zip(expected.as_array().unwrap()) {
                    assert!((ours - torchs.as_f64().unwrap()).abs() < 1e-12, "{ours} {torchs}");
                }
                assert_eq!(row.len(), thresholds);
            }
        }
    }

    #[test]
    fn odd_counts_are_refused_with_a_reason() {
        let refused = |tp: &[u32], fp: &[u32]| PrCurve::new(tp, fp, 1).err().unwrap().to_string();
        assert!(refused(&[1], &[0]).contains("two thresholds"));
        assert!(refused(&[1, 0], &[0]).contains("got 2 and 1"));
        assert!(refused(&[2, 0], &[0, 0]).contains("1 positives has 2"));
    }
}
