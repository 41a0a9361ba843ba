//! From proposals to detections, or to losses: torchvision's `RoIHeads`.

use std::cell::Cell;

use anyhow::Result;
use pipe_native::profile::range;
use tch::{Kind, Reduction, Tensor};

use super::box_head::{BoxHead, BoxPredictor};
use super::keypoint_branch::KeypointBranch;
use super::mask_branch::MaskBranch;
use super::options::RcnnOptions;
use super::pooler::MultiScaleRoiAlign;
use super::rpn::SMOOTH_L1_BETA;
use super::samples::{self, Foreground, IGNORED, Samples, truth_of};
use crate::boxes::{at_least_float, clip_each, indices, large_enough, sizes_on};
use crate::coder::BoxCoder;
use crate::matcher::Matcher;
use crate::nn::Scope;
use crate::sampler::BalancedSampler;
use crate::suppress::Candidates;
use crate::types::{Detections, Target};
use crate::{ImageSize, divisors, terms};

/// Sides shorter than this, in pixels, make no detection.
const MIN_SIZE: f64 = 1e-2;

/// The heads on the proposals.
#[derive(Debug)]
pub struct RoiHeads {
    pooler: MultiScaleRoiAlign,
    head: BoxHead,
    predictor: BoxPredictor,
    /// Of a Mask R-CNN.
    mask: Option<MaskBranch>,
    /// Of a Keypoint R-CNN.
    keypoints: Option<KeypointBranch>,
    coder: BoxCoder,
    matcher: Matcher,
    sampler: BalancedSampler,
    score_thresh: f64,
    nms_thresh: f64,
    detections_per_img: i64,
    /// Whether the heads learn from as much foreground as they can.
    largest: Cell<bool>,
}

impl RoiHeads {
    /// Puts the heads together, which were made before, in torchvision's order.
    pub fn new(
        head: BoxHead,
        predictor: BoxPredictor,
        (mask, keypoints): (Option<MaskBranch>, Option<KeypointBranch>),
        options: &RcnnOptions,
    ) -> Self {
        let o = options;
        Self {
            pooler: MultiScaleRoiAlign { output_size: o.box_pool_size, sampling_ratio: o.box_sampling_ratio },
            head,
            predictor,
            mask,
            keypoints,
            coder: BoxCoder::new(o.bbox_reg_weights),
            matcher: Matcher { high: o.box_fg_iou_thresh, low: o.box_bg_iou_thresh, allow_low_quality: false },
            sampler: BalancedSampler {
                batch_size_per_image: o.box_batch_size_per_image,
                positive_fraction: o.box_positive_fraction,
            },
            score_thresh: o.box_score_thresh,
            nms_thresh: o.box_nms_thresh,
            detections_per_img: o.box_detections_per_img,
            largest: Cell::new(false),
        }
    }

    /// Makes the box head under `scope`, as the options say.
    ///
    /// # Errors
    /// A size is not positive, or the names are taken.
    pub fn box_head(scope: &Scope, options: &RcnnOptions) -> Result<BoxHead> {
        BoxHead::new(&scope.sub("box_head"), options.backbone.out_channels, options.box_pool_size, &options.box_head)
    }

    /// Whether from now on the heads learn from as much foreground as the sampler takes at most.
    pub fn take_largest(&self, on: bool) {
        self.largest.set(on);
    }

