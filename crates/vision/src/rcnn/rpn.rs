//! The region proposal network: Ren et al., "Faster R-CNN" (2015), section 3.1.

use anyhow::Result;
use pipe_native::profile::range;
use tch::{Kind, Reduction, Tensor};

use super::options::RcnnOptions;
use super::proposals::ProposalFilter;
use super::samples::truth_of;
use crate::anchors::AnchorGenerator;
use crate::boxes::at_least_float;
use crate::coder::BoxCoder;
use crate::conv_block::ConvBlock;
use crate::dense::rows;
use crate::detector::{AnchorOutputs, Features};
use crate::matcher::{BELOW, BETWEEN, Matcher};
use crate::nn::{Conv2d, Conv2dOptions, Scope, init};
use crate::sampler::BalancedSampler;
use crate::transform::ImageBatch;
use crate::types::Target;
use crate::{divisors, terms};

/// Where the smooth L1 loss turns from square to linear, here and in the box head.
pub(super) const SMOOTH_L1_BETA: f64 = 1.0 / 9.0;

/// `RPNHead`: for every anchor of a place, how much of an object it is and how its box is off.
#[derive(Debug)]
pub struct RpnHead {
    conv: Vec<ConvBlock>,
    cls_logits: Conv2d,
    bbox_pred: Conv2d,
}

impl RpnHead {
    /// For maps of `channels` channels and `anchors` anchors a place.
    ///
    /// # Errors
    /// A size is not positive, or the names are taken.
    pub fn new(scope: &Scope, channels: i64, anchors: i64, depth: usize) -> Result<Self> {
        let conv = (0..depth)
            .map(|index| ConvBlock::new(&scope.sub("conv").sub(index), (channels, channels), (3, 1), None, true))
            .collect::<Result<Vec<_>>>()?;
        let cls_logits = Conv2d::new(&scope.sub("cls_logits"), channels, anchors, Conv2dOptions::default())?;
        let bbox_pred = Conv2d::new(&scope.sub("bbox_pred"), channels, anchors * 4, Conv2dOptions::default())?;
        conv.iter().try_for_each(ConvBlock::init_normal)?;
        for output in [&cls_logits, &bbox_pred] {
            init::normal(&output.weight, 0.01)?;
            output.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
        }
        Ok(Self { conv, cls_logits, bbox_pred })
    }

    /// Outputs for all anchors of all maps `[N, C, H, W]`, in the order of [`AnchorGenerator::anchors`].
    ///
    /// # Errors
    /// A map has other channels, or memory is short.
    pub fn forward(&self, maps: &[Tensor]) -> Result<AnchorOutputs> {
        let (mut objectness, mut offsets, mut per_level) = (Vec::new(), Vec::new(), Vec::new());
        for map in maps {
            let hidden = self.conv.iter().try_fold(map.shallow_clone(), |out, conv| conv.forward(&out, false))?;
            let logits = self.cls_logits.forward(&hidden)?;
            objectness.push(rows(&logits, 1)?.f_squeeze_dim(2)?);
            offsets.push(rows(&self.bbox_pred.forward(&hidden)?, 4)?);
            per_level.push(objectness[per_level.len()].size()[1]);
        }
        Ok(AnchorOutputs {
            objectness: Tensor::f_cat(&objectness, 1)?,
            offsets: Tensor::f_cat(&offsets, 1)?,
            per_level,
        })
    }
}

/// `RegionProposalNetwork`.
#[derive(Debug)]
pub struct RegionProposals {
    head: RpnHead,
    anchors: AnchorGenerator,
    coder: BoxCoder,
    matcher: Matcher,
    sampler: BalancedSampler,
    train: ProposalFilter,
    test: ProposalFilter,
}

impl RegionProposals {
    /// Makes the head's parameters under `scope`.
    ///
    /// # Errors
    /// Invalid anchors, or names that are already used.
    pub fn new(scope: &Scope, channels: i64, options: &RcnnOptions) -> Result<Self> {
        let o = options;
        let anchors = AnchorGenerator::new(&o.anchor_sizes, &o.aspect_ratios)?;
        let head = RpnHead::new(&scope.sub("head"), channels, anchors.per_place(), o.rpn_conv_depth)?;
        let filter = |pre_nms_top_n, post_nms_top_n| ProposalFilter {
            pre_nms_top_n,
            post_nms_top_n,
            nms_thresh: o.rpn_nms_thresh,
            score_thresh: o.rpn_score_thresh,
        };
        Ok(Self {
            head,
            anchors,
            coder: BoxCoder::new([1.0; 4]),
            matcher: Matcher { high: o.rpn_fg_iou_thresh, low: o.rpn_bg_iou_thresh, allow_low_quality: true },
            sampler: BalancedSampler {
                batch_size_per_image: o.rpn_batch_size_per_image,
                positive_fraction: o.rpn_positive_fraction,
            },
            train: filter(o.rpn_pre_nms_top_n_train, o.rpn_post_nms_top_n_train),
            test: filter(o.rpn_pre_nms_top_n_test, o.rpn_post_nms_top_n_test),
        })
    }

