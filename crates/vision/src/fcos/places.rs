//! The places of the feature maps, and which object each learns of: section 3.1 of the paper.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::coder::middles;
use crate::anchors::AnchorGenerator;
use crate::boxes::{area, columns};
use crate::transform::ImageBatch;

/// More than the area of any box: the smallest box of those that fit a place wins.
const LARGEST: f64 = 1e8;

/// Every place is the middle of a square, whose side is the stride of its map.
#[derive(Debug)]
pub struct Places {
    squares: AnchorGenerator,
    radius: f64,
}

impl Places {
    /// For maps of these strides, in pixels. An object is learnt of up to `radius` strides from its centre.
    pub fn new(strides: &[f64], radius: f64) -> Result<Self> {
        let sizes: Vec<_> = strides.iter().map(|stride| vec![*stride]).collect();
        Ok(Self { squares: AnchorGenerator::new(&sizes, &vec![vec![1.0]; sizes.len()])?, radius })
    }

    /// The squares of all maps, `[A, 4]`.
    pub fn squares(&self, batch: &ImageBatch, maps: &[Tensor]) -> Result<Tensor> {
        let (_, _, height, width) = batch.tensors.size4()?;
        self.squares.anchors((height, width), maps)
    }

    /// Between which numbers of pixels, `[A]` each, the farthest side of an object must lie for a place to learn of it.
    pub fn ranges(&self, squares: &Tensor, per_level: &[i64]) -> Result<[Tensor; 2]> {
        let side = middles(squares)?[2].shallow_clone();
        let (least, most) = (&side * 4.0, side * 8.0);
        let (first, last) = (per_level[0], per_level[per_level.len() - 1]);
        let _ = least.f_narrow(0, 0, first)?.f_zero_()?;
        let _ = most.f_narrow(0, most.size()[0] - last, last)?.f_fill_(f64::INFINITY)?;
        Ok([least, most])
    }

    /// Of boxes `[G, 4]` the one that each place learns of, or −1: i64 `[A]`.
    pub fn matches(&self, boxes: &Tensor, squares: &Tensor, [least, most]: &[Tensor; 2]) -> Result<Tensor> {
        let [x, y, side, _] = middles(squares)?;
        let [x1, y1, x2, y2] = columns(&boxes.f_unsqueeze(1)?)?;
        let (middle_x, middle_y) = ((&x1 + &x2) / 2.0, (&y1 + &y2) / 2.0);
        let from_middle = (&x - middle_x).f_abs()?.f_maximum(&(&y - middle_y).f_abs()?)?;
        let central = from_middle.f_lt_tensor(&(side * self.radius))?;
        let (left, top, right, bottom) = (&x - x1, &y - y1, x2 - x, y2 - y);
        let nearest = left.f_minimum(&top)?.f_minimum(&right)?.f_minimum(&bottom)?;
        let farthest = left.f_maximum(&top)?.f_maximum(&right)?.f_maximum(&bottom)?;
        let of_level = farthest.f_gt_tensor(least)?.f_logical_and(&farthest.f_lt_tensor(most)?)?;
        let fits = central.f_logical_and(&nearest.f_gt(0.0)?)?.f_logical_and(&of_level)?;
        let quality = fits.f_to_kind(Kind::Float)? * (LARGEST - area(boxes)?.f_unsqueeze(1)?);
        let (best, of) = quality.f_max_dim(0, false)?;
        Ok(of.f_masked_fill(&best.f_lt(1e-5)?, -1)?)
    }
}
