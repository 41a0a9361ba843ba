//! What one-stage detectors share: outputs of every anchor, what anchors are to learn, and the way from outputs to detections.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::ImageSize;
use super::boxes::{clip_each, indices, known_indices, read_counts, sizes_on};
use super::suppress::Candidates;
use super::terms::{self, Place};
use super::types::{Detections, Target};

/// What the heads say of every anchor, all levels together.
#[derive(Debug)]
pub struct DenseOutputs {
    /// Logits of the classes, `[N, A, C]`.
    pub logits: Tensor,
    /// Box offsets, `[N, A, 4]`.
    pub offsets: Tensor,
    /// Logits of how central a place is within its object, `[N, A]`: FCOS.
    pub centerness: Option<Tensor>,
    /// Anchors in each level; their sum is A.
    pub per_level: Vec<i64>,
}

/// A map `[N, K · columns, H, W]` of K anchors a place as a row for each anchor: `[N, H · W · K, columns]`.
///
/// # Errors
/// The map has other channels.
pub fn rows(map: &Tensor, columns: i64) -> Result<Tensor> {
    let (count, channels, height, width) = map.size4()?;
    let rows = map.f_view([count, channels / columns, columns, height, width])?.f_permute([0, 3, 4, 1, 2])?;
    Ok(rows.f_reshape([count, -1, columns])?)
}

/// What the anchors of a batch are to learn: N images of A anchors each, F of which are foreground.
#[derive(Debug)]
pub struct Assignment {
    /// The ground truth that each anchor belongs to, counted through the batch; negative as the matcher left it: i64 `[N, A]`.
    pub matches: Tensor,
    /// The number of each image's first object in that count.
    firsts: Vec<i64>,
    /// The places of the foreground among the N · A: i64 `[F]`, ascending.
    pub foreground: Tensor,
    /// The boxes that the foreground belongs to, `[F, 4]`.
    pub boxes: Tensor,
    /// Their classes, i64 `[F]`.
    pub labels: Tensor,
}

impl Assignment {
    /// Matches each image's anchors, A of them, by `matches`: from the boxes `[G, 4]`, at least one, to the index of each anchor's ground
    /// truth or a negative mark, i64 `[A]`. Anchors of an image without objects are background, −1. Waits for the device once.
    ///
    /// # Errors
    /// Those of `matches`.
    pub fn new(targets: &[Target], anchors: &Tensor, matches: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let (mut first, mut firsts) = (0, Vec::with_capacity(targets.len()));
        let mut of_images = Vec::with_capacity(targets.len());
        for target in targets {
            let count = target.boxes.size()[0];
            of_images.push(match count {
                0 => Tensor::f_full([anchors.size()[0]], -1, (Kind::Int64, anchors.device()))?,
                _ => {
                    let own = matches(&target.boxes)?;
                    own.f_where_self(&own.f_lt(0)?, &own.f_add_scalar(first)?)?
                }
            });
            firsts.push(first);
            first += count;
        }
        let all = Tensor::f_stack(&of_images, 0)?;
        let is_foreground = all.f_ge(0)?.f_flatten(0, -1)?;
        let count = read_counts(&is_foreground.f_sum(Kind::Int64)?)?[0];
        let foreground = known_indices(&is_foreground, count)?;
        let truth = all.f_flatten(0, -1)?.f_index_select(0, &foreground)?;
        let of = |tensor: fn(&Target) -> &Tensor| -> Result<Tensor> {
            let all: Vec<&Tensor> = targets.iter().map(tensor).collect();
            Ok(Tensor::f_cat(&all, 0)?.f_index_select(0, &truth)?)
        };
        let (boxes, labels) = (of(|target| &target.boxes)?, of(|target| &target.labels)?);
        Ok(Self { foreground, boxes, labels, matches: all, firsts })
    }

    /// Where the N · A anchors are.
    ///
    /// # Errors
    /// Memory is short.
    pub fn places(&self) -> Result<Vec<Place>> {
        let own = |(row, first): (Tensor, &i64)| Ok(row.f_sub_scalar(*first)?);
        let rows = self.matches.f_unbind(0)?.into_iter().zip(&self.firsts);
        terms::of_objects(&rows.map(own).collect::<Result<Vec<_>>>()?)
    }

    /// Where the foreground is, `[F]`.
    ///
    /// # Errors
    /// Memory is short.
    pub fn places_of_foreground(&self) -> Result<Vec<Place>> {
        Ok(self.places()?.into_iter().filter(|place| place.object.is_some()).collect())
    }

    /// How many anchors are foreground.
    pub fn count(&self) -> i64 {
        self.foreground.size()[0]
    }

    /// The rows of `[N, A, …]` that are foreground.
    ///
    /// # Errors
    /// The shape is another.
    pub fn of_foreground(&self, all: &Tensor) -> Result<Tensor> {
        Ok(all.f_flatten(0, 1)?.f_index_select(0, &self.foreground)?)
    }

