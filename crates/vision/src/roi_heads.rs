//! From proposals to detections, or to losses: torchvision's `RoIHeads`.

use std::cell::Cell;

use anyhow::Result;
use pipe_native::profile::range;
use tch::{Kind, Reduction, Tensor};

use super::backbone::OUT_CHANNELS;
use super::box_head::{BoxHead, BoxPredictor};
use super::boxes::{at_least_float, clip_each, indices, known_indices, large_enough, sizes_on};
use super::coder::BoxCoder;
use super::keypoint_head::{KeypointHead, KeypointPredictor};
use super::mask_head::{MaskHead, MaskPredictor};
use super::matcher::Matcher;
use super::options::RcnnOptions;
use super::pooler::MultiScaleRoiAlign;
use super::rpn::SMOOTH_L1_BETA;
use super::sampler::BalancedSampler;
use super::samples::{self, Samples};
use super::suppress::Candidates;
use super::types::{Detections, Target};
use super::{ImageSize, keypoints, masks, terms};
use crate::nn::Scope;

/// Sides shorter than this, in pixels, make no detection.
const MIN_SIZE: f64 = 1e-2;
/// The label that PyTorch's cross entropy leaves out by default.
const IGNORED: i64 = -100;

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
        self.predictor.forward(&self.head.forward(&features, train)?, &Tensor::f_cat(labels, 0)?)
    }
}

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
        at_least_float(&self.predictor.forward(&self.head.forward(&features, train)?)?)
    }
}

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
        BoxHead::new(&scope.sub("box_head"), OUT_CHANNELS, options.box_pool_size, &options.box_head)
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
        let boxes: Vec<_> = samples.iter().map(|samples| samples.proposals.shallow_clone()).collect();
        let features = self.head.forward(&self.pooler.forward(maps, &boxes, sizes)?, train)?;
        let (logits, offsets) = self.predictor.forward(&features)?;
        let positive = |samples: &Samples| known_indices(&samples.labels.f_gt(0)?, samples.positives);
        let positive = samples.iter().map(positive).collect::<Result<Vec<_>>>()?;
        let [classifier, box_reg] = self.box_losses(&logits, &offsets, &samples, &positive, targets)?;
        drop(boxes_part);
        let mut losses = vec![("loss_classifier", classifier), ("loss_box_reg", box_reg)];
        if self.mask.is_none() && self.keypoints.is_none() {
            return Ok(losses);
        }
        let foreground = Foreground::of(&samples, &positive)?;
        if let Some(mask) = &self.mask {
            let _part = range("mask head");
            losses.push(("loss_mask", mask_loss(mask, (maps, train), sizes, &foreground, targets)?));
        }
        if let Some(keypoints) = &self.keypoints {
            let _part = range("keypoint head");
            losses.push(("loss_keypoint", keypoint_loss(keypoints, (maps, train), sizes, &foreground, targets)?));
        }
        Ok(losses)
    }

    /// Classification and box regression: `fastrcnn_loss`. `positive`: the foreground among each image's samples.
    fn box_losses(
        &self,
        logits: &Tensor,
        offsets: &Tensor,
        samples: &[Samples],
        positive: &[Tensor],
        targets: &[Target],
    ) -> Result<[Tensor; 2]> {
        let labels: Vec<_> = samples.iter().map(|samples| &samples.labels).collect();
        let labels = Tensor::f_cat(&labels, 0)?;
        let classifier =
            at_least_float(logits)?.f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::Mean, IGNORED, 0.0)?;
        let (count, classes) = logits.size2()?;
        let (mut rows, mut wanted) = (Vec::new(), Vec::new());
        let mut first = 0;
        for ((samples, positive), target) in samples.iter().zip(positive).zip(targets) {
            rows.push(positive + first);
            first += samples.labels.size()[0];
            if target.boxes.size()[0] > 0 {
                let truth = target.boxes.f_index_select(0, &samples.matched.f_index_select(0, positive)?)?;
                wanted.push(self.coder.encode(&truth, &samples.proposals.f_index_select(0, positive)?)?);
            }
        }
        // Row and class select one box each: place `row · classes + class` of the flattened offsets.
        let rows = Tensor::f_cat(&rows, 0)?;
        let places = &rows * classes + labels.f_index_select(0, &rows)?;
        let chosen = at_least_float(&offsets.f_reshape([count * classes, 4])?.f_index_select(0, &places)?)?;
        let wanted = if wanted.is_empty() { chosen.f_zeros_like()? } else { Tensor::f_cat(&wanted, 0)? };
        let box_reg = chosen.f_smooth_l1_loss(&wanted, Reduction::Sum, SMOOTH_L1_BETA)? / count as f64;
        terms::tell("loss_classifier", || {
            let logits = at_least_float(logits)?;
            let each = logits.f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::None, IGNORED, 0.0)?;
            let object = |samples: &Samples| samples.matched.f_masked_fill(&samples.labels.f_eq(0)?, -1);
            let objects = samples.iter().map(object).collect::<Result<Vec<_>, _>>()?;
            Ok((each / count as f64, terms::of_objects(&objects)?))
        })?;
        terms::tell("loss_box_reg", || {
            let each = chosen.f_smooth_l1_loss(&wanted, Reduction::None, SMOOTH_L1_BETA)?;
            let each = each.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
            Ok((each / count as f64, terms::of_objects(&objects_of(samples, positive)?)?))
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
            add_masks(mask, maps, sizes, &mut found)?;
        }
        if let Some(keypoints) = &self.keypoints {
            add_keypoints(keypoints, maps, sizes, &mut found)?;
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

/// The foreground proposals of each image.
struct Foreground {
    /// `[B, 4]`.
    boxes: Vec<Tensor>,
    /// Class of each: i64 `[B]`.
    labels: Vec<Tensor>,
    /// The ground truth each belongs to: i64 `[B]`.
    matched: Vec<Tensor>,
}

impl Foreground {
    /// `positive`: the foreground among each image's samples.
    fn of(samples: &[Samples], positive: &[Tensor]) -> Result<Self> {
        let of = |tensor: fn(&Samples) -> &Tensor| {
            let chosen = samples.iter().zip(positive).map(|(samples, rows)| tensor(samples).f_index_select(0, rows));
            chosen.collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            boxes: of(|samples| &samples.proposals)?,
            labels: of(|samples| &samples.labels)?,
            matched: of(|samples| &samples.matched)?,
        })
    }
}

/// The loss of the masks of the foreground proposals: `maskrcnn_loss`.
fn mask_loss(
    mask: &MaskBranch,
    (maps, train): (&[Tensor], bool),
    sizes: &[ImageSize],
    foreground: &Foreground,
    targets: &[Target],
) -> Result<Tensor> {
    let Foreground { boxes, labels, matched } = foreground;
    let logits = mask.logits(maps, boxes, labels, sizes, train)?;
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
    terms::tell("loss_mask", || {
        let each = logits.f_binary_cross_entropy_with_logits::<Tensor>(&wanted, None, None, Reduction::None)?;
        let each = each.f_mean_dim([1i64, 2].as_slice(), false, Kind::Float)? / count as f64;
        Ok((each, terms::of_objects(matched)?))
    })?;
    Ok(logits.f_binary_cross_entropy_with_logits::<Tensor>(&wanted, None, None, Reduction::Mean)?)
}

/// The objects that the foreground of each image belongs to, i64.
fn objects_of(samples: &[Samples], positive: &[Tensor]) -> Result<Vec<Tensor>> {
    let of = |(samples, positive): (&Samples, &Tensor)| Ok(samples.matched.f_index_select(0, positive)?);
    samples.iter().zip(positive).map(of).collect()
}

/// Adds the mask probabilities `[N, 1, 28, 28]` of each detection's class.
fn add_masks(mask: &MaskBranch, maps: &[Tensor], sizes: &[ImageSize], found: &mut [Detections]) -> Result<()> {
    let boxes: Vec<_> = found.iter().map(|found| found.boxes.shallow_clone()).collect();
    let labels: Vec<_> = found.iter().map(|found| found.labels.shallow_clone()).collect();
    let counts: Vec<_> = boxes.iter().map(|boxes| boxes.size()[0]).collect();
    let probabilities = at_least_float(&mask.logits(maps, &boxes, &labels, sizes, false)?)?.f_sigmoid()?;
    for (found, masks) in found.iter_mut().zip(probabilities.f_split_with_sizes(&counts, 0)?) {
        found.masks = Some(masks);
    }
    Ok(())
}

/// The loss of the keypoints of the foreground proposals: `keypointrcnn_loss`, the cross entropy of each heatmap as one choice of a place.
fn keypoint_loss(
    keypoints: &KeypointBranch,
    (maps, train): (&[Tensor], bool),
    sizes: &[ImageSize],
    foreground: &Foreground,
    targets: &[Target],
) -> Result<Tensor> {
    let Foreground { boxes, matched, .. } = foreground;
    let logits = keypoints.logits(maps, boxes, sizes, train)?;
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
    let valid = wanted.f_ne(IGNORED)?.f_sum(logits.kind())?.f_clamp_min(1)?;
    terms::tell("loss_keypoint", || {
        let each = logits.f_cross_entropy_loss::<Tensor>(&wanted, None, Reduction::None, IGNORED, 0.0)?;
        let each = each.f_view([count, points])?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
        Ok((each / &valid, terms::of_objects(matched)?))
    })?;
    Ok(sum / valid)
}

/// Adds the keypoints `[N, K, 3]` of each detection and their scores.
fn add_keypoints(
    branch: &KeypointBranch,
    maps: &[Tensor],
    sizes: &[ImageSize],
    found: &mut [Detections],
) -> Result<()> {
    let boxes: Vec<_> = found.iter().map(|found| found.boxes.shallow_clone()).collect();
    let counts: Vec<_> = boxes.iter().map(|boxes| boxes.size()[0]).collect();
    let logits = branch.logits(maps, &boxes, sizes, false)?;
    let (points, scores) = keypoints::from_heatmaps(&logits, &Tensor::f_cat(&boxes, 0)?)?;
    let split = |all: Tensor| all.f_split_with_sizes(&counts, 0);
    for (found, (points, scores)) in found.iter_mut().zip(split(points)?.into_iter().zip(split(scores)?)) {
        (found.keypoints, found.keypoints_scores) = (Some(points), Some(scores));
    }
    Ok(())
}
