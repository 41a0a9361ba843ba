//! The part of a Mask R-CNN that predicts masks.

use anyhow::Result;
use tch::{Kind, Reduction, Tensor};

use super::mask_head::{MaskHead, MaskPredictor};
use super::pooler::{MultiScaleRoiAlign, with_spare_rows};
use super::samples::Foreground;
use crate::boxes::at_least_float;
use crate::types::{Detections, Target};
use crate::{ImageSize, divisors, masks, terms};

/// The part that predicts masks.
#[derive(Debug)]
pub struct MaskBranch {
    /// Features of the boxes.
    pub pooler: MultiScaleRoiAlign,
    /// `mask_head`.
    pub head: MaskHead,
    /// `mask_predictor`.
    pub predictor: MaskPredictor,
}

impl MaskBranch {
    /// `[K, 1, S, S]` for the boxes of all images, each of its label's class.
    fn logits(
        &self,
        maps: &[Tensor],
        boxes: &[Tensor],
        labels: &[Tensor],
        sizes: &[ImageSize],
        train: bool,
    ) -> Result<Tensor> {
        let features = self.pooler.forward(maps, boxes, sizes)?;
        let (count, labels) = (features.size()[0], Tensor::f_cat(labels, 0)?);
        let features = self.head.forward(&with_spare_rows(&features)?, train)?;
        let labels = labels.f_constant_pad_nd([0, features.size()[0] - count])?;
        Ok(self.predictor.forward(&features, &labels)?.f_narrow(0, 0, count)?)
    }

    /// The loss of the masks of the foreground proposals: `maskrcnn_loss`.
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
        let Foreground { boxes, labels, matched, .. } = foreground;
        let logits = self.logits(maps, boxes, labels, sizes, train)?;
        let (count, _, side, _) = logits.size4()?;
        if count == 0 {
            // Zero, but connected: every parameter still gets a gradient.
            return Ok(logits.f_sum(None)? * 0.0);
        }
        let mut wanted = Vec::new();
        for ((boxes, matched), target) in boxes.iter().zip(matched).zip(targets) {
            if let Some(truth) = target.masks.as_ref().filter(|_| boxes.size()[0] > 0) {
                wanted.push(masks::project(truth, boxes, matched, side)?);
            }
        }
        let (logits, wanted) = (at_least_float(&logits.f_squeeze_dim(1)?)?, Tensor::f_cat(&wanted, 0)?);
        divisors::tell_count(&["loss_mask"], count)?;
        terms::tell("loss_mask", || {
            let each = logits.f_binary_cross_entropy_with_logits::<Tensor>(&wanted, None, None, Reduction::None)?;
            let each = each.f_mean_dim([1i64, 2].as_slice(), false, Kind::Float)? / count as f64;
            Ok((each, terms::of_objects(matched)?))
        })?;
        Ok(logits.f_binary_cross_entropy_with_logits::<Tensor>(&wanted, None, None, Reduction::Mean)?)
    }

    /// Adds the mask probabilities `[N, 1, 28, 28]` of each detection's class.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    pub fn add_to(&self, found: &mut [Detections], maps: &[Tensor], sizes: &[ImageSize]) -> Result<()> {
        let boxes: Vec<_> = found.iter().map(|found| found.boxes.shallow_clone()).collect();
        let labels: Vec<_> = found.iter().map(|found| found.labels.shallow_clone()).collect();
        let counts: Vec<_> = boxes.iter().map(|boxes| boxes.size()[0]).collect();
        let probabilities = at_least_float(&self.logits(maps, &boxes, &labels, sizes, false)?)?.f_sigmoid()?;
        for (found, masks) in found.iter_mut().zip(probabilities.f_split_with_sizes(&counts, 0)?) {
            found.masks = Some(masks);
        }
        Ok(())
    }
}
