//! Masks of boxes and masks of images, one made from the other.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use super::boxes::columns;
use super::{ImageSize, ops};
use crate::nn::functional::resize_bilinear;

/// Puts masks predicted within boxes where the boxes are: probabilities `[N, 1, M, M]` and boxes `[N, 4]` in pixels of an
/// image of this size → probabilities `[N, 1, H, W]`. As torchvision's `paste_masks_in_image`.
///
/// # Errors
/// The shapes are others, or memory for the masks is short.
pub fn paste(masks: &Tensor, boxes: &Tensor, (height, width): ImageSize) -> Result<Tensor> {
    let (count, _, side, _) = masks.size4()?;
    ensure!(boxes.size() == [count, 4], "{count} masks for boxes {:?}", boxes.size());
    let pasted = Tensor::f_zeros([count, 1, height, width], (masks.kind(), masks.device()))?;
    if count == 0 {
        return Ok(pasted);
    }
    // A border of zeros, so that a mask fades out at its box instead of being cut.
    let padded = masks.f_constant_pad_nd([1, 1, 1, 1])?;
    let scale = (side + 2) as f64 / side as f64;
    // All boxes come to the host at once: asking for each number would wait for the device each time.
    let corners: Vec<i64> = grow(boxes, scale)?.f_to_kind(Kind::Int64)?.f_flatten(0, -1)?.try_into()?;
    for (index, corner) in corners.chunks_exact(4).enumerate() {
        let index = index as i64;
        let [x1, y1, x2, y2] = [corner[0], corner[1], corner[2], corner[3]];
        let (left, right) = (x1.max(0), x2.saturating_add(1).min(width));
        let (top, bottom) = (y1.max(0), y2.saturating_add(1).min(height));
        if left >= right || top >= bottom {
            continue;
        }
        let size = (y2.saturating_sub(y1).saturating_add(1).max(1), x2.saturating_sub(x1).saturating_add(1).max(1));
        let mask = resize_bilinear(&padded.f_narrow(0, index, 1)?, size)?;
        let visible = mask.f_narrow(2, top - y1, bottom - top)?.f_narrow(3, left - x1, right - left)?;
        let place = pasted.f_narrow(0, index, 1)?.f_narrow(2, top, bottom - top)?;
        place.f_narrow(3, left, right - left)?.f_copy_(&visible)?;
    }
    Ok(pasted)
}

/// Boxes with the same centres and sides `scale` times as long.
fn grow(boxes: &Tensor, scale: f64) -> Result<Tensor> {
    let [x1, y1, x2, y2] = columns(boxes)?;
    let half_w = (&x2 - &x1) * 0.5 * scale;
    let half_h = (&y2 - &y1) * 0.5 * scale;
    let (x, y) = ((x2 + x1) * 0.5, (y2 + y1) * 0.5);
    Ok(Tensor::f_stack(&[&x - &half_w, &y - &half_h, x + half_w, y + half_h], 1)?)
}

/// What a mask head should draw: the part of image masks `[N, H, W]` in each of `boxes` `[K, 4]`, as `[K, M, M]` values
/// from 0 to 1; `matched` (i64 `[K]`) says which mask belongs to a box.
///
/// # Errors
/// The shapes are others.
pub fn project(masks: &Tensor, boxes: &Tensor, matched: &Tensor, side: i64) -> Result<Tensor> {
    let rois = Tensor::f_cat(&[&matched.f_to_kind(boxes.kind())?.f_unsqueeze(1)?, boxes], 1)?;
    let masks = masks.f_unsqueeze(1)?.f_to_kind(boxes.kind())?;
    Ok(ops::roi_align(&masks, &rois, 1.0, side, 0)?.f_squeeze_dim(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn pasted_masks_lie_in_their_boxes_and_beyond_the_border_are_cut() {
        let masks = Tensor::ones([2, 1, 28, 28], (Kind::Float, Device::Cpu));
        let boxes = Tensor::from_slice2(&[[4f32, 2.0, 12.0, 8.0], [-6.0, -6.0, 5.0, 5.0]]);
        let pasted = paste(&masks, &boxes, (16, 20)).unwrap();
        assert_eq!(pasted.size(), [2, 1, 16, 20]);
        assert_eq!(pasted.double_value(&[0, 0, 5, 8]), 1.0);
        assert_eq!(pasted.double_value(&[0, 0, 12, 8]), 0.0);
        assert_eq!(pasted.double_value(&[1, 0, 0, 0]), 1.0);
        let inside: Vec<f64> =
            pasted.sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double).flatten(0, -1).try_into().unwrap();
        // Grown and cut to whole pixels the box is 10×8; at this size no sample falls on the border of zeros.
        assert_eq!(inside[0], 80.0);
    }

    #[test]
    fn projected_masks_are_cut_from_the_image() {
        let mut masks = Tensor::zeros([2, 16, 16], (Kind::Uint8, Device::Cpu));
        let _ = masks.get(1).narrow(0, 4, 8).narrow(1, 4, 8).fill_(1);
        masks = masks.contiguous();
        let boxes = Tensor::from_slice2(&[[4f32, 4.0, 12.0, 12.0], [4.0, 4.0, 12.0, 12.0]]);
        let targets = project(&masks, &boxes, &Tensor::from_slice(&[1i64, 0]), 4).unwrap();
        assert_eq!(targets.size(), [2, 4, 4]);
        assert_eq!(targets.double_value(&[0, 1, 1]), 1.0);
        assert_eq!(f64::try_from(targets.get(1).sum(Kind::Float)).unwrap(), 0.0);
    }
}
