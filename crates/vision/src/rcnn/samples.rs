//! The proposals that the heads learn from.

use anyhow::Result;
use tch::{Kind, Tensor};

use crate::boxes::iou;
use crate::matcher::{BELOW, BETWEEN, Matcher};
use crate::sampler::BalancedSampler;
use crate::types::Target;

/// The label that PyTorch's cross entropy leaves out by default.
pub(super) const IGNORED: i64 = -100;

/// The sampled proposals of one image, K of them.
#[derive(Debug)]
pub struct Samples {
    /// `[K, 4]`.
    pub proposals: Tensor,
    /// Class of each, 0 for background: i64 `[K]`.
    pub labels: Tensor,
    /// The ground truth each belongs to (0 where none): i64 `[K]`.
    pub matched: Tensor,
    /// How many are foreground.
    pub positives: i64,
}

/// The foreground proposals of each image.
pub struct Foreground {
    /// `[B, 4]`.
    pub boxes: Vec<Tensor>,
    /// Class of each: i64 `[B]`.
    pub labels: Vec<Tensor>,
    /// The ground truth each belongs to: i64 `[B]`.
    pub matched: Vec<Tensor>,
}

impl Foreground {
    /// `positive`: the foreground among each image's samples.
    ///
    /// # Errors
    /// There is no such sample.
    pub fn of(samples: &[Samples], positive: &[Tensor]) -> Result<Self> {
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

/// Samples of each image: proposals and the ground-truth boxes themselves, labelled by overlap.
///
/// # Errors
/// The shapes are others than [`Target`] says.
pub fn select(
    proposals: &[Tensor],
    targets: &[Target],
    matcher: &Matcher,
    sampler: &BalancedSampler,
) -> Result<Vec<Samples>> {
    chosen(proposals, targets, sampler, |proposals, target| assign(proposals, target, matcher))
}

/// Labels in which as many proposals are foreground as the sampler takes at most, and the others background: what an image comes to
/// that needs most memory, whatever the weights are.
///
/// # Errors
/// As [`select`].
pub fn most(proposals: &[Tensor], targets: &[Target], sampler: &BalancedSampler) -> Result<Vec<Samples>> {
    let any = Matcher { high: 0.0, low: 0.0, allow_low_quality: false };
    chosen(proposals, targets, sampler, |proposals, target| {
        let (of, labels) = assign(proposals, target, &any)?;
        let (all, positives) = (labels.size()[0], sampler.most_positives());
        if all > positives {
            let _ = labels.f_narrow(0, positives, all - positives)?.f_zero_()?;
        }
        Ok((of, labels))
    })
}

fn chosen(
    proposals: &[Tensor],
    targets: &[Target],
    sampler: &BalancedSampler,
    assign: impl Fn(&Tensor, &Target) -> Result<(Tensor, Tensor)>,
) -> Result<Vec<Samples>> {
    let (mut all, mut matched, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for (proposals, target) in proposals.iter().zip(targets) {
        let proposals = Tensor::f_cat(&[proposals, &target.boxes.f_to_kind(proposals.kind())?], 0)?;
        let (of, label) = assign(&proposals, target)?;
        all.push(proposals);
        matched.push(of);
        labels.push(label);
    }
    let drawn = sampler.sample(&labels)?;
    let of_image = |(image, (positive, negative)): (usize, &(Tensor, Tensor))| {
        let (sampled, _) = Tensor::f_cat(&[positive, negative], 0)?.f_sort(0, false)?;
        let of = |all: &[Tensor]| all[image].f_index_select(0, &sampled);
        let positives = positive.size()[0];
        Ok(Samples { proposals: of(&all)?, labels: of(&labels)?, matched: of(&matched)?, positives })
    };
    drawn.iter().enumerate().map(of_image).collect()
}

/// For each proposal the index of its ground truth and its label (−1: neither one nor background), both i64 `[K]`.
fn assign(proposals: &Tensor, target: &Target, matcher: &Matcher) -> Result<(Tensor, Tensor)> {
    if target.boxes.size()[0] == 0 {
        let none = Tensor::f_zeros([proposals.size()[0]], (Kind::Int64, proposals.device()))?;
        return Ok((none.shallow_clone(), none));
    }
    let matches = matcher.matches(&iou(&target.boxes, proposals)?)?;
    let matched = matches.f_clamp_min(0)?;
    let labels = target.labels.f_index_select(0, &matched)?;
    let labels = labels.f_masked_fill(&matches.f_eq(BELOW)?, 0)?.f_masked_fill(&matches.f_eq(BETWEEN)?, -1)?;
    Ok((matched, labels))
}