    /// Levels of the pyramid it has anchors for.
    pub fn levels(&self) -> usize {
        self.anchors.levels()
    }

    /// What the head says of the anchors of the batch's pyramid.
    ///
    /// # Errors
    /// A map has other channels, or memory is short.
    pub fn outputs(&self, maps: &[Tensor]) -> Result<AnchorOutputs> {
        let _part = range("region proposals");
        self.head.forward(maps)
    }

    /// Proposals `[K, 4]` for each image.
    ///
    /// # Errors
    /// The maps are not as many as the levels, or memory is short.
    pub fn propose(&self, batch: &ImageBatch, features: &Features) -> Result<Vec<Tensor>> {
        let anchors = self.anchors_for(batch, &features.maps)?;
        self.test.proposals(features.anchors()?, &anchors, &batch.sizes, &self.coder)
    }

    /// Proposals `[K, 4]` for each image, and the losses `loss_objectness` and `loss_rpn_box_reg`.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub fn train(
        &self,
        batch: &ImageBatch,
        features: &Features,
        targets: &[Target],
    ) -> Result<(Vec<Tensor>, [Tensor; 2])> {
        let _part = range("region proposals");
        let (anchors, outputs) = (self.anchors_for(batch, &features.maps)?, features.anchors()?);
        let proposals = self.train.proposals(outputs, &anchors, &batch.sizes, &self.coder)?;
        Ok((proposals, self.losses(outputs, &anchors, targets)?))
    }

    fn anchors_for(&self, batch: &ImageBatch, maps: &[Tensor]) -> Result<Tensor> {
        let (_, _, height, width) = batch.tensors.size4()?;
        self.anchors.anchors((height, width), maps)
    }

    fn losses(&self, outputs: &AnchorOutputs, anchors: &Tensor, targets: &[Target]) -> Result<[Tensor; 2]> {
        let count = anchors.size()[0];
        let matches = targets.iter().map(|target| self.matches(anchors, target)).collect::<Result<Vec<_>>>()?;
        let matches = Tensor::f_cat(&matches, 0)?;
        let labels = matches.f_ge(0)?.f_to_kind(Kind::Int64)?.f_masked_fill(&matches.f_eq(BETWEEN)?, -1)?;
        let drawn = self.sampler.sample(&labels, &vec![count; targets.len()])?;
        // Offsets are encoded for the sampled foreground alone; no other enters the loss.
        let matched = matches.f_index_select(0, &drawn.positive)?.f_split_with_sizes(drawn.positives(), 0)?;
        let positive_anchors = anchors.f_index_select(0, &drawn.positive.f_remainder(count)?)?;
        let wanted_offsets = self.coder.encode(&truth_of(targets, &matched, anchors)?, &positive_anchors)?;
        let sampled = Tensor::f_cat(&[&drawn.positive, &drawn.negative], 0)?;
        let logits = at_least_float(&outputs.objectness.f_reshape([-1])?.f_index_select(0, &sampled)?)?;
        let labels = logits.f_zeros_like()?;
        let _ = labels.f_narrow(0, 0, drawn.positive.size()[0])?.f_fill_(1.0)?;
        let objectness = logits.f_binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::Mean)?;
        let offsets = at_least_float(&outputs.offsets.f_reshape([-1, 4])?.f_index_select(0, &drawn.positive)?)?;
        let boxes = offsets.f_smooth_l1_loss(&wanted_offsets, Reduction::Sum, SMOOTH_L1_BETA)?;
        divisors::tell_count(&["loss_objectness", "loss_rpn_box_reg"], sampled.size()[0])?;
        let count = sampled.size()[0] as f64;
        terms::tell("loss_objectness", || {
            let each = logits.f_binary_cross_entropy_with_logits::<Tensor>(&labels, None, None, Reduction::None)?;
            let background = terms::of_images(drawn.counts.iter().map(|[_, negatives]| *negatives));
            Ok((each / count, [terms::of_objects(&matched)?, background].concat()))
        })?;
        terms::tell("loss_rpn_box_reg", || {
            let each = offsets.f_smooth_l1_loss(&wanted_offsets, Reduction::None, SMOOTH_L1_BETA)?;
            Ok((each.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)? / count, terms::of_objects(&matched)?))
        })?;
        Ok([objectness, boxes / count])
    }

    /// The ground truth that each anchor belongs to, or a mark of the matcher: i64 `[A]`.
    fn matches(&self, anchors: &Tensor, target: &Target) -> Result<Tensor> {
        match target.boxes.size()[0] {
            0 => Ok(Tensor::f_full([anchors.size()[0]], BELOW, (Kind::Int64, anchors.device()))?),
            _ => self.matcher.of_boxes(&target.boxes, anchors),
        }
    }
}