    /// The anchors `[A, 4]` that are foreground, `[F, 4]`.
    ///
    /// # Errors
    /// There are others.
    pub fn anchors(&self, anchors: &Tensor) -> Result<Tensor> {
        Ok(anchors.f_index_select(0, &self.foreground.f_remainder(anchors.size()[0])?)?)
    }

    /// One divided by the foreground of each image, at least 1: `[N]`.
    ///
    /// # Errors
    /// Memory is short.
    pub fn shares(&self) -> Result<Tensor> {
        let counts = self.matches.f_ge(0)?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
        Ok(counts.f_clamp_min(1)?.f_reciprocal()?)
    }

    /// What of `[N]` belongs to the image of each of the foreground: `[F]`.
    ///
    /// # Errors
    /// The shape is another.
    pub fn of_image(&self, values: &Tensor) -> Result<Tensor> {
        let image = self.foreground.f_divide_scalar_mode(self.matches.size()[1], "floor")?;
        Ok(values.f_index_select(0, &image)?)
    }

    /// The classes as one column each, `[N, A, C]`: 1 where a foreground anchor has that class, 0 elsewhere.
    ///
    /// # Errors
    /// Memory is short.
    pub fn one_hot(&self, classes: i64) -> Result<Tensor> {
        let (images, anchors) = self.matches.size2()?;
        let all = Tensor::f_zeros([images * anchors * classes], (Kind::Float, self.matches.device()))?;
        let places = self.foreground.f_mul_scalar(classes)?.f_add(&self.labels)?;
        let _ = all.shallow_clone().f_index_fill_(0, &places, 1.0)?;
        Ok(all.f_view([images, anchors, classes])?)
    }
}

/// Which detections stay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    /// Detections at or below this go.
    pub score_thresh: f64,
    /// Of these, as many are kept for the next step of each image and level, or class.
    pub topk_candidates: i64,
    /// Overlap above which the worse of two detections of a class goes.
    pub nms_thresh: f64,
    /// Detections kept in an image.
    pub detections_per_img: i64,
}

/// The best of the detections that there could be, K for each image.
#[derive(Debug)]
pub struct Best {
    /// `[N, K]`.
    pub scores: Tensor,
    /// The anchor of each, i64 `[N, K]`.
    pub anchors: Tensor,
    /// The class of each, i64 `[N, K]`.
    pub labels: Tensor,
}

impl Filter {
    /// The best of each level; every class of every anchor counts by itself. `scores`: `[N, A, C]`.
    ///
    /// # Errors
    /// The shapes are others.
    pub fn best_of_levels(&self, scores: &Tensor, per_level: &[i64]) -> Result<Best> {
        let classes = scores.size3()?.2;
        let (mut best, mut places) = (Vec::new(), Vec::new());
        let mut first = 0;
        for count in per_level {
            let flat = scores.f_narrow(1, first, *count)?.f_flatten(1, 2)?;
            let kept = self.topk_candidates.min(count * classes);
            let (values, top) = flat.f_topk(kept, 1, true, true)?;
            best.push(values);
            places.push(top + first * classes);
            first += count;
        }
        let places = Tensor::f_cat(&places, 1)?;
        Ok(Best {
            scores: Tensor::f_cat(&best, 1)?,
            anchors: places.f_divide_scalar_mode(classes, "floor")?,
            labels: places.f_remainder(classes)?,
        })
    }

    /// The detections of each image. `decode` makes boxes `[M, 4]` of the rows `[M]` of `[N · A, …]` and the anchors `[M]` that they are of;
    /// `anchors`: A.
    ///
    /// # Errors
    /// The shapes are others, or torchvision's library is missing.
    pub fn detections(
        &self,
        best: &Best,
        anchors: i64,
        images: &[ImageSize],
        decode: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Detections>> {
        let per_image = best.scores.size2()?.1;
        let good = indices(&best.scores.f_flatten(0, 1)?.f_gt(self.score_thresh)?)?;
        let of = |all: &Tensor| all.f_flatten(0, 1)?.f_index_select(0, &good);
        let (scores, anchor, labels) = (of(&best.scores)?, of(&best.anchors)?, of(&best.labels)?);
        let image = good.f_divide_scalar_mode(per_image, "floor")?;
        let boxes = decode(&image.f_mul_scalar(anchors)?.f_add(&anchor)?, &anchor)?;
        let limits = sizes_on(images, boxes.device())?.f_index_select(0, &image)?;
        let boxes = clip_each(&boxes, &limits)?;
        let valid = Tensor::f_ones_like(&good)?.f_to_kind(Kind::Bool)?;
        let all = Candidates { boxes: &boxes, scores: &scores, image: &image, group: &labels, valid: &valid };
        let keep = all.suppress(images.len() as i64, self.nms_thresh, self.detections_per_img)?;
        let of_image = |keep: &Tensor| {
            let chosen = |of: &Tensor| of.f_index_select(0, keep);
            Ok(Detections::new(chosen(&boxes)?, chosen(&labels)?, chosen(&scores)?))
        };
        keep.iter().map(of_image).collect()
    }
}
