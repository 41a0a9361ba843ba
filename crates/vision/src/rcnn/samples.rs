//! The proposals that the heads learn from.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::boxes::known_indices;
use crate::matcher::{BELOW, BETWEEN, Matcher};
use crate::sampler::BalancedSampler;
use crate::types::Target;

/// The label that PyTorch's cross entropy leaves out by default.
pub(super) const IGNORED: i64 = -100;

/// The sampled proposals of a batch, K of them, one image after the other.
#[derive(Debug)]
pub struct Samples {
    /// `[K, 4]`.
    pub proposals: Tensor,
    /// Class of each, 0 for background: i64 `[K]`.
    pub labels: Tensor,
    /// The ground truth of its image that each belongs to (0 where none): i64 `[K]`.
    pub matched: Tensor,
    /// How many each image has.
    pub counts: Vec<i64>,
    /// How many of them are foreground.
    pub positives: Vec<i64>,
}

/// The foreground proposals, B of them.
pub struct Foreground {
    /// Their places among the samples: i64 `[B]`.
    pub rows: Tensor,
    /// Of each image `[B_i, 4]`.
    pub boxes: Vec<Tensor>,
    /// Class of each, by image: i64 `[B_i]`.
    pub labels: Vec<Tensor>,
    /// The ground truth each belongs to, by image: i64 `[B_i]`.
    pub matched: Vec<Tensor>,
}

impl Samples {
    /// The proposals of each image, `[K_i, 4]`.
    ///
    /// # Errors
    /// The counts do not add up.
    pub fn by_image(&self) -> Result<Vec<Tensor>> {
        Ok(self.proposals.f_split_with_sizes(&self.counts, 0)?)
    }

    /// Those that are foreground.
    ///
    /// # Errors
    /// Memory is short.
    pub fn foreground(&self) -> Result<Foreground> {
        let rows = known_indices(&self.labels.f_gt(0)?, self.positives.iter().sum())?;
        let of = |all: &Tensor| all.f_index_select(0, &rows)?.f_split_with_sizes(&self.positives, 0);
        let (boxes, labels, matched) = (of(&self.proposals)?, of(&self.labels)?, of(&self.matched)?);
        Ok(Foreground { rows, boxes, labels, matched })
    }
}

/// Of each box the ground truth that it belongs to, `[B, 4]`: `matched` has their numbers by image, i64 `[B_i]`. `like`: boxes of the same
/// type and device, for where there are none.
///
/// # Errors
/// There is no such ground truth.
pub fn truth_of(targets: &[Target], matched: &[Tensor], like: &Tensor) -> Result<Tensor> {
    let found = matched.iter().zip(targets).filter(|(matched, _)| matched.numel() > 0);
    let found =
        found.map(|(matched, target)| target.boxes.f_index_select(0, matched)).collect::<Result<Vec<_>, _>>()?;
    Ok(if found.is_empty() { like.f_narrow(0, 0, 0)? } else { Tensor::f_cat(&found, 0)? })
}

/// Samples of each image: proposals and the ground-truth boxes themselves, labelled by overlap.
///
/// # Errors
/// The shapes are others than [`Target`] says.
pub fn select(
    proposals: &[Tensor],
    targets: &[Target],
    matcher: &Matcher,
    sampler: &BalancedSampler,
) -> Result<Samples> {
    Labelled::new(proposals, targets, matcher)?.sample(sampler)
}

/// Labels in which as many proposals are foreground as the sampler takes at most, and the others background: what an image comes to
/// that needs most memory, whatever the weights are.
///
/// # Errors
/// As [`select`].
pub fn most(proposals: &[Tensor], targets: &[Target], sampler: &BalancedSampler) -> Result<Samples> {
    let all = Labelled::new(proposals, targets, &Matcher { high: 0.0, low: 0.0, allow_low_quality: false })?;
    for labels in all.labels.f_split_with_sizes(&all.counts, 0)? {
        let (count, positives) = (labels.size()[0], sampler.most_positives());
        if count > positives {
            let _ = labels.f_narrow(0, positives, count - positives)?.f_zero_()?;
        }
    }
    all.sample(sampler)
}

/// All proposals and ground-truth boxes of a batch, M of them.
struct Labelled {
    /// `[M, 4]`.
    boxes: Tensor,
    /// The ground truth that each belongs to: i64 `[M]`.
    matched: Tensor,
    /// Its label (−1: neither one nor background): i64 `[M]`.
    labels: Tensor,
    counts: Vec<i64>,
}

impl Labelled {
    fn new(proposals: &[Tensor], targets: &[Target], matcher: &Matcher) -> Result<Self> {
        let (mut boxes, mut counts) = (Vec::new(), Vec::new());
        for (proposals, target) in proposals.iter().zip(targets) {
            counts.push(proposals.size()[0] + target.boxes.size()[0]);
            boxes.extend([proposals.shallow_clone(), target.boxes.f_to_kind(proposals.kind())?]);
        }
        let boxes = Tensor::f_cat(&boxes, 0)?;
        let options = (Kind::Int64, boxes.device());
        let (mut matches, mut labels) = (Vec::new(), Vec::new());
        for (boxes, target) in boxes.f_split_with_sizes(&counts, 0)?.iter().zip(targets) {
            let count = boxes.size()[0];
            let (found, of) = match target.boxes.size()[0] {
                0 => (Tensor::f_full([count], BELOW, options)?, Tensor::f_zeros([count], options)?),
                _ => {
                    let found = matcher.of_boxes(&target.boxes, boxes)?;
                    let of = target.labels.f_index_select(0, &found.f_clamp_min(0)?)?;
                    (found, of)
                }
            };
            matches.push(found);
            labels.push(of);
        }
        let matches = Tensor::f_cat(&matches, 0)?;
        let labels = Tensor::f_cat(&labels, 0)?.f_masked_fill(&matches.f_eq(BELOW)?, 0)?;
        let labels = labels.f_masked_fill(&matches.f_eq(BETWEEN)?, -1)?;
        Ok(Self { boxes, matched: matches.f_clamp_min(0)?, labels, counts })
    }

    fn sample(&self, sampler: &BalancedSampler) -> Result<Samples> {
        let drawn = sampler.sample(&self.labels, &self.counts)?;
        let (sampled, _) = Tensor::f_cat(&[&drawn.positive, &drawn.negative], 0)?.f_sort(0, false)?;
        let of = |all: &Tensor| all.f_index_select(0, &sampled);
        Ok(Samples {
            proposals: of(&self.boxes)?,
            labels: of(&self.labels)?,
            matched: of(&self.matched)?,
            counts: drawn.counts.iter().map(|[positives, negatives]| positives + negatives).collect(),
            positives: drawn.positives(),
        })
    }
}
