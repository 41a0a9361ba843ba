//! Which ground-truth box each anchor or proposal belongs to.

use anyhow::Result;
use pipe_native::kernels;
use tch::Tensor;

use crate::boxes::iou;

/// Mark of a prediction that belongs to no ground truth: background.
pub const BELOW: i64 = -1;
/// Mark of a prediction too near for background and too far for a match: ignored.
pub const BETWEEN: i64 = -2;

/// Assigns predictions to ground truth by overlap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matcher {
    /// At this quality and above a prediction is matched.
    pub high: f64,
    /// Below this quality it is background.
    pub low: f64,
    /// Give every ground truth its best predictions (ties included), however low their quality.
    pub allow_low_quality: bool,
}

impl Matcher {
    /// As [`Self::matches`], of boxes `[M, 4]` with ground truths `[N, 4]` by their overlap.
    ///
    /// # Errors
    /// The shapes are others, or there is no ground truth.
    pub fn of_boxes(&self, truth: &Tensor, boxes: &Tensor) -> Result<Tensor> {
        match kernels::ready(&[truth, boxes]) {
            true => kernels::matches(truth, boxes, (self.low, self.high), self.allow_low_quality),
            false => self.matches(&iou(truth, boxes)?),
        }
    }

    /// For each of M predictions the index of its ground truth, [`BELOW`] or [`BETWEEN`]: i64 `[M]`, from the qualities
    /// `[N, M]` of N ground truths (N at least 1) with them.
    ///
    /// # Errors
    /// `quality` has not two dimensions, or no row.
    pub fn matches(&self, quality: &Tensor) -> Result<Tensor> {
        let (best, of) = quality.f_max_dim(0, false)?;
        let below = best.f_lt(self.low)?;
        let between = best.f_ge(self.low)?.f_logical_and(&best.f_lt(self.high)?)?;
        let matches = of.f_masked_fill(&below, BELOW)?.f_masked_fill(&between, BETWEEN)?;
        if !self.allow_low_quality {
            return Ok(matches);
        }
        let (best_of_truth, _) = quality.f_max_dim(1, true)?;
        let promoted = quality.f_eq_tensor(&best_of_truth)?.f_any_dim(0, false)?;
        Ok(of.f_where_self(&promoted, &matches)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(allow_low_quality: bool) -> Vec<i64> {
        let quality = Tensor::from_slice2(&[[0.9f32, 0.1, 0.5, 0.2], [0.3, 0.2, 0.4, 0.29]]);
        let matcher = Matcher { high: 0.7, low: 0.3, allow_low_quality };
        matcher.matches(&quality).unwrap().try_into().unwrap()
    }

    #[test]
    fn by_thresholds() {
        assert_eq!(matches(false), [0, BELOW, BETWEEN, BELOW]);
    }

    #[test]
    fn low_quality_promotes_the_best_of_each_truth_to_its_own_best() {
        // The second truth's best prediction is the third, whose own best truth is the first.
        assert_eq!(matches(true), [0, BELOW, 0, BELOW]);
    }
}
