//! The part of a Keypoint R-CNN that finds keypoints.

use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

use super::keypoint_head::{KeypointHead, KeypointPredictor};
use super::pooler::{MultiScaleRoiAlign, with_spare_rows};
use super::samples::{Foreground, IGNORED};
use crate::boxes::at_least_float;
use crate::types::{Detections, Target};
use crate::{ImageSize, divisors, keypoints, terms};

/// The part that finds keypoints.
#[derive(Debug)]
pub struct KeypointBranch {
    /// Features of the boxes.
    pub pooler: MultiScaleRoiAlign,
    /// `keypoint_head`.
    pub head: KeypointHead,
    /// `keypoint_predictor`.
    pub predictor: KeypointPredictor,
}

impl KeypointBranch {
    /// Heatmaps `[B, K, S, S]` for the boxes of all images, at least in single precision.
    fn logits(&self, maps: &[Tensor], boxes: &[Tensor], sizes: &[ImageSize], train: bool) -> Result<Tensor> {
        let features = self.pooler.forward(maps, boxes, sizes)?;
        let maps = self.predictor.forward(&self.head.forward(&with_spare_rows(&features)?, train)?)?;
        at_least_float(&maps.f_narrow(0, 0, features.size()[0])?)
    }

    /// The loss of the keypoints of the foreground proposals: `keypointrcnn_loss`, the cross entropy of each heatmap as one choice of a place.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    pub fn loss(
        &self,
        (maps, train): (&[Tensor], bool),
        sizes: &[ImageSize],
        foreground: &Foreground,
        targets: &[Target],
    ) -> Result<Tensor> {
        let Foreground { boxes, matched, .. } = foreground;
        let logits = self.logits(maps, boxes, sizes, train)?;
        let (count, points, side, _) = logits.size4()?;
        if count == 0 {
            // Zero, but connected: every parameter still gets a gradient.
            return Ok(logits.f_sum(None)? * 0.0);
        }
        let mut wanted = Vec::new();
        for ((boxes, matched), target) in boxes.iter().zip(matched).zip(targets) {
            if let Some(truth) = target.keypoints.as_ref().filter(|_| boxes.size()[0] > 0) {
                let (place, valid) = keypoints::to_heatmap(&truth.f_index_select(0, matched)?, boxes, side)?;
                wanted.push(place.f_masked_fill(&valid.f_logical_not()?, IGNORED)?);
            }
        }
        let wanted = Tensor::f_cat(&wanted, 0)?.f_flatten(0, -1)?;
        let logits = logits.f_view([count * points, side * side])?;
        let sum = logits.f_cross_entropy_loss::<Tensor>(&wanted, None, Reduction::Sum, IGNORED, 0.0)?;
        // The mean over those that count, of which there may be none; how many, only the device knows.
        let valid = wanted.f_ne(IGNORED)?.f_sum(logits.kind())?;
        divisors::tell(&["loss_keypoint"], 1.0, || Ok(valid.shallow_clone()))?;
        let valid = valid.f_clamp_min(1)?;
        terms::tell("loss_keypoint", || {
            let each = logits.f_cross_entropy_loss::<Tensor>(&wanted, None, Reduction::None, IGNORED, 0.0)?;
            let each = each.f_view([count, points])?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
            Ok((each / &valid, terms::of_objects(matched)?))
        })?;
        Ok(sum / valid)
    }

    /// Adds the keypoints `[N, K, 3]` of each detection and their scores.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    pub fn add_to(&self, found: &mut [Detections], maps: &[Tensor], sizes: &[ImageSize]) -> Result<()> {
        let boxes: Vec<_> = found.iter().map(|found| found.boxes.shallow_clone()).collect();
        let counts: Vec<_> = boxes.iter().map(|boxes| boxes.size()[0]).collect();
        let logits = self.logits(maps, &boxes, sizes, false)?;
        let (points, scores) = keypoints::from_heatmaps(&logits, &Tensor::f_cat(&boxes, 0)?)?;
        let split = |all: Tensor| all.f_split_with_sizes(&counts, 0);
        for (found, (points, scores)) in found.iter_mut().zip(split(points)?.into_iter().zip(split(scores)?)) {
            (found.keypoints, found.keypoints_scores) = (Some(points), Some(scores));
        }
        Ok(())
    }
}
