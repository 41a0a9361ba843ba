//! From the RPN's outputs to a few good boxes in each image.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::ImageSize;
use crate::boxes::{at_least_float, clip_each, large_enough, sizes_on};
use crate::coder::BoxCoder;
use crate::detector::AnchorOutputs;
use crate::suppress::Candidates;

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
        let limits = sizes_on(images, best.device())?.f_unsqueeze(1)?.f_expand([count, kept, 2], false)?;
        let boxes = clip_each(&coder.decode(&offsets, &anchors)?.f_view([-1, 4])?, &limits.f_reshape([-1, 2])?)?;
        let scores = objectness.f_gather(1, &best, false)?.f_sigmoid()?.f_view([-1])?;
        let valid = large_enough(&boxes, MIN_SIZE)?.f_logical_and(&scores.f_ge(self.score_thresh)?)?;
        let image = Tensor::f_arange(count, (Kind::Int64, best.device()))?.f_unsqueeze(1)?;
        let image = image.f_expand([count, kept], false)?.f_reshape([-1])?;
        let group = levels.f_unsqueeze(0)?.f_expand([count, kept], false)?.f_reshape([-1])?;
        let all = Candidates { boxes: &boxes, scores: &scores, image: &image, group: &group, valid: &valid };
        let keep = all.suppress(count, self.nms_thresh, self.post_nms_top_n)?;
        keep.iter().map(|keep| Ok(boxes.f_index_select(0, keep)?)).collect()
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
}