    /// The losses by name. `maps`: the pyramid without its halved last map, and whether norms take the statistics of the batch; `proposals`:
    /// `[K, 4]` for each image.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    pub fn train(
        &self,
        (maps, train): (&[Tensor], bool),
        proposals: &[Tensor],
        sizes: &[ImageSize],
        targets: &[Target],
    ) -> Result<Vec<(&'static str, Tensor)>> {
        let boxes_part = range("box head");
        let samples = match self.largest.get() {
            true => samples::most(proposals, targets, &self.sampler)?,
            false => samples::select(proposals, targets, &self.matcher, &self.sampler)?,
        };
        let pooled = self.pooler.forward(maps, &samples.by_image()?, sizes)?;
        let features = self.head.forward(&pooled, train)?;
        let (logits, offsets) = self.predictor.forward(&features)?;
        let foreground = samples.foreground()?;
        let [classifier, box_reg] = self.box_losses((&logits, &offsets), &samples, &foreground, targets)?;
        drop(boxes_part);
        let mut losses = vec![("loss_classifier", classifier), ("loss_box_reg", box_reg)];
        if self.mask.is_none() && self.keypoints.is_none() {
            return Ok(losses);
        }
        if let Some(mask) = &self.mask {
            let _part = range("mask head");
            losses.push(("loss_mask", mask.loss((maps, train), sizes, &foreground, targets)?));
        }
        if let Some(keypoints) = &self.keypoints {
            let _part = range("keypoint head");
            losses.push(("loss_keypoint", keypoints.loss((maps, train), sizes, &foreground, targets)?));
        }
        Ok(losses)
    }

    /// Classification and box regression: `fastrcnn_loss`.
    fn box_losses(
        &self,
        (logits, offsets): (&Tensor, &Tensor),
        samples: &Samples,
        foreground: &Foreground,
        targets: &[Target],
    ) -> Result<[Tensor; 2]> {
        let (labels, rows) = (&samples.labels, &foreground.rows);
        let classifier =
            at_least_float(logits)?.f_cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, IGNORED, 0.0)?;
        let (count, classes) = logits.size2()?;
        let truth = truth_of(targets, &foreground.matched, &samples.proposals)?;
        let wanted = self.coder.encode(&truth, &samples.proposals.f_index_select(0, rows)?)?;
        // Row and class select one box each: place `row · classes + class` of the flattened offsets.
        let places = rows * classes + labels.f_index_select(0, rows)?;
        let chosen = at_least_float(&offsets.f_reshape([count * classes, 4])?.f_index_select(0, &places)?)?;
        let box_reg = chosen.f_smooth_l1_loss(&wanted, Reduction::Sum, SMOOTH_L1_BETA)? / count as f64;
        divisors::tell_count(&["loss_classifier", "loss_box_reg"], count)?;
        terms::tell("loss_classifier", || {
            let logits = at_least_float(logits)?;
            let each = logits.f_cross_entropy_loss::<Tensor>(labels, None, Reduction::None, IGNORED, 0.0)?;
            let objects = samples.matched.f_masked_fill(&labels.f_eq(0)?, -1)?;
            Ok((each / count as f64, terms::of_objects(&objects.f_split_with_sizes(&samples.counts, 0)?)?))
        })?;
        terms::tell("loss_box_reg", || {
            let each = chosen.f_smooth_l1_loss(&wanted, Reduction::None, SMOOTH_L1_BETA)?;
            let each = each.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
            Ok((each / count as f64, terms::of_objects(&foreground.matched)?))
        })?;
        Ok([classifier, box_reg])
    }

    /// Detections of each image in the pixels of the resized images, keypoints too; masks as predicted within their boxes.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    pub fn detect(&self, maps: &[Tensor], proposals: &[Tensor], sizes: &[ImageSize]) -> Result<Vec<Detections>> {
        let features = self.head.forward(&self.pooler.forward(maps, proposals, sizes)?, false)?;
        let (logits, offsets) = self.predictor.forward(&features)?;
        let scores = at_least_float(&logits)?.f_softmax(-1, None)?;
        let boxes = self.coder.decode(&offsets, &Tensor::f_cat(proposals, 0)?)?;
        let image = |(image, boxes): (usize, &Tensor)| {
            Tensor::f_full([boxes.size()[0]], image as i64, (Kind::Int64, boxes.device()))
        };
        let image = proposals.iter().enumerate().map(image).collect::<Result<Vec<_>, _>>()?;
        let mut found = self.best(&boxes, &scores, &Tensor::f_cat(&image, 0)?, sizes)?;
        if let Some(mask) = &self.mask {
            mask.add_to(&mut found, maps, sizes)?;
        }
        if let Some(keypoints) = &self.keypoints {
            keypoints.add_to(&mut found, maps, sizes)?;
        }
        Ok(found)
    }

    /// The detections of each image from boxes `[P, C, 4]` and scores `[P, C]` of the proposals of all; `image`: the one that each
    /// proposal is in, i64 `[P]`.
    fn best(&self, boxes: &Tensor, scores: &Tensor, image: &Tensor, sizes: &[ImageSize]) -> Result<Vec<Detections>> {
        let (count, classes) = scores.size2()?;
        // Every class of every proposal but the background is a detection of its own.
        let foreground = classes - 1;
        let flat = scores.f_narrow(1, 1, foreground)?.f_reshape([-1])?;
        let good = indices(&flat.f_gt(self.score_thresh)?)?;
        let scores = flat.f_index_select(0, &good)?;
        let labels = good.f_remainder(foreground)? + 1;
        let image = image.f_index_select(0, &good.f_divide_scalar_mode(foreground, "floor")?)?;
        let limits = sizes_on(sizes, flat.device())?.f_index_select(0, &image)?;
        let boxes = boxes.f_narrow(1, 1, foreground)?.f_reshape([count * foreground, 4])?;
        let boxes = clip_each(&boxes.f_index_select(0, &good)?, &limits)?;
        let valid = large_enough(&boxes, MIN_SIZE)?;
        let all = Candidates { boxes: &boxes, scores: &scores, image: &image, group: &labels, valid: &valid };
        let keep = all.suppress(sizes.len() as i64, self.nms_thresh, self.detections_per_img)?;
        let of_image = |keep: &Tensor| {
            let chosen = |of: &Tensor| of.f_index_select(0, keep);
            Ok(Detections::new(chosen(&boxes)?, chosen(&labels)?, chosen(&scores)?))
        };
        keep.iter().map(of_image).collect()
    }
}
