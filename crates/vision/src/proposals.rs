//! From the RPN's outputs to a few good boxes in each image.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::boxes::{at_least_float, clip, indices, large_enough};
use super::coder::BoxCoder;
use super::{ImageSize, ops};

/// Sides shorter than this, in pixels, make no proposal.
const MIN_SIZE: f64 = 1e-3;

/// How many proposals to keep, and which.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProposalFilter {
    /// Kept in each level before non-maximum suppression.
    pub pre_nms_top_n: i64,
    /// Kept in each image after it.
    pub post_nms_top_n: i64,
    /// Overlap above which the worse of two proposals of a level goes.
    pub nms_thresh: f64,
    /// Probability below which a proposal goes.
    pub score_thresh: f64,
}

/// What the RPN says of every anchor, all levels together.
#[derive(Debug)]
pub struct AnchorOutputs {
    /// Logits, `[N, A]`.
    pub objectness: Tensor,
    /// Box offsets, `[N, A, 4]`.
    pub offsets: Tensor,
    /// Anchors in each level; their sum is A.
    pub per_level: Vec<i64>,
}

impl ProposalFilter {
    /// For each image its proposals `[K, 4]`, best first, without gradients. `anchors`: `[A, 4]`; `images`: the images'
    /// sizes within the batch.
    ///
    /// # Errors
    /// The shapes are others, or torchvision's library is missing.
    pub fn proposals(
        &self,
        outputs: &AnchorOutputs,
        anchors: &Tensor,
        images: &[ImageSize],
        coder: &BoxCoder,
    ) -> Result<Vec<Tensor>> {
        let objectness = at_least_float(&outputs.objectness.f_detach()?)?;
        let (best, levels) = self.best_of_levels(&objectness, &outputs.per_level)?;
        let (count, kept) = best.size2()?;
        // Only the best are decoded; of a large image's anchors that is one in a hundred.
        let spread = best.f_unsqueeze(2)?.f_expand([count, kept, 4], false)?;
        let offsets = outputs.offsets.f_detach()?.f_gather(1, &spread, false)?.f_view([-1, 4])?;
        let anchors = anchors.f_index_select(0, &best.f_view([-1])?)?;
        let boxes = coder.decode(&offsets, &anchors)?.f_view([count, kept, 4])?;
        let scores = objectness.f_gather(1, &best, false)?.f_sigmoid()?;
        let per_image = |(index, size): (usize, &ImageSize)| {
            let index = index as i64;
            self.of_image(&boxes.f_select(0, index)?, &scores.f_select(0, index)?, &levels, *size)
        };
        images.iter().enumerate().map(per_image).collect()
    }

    /// The indices `[N, K]` of the best anchors of each level, and the levels `[K]` they are of.
    fn best_of_levels(&self, objectness: &Tensor, per_level: &[i64]) -> Result<(Tensor, Tensor)> {
        let (mut best, mut levels) = (Vec::new(), Vec::new());
        let mut offset = 0;
        for (level, count) in per_level.iter().enumerate() {
            let kept = self.pre_nms_top_n.min(*count);
            let (_, top) = objectness.f_narrow(1, offset, *count)?.f_topk(kept, 1, true, true)?;
            best.push(top + offset);
            levels.push(Tensor::f_full([kept], level as i64, (Kind::Int64, objectness.device()))?);
            offset += count;
        }
        Ok((Tensor::f_cat(&best, 1)?, Tensor::f_cat(&levels, 0)?))
    }

    fn of_image(&self, boxes: &Tensor, scores: &Tensor, levels: &Tensor, size: ImageSize) -> Result<Tensor> {
        let boxes = clip(boxes, size)?;
        let sound = large_enough(&boxes, MIN_SIZE)?.f_logical_and(&scores.f_ge(self.score_thresh)?)?;
        let sound = indices(&sound)?;
        let boxes = boxes.f_index_select(0, &sound)?;
        let (scores, levels) = (scores.f_index_select(0, &sound)?, levels.f_index_select(0, &sound)?);
        let keep = ops::batched_nms(&boxes, &scores, &levels, self.nms_thresh)?;
        let keep = keep.f_narrow(0, 0, self.post_nms_top_n.min(keep.size()[0]))?;
        Ok(boxes.f_index_select(0, &keep)?)
    }
}
