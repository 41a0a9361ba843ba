//! Functions on boxes: `[N, 4]` as `x1, y1, x2, y2` in pixels, as in `torchvision.ops.boxes`.

use anyhow::Result;
use tch::{Kind, Tensor};

use super::ImageSize;

/// How the four numbers of a box are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxFormat {
    /// `x1, y1, x2, y2`: opposite corners.
    Xyxy,
    /// `x1, y1, width, height`, as COCO stores boxes.
    Xywh,
    /// Centre, width, height.
    Cxcywh,
}

/// Boxes of one format in another, `[…, 4]`; as `torchvision.ops.box_convert`.
///
/// # Errors
/// The last dimension is not 4.
pub fn convert(boxes: &Tensor, from: BoxFormat, to: BoxFormat) -> Result<Tensor> {
    if from == to {
        return Ok(boxes.shallow_clone());
    }
    let [a, b, c, d] = columns(boxes)?;
    let (x1, y1, x2, y2) = match from {
        BoxFormat::Xyxy => (a, b, c, d),
        BoxFormat::Xywh => {
            let (x2, y2) = (&a + c, &b + d);
            (a, b, x2, y2)
        }
        BoxFormat::Cxcywh => {
            let (half_w, half_h) = (c * 0.5, d * 0.5);
            (&a - &half_w, &b - &half_h, a + half_w, b + half_h)
        }
    };
    let columns = match to {
        BoxFormat::Xyxy => [x1, y1, x2, y2],
        BoxFormat::Xywh => {
            let (w, h) = (x2 - &x1, y2 - &y1);
            [x1, y1, w, h]
        }
        BoxFormat::Cxcywh => [(&x1 + &x2) / 2.0, (&y1 + &y2) / 2.0, x2 - x1, y2 - y1],
    };
    Ok(Tensor::f_stack(&columns, -1)?)
}

/// The four columns of `[…, 4]`.
pub(super) fn columns(boxes: &Tensor) -> Result<[Tensor; 4]> {
    let size = boxes.size();
    let columns: Result<[Tensor; 4], _> = boxes.f_unbind(-1)?.try_into();
    columns.map_err(|_| anyhow::anyhow!("boxes must have a last dimension of 4, not {size:?}"))
}

/// Area of each box, `[N]`, in square pixels.
///
/// # Errors
/// `boxes` is not `[N, 4]`.
pub fn area(boxes: &Tensor) -> Result<Tensor> {
    let [x1, y1, x2, y2] = columns(boxes)?;
    Ok((x2 - x1) * (y2 - y1))
}

/// Intersection over union of each of `a` `[N, 4]` with each of `b` `[M, 4]`: `[N, M]`.
///
/// # Errors
/// The shapes are others, or memory for `N · M` numbers is short.
pub fn iou(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (areas_a, areas_b) = (area(a)?.f_unsqueeze(1)?, area(b)?);
    let rows = columns(&a.f_unsqueeze(1)?)?;
    let cols = columns(b)?;
    // One axis after the other: no [N, M, 2] tensor, which for an image's anchors would be hundreds of megabytes.
    let side = |low: usize, high: usize| -> Result<Tensor> {
        let end = rows[high].f_minimum(&cols[high])?;
        Ok(end.f_sub(&rows[low].f_maximum(&cols[low])?)?.f_clamp_min_(0)?)
    };
    let inter = side(0, 2)?.f_mul_(&side(1, 3)?)?;
    let union = areas_a.f_add(&areas_b)?.f_sub_(&inter)?;
    Ok(inter.f_div(&union)?)
}

/// Whether both sides of each box are at least `min_size` pixels: bool `[N]`.
///
/// # Errors
/// `boxes` is not `[N, 4]`.
pub fn large_enough(boxes: &Tensor, min_size: f64) -> Result<Tensor> {
    let [x1, y1, x2, y2] = columns(boxes)?;
    Ok((x2 - x1).f_ge(min_size)?.f_logical_and(&(y2 - y1).f_ge(min_size)?)?)
}

/// Boxes of an image resized from one size to another.
///
/// # Errors
/// `boxes` is not `[N, 4]`.
pub fn resize(boxes: &Tensor, from: ImageSize, to: ImageSize) -> Result<Tensor> {
    if from == to {
        return Ok(boxes.shallow_clone());
    }
    // The ratios in single precision, as torchvision computes them.
    let ratio = |new: i64, old: i64| f64::from(new as f32 / old as f32);
    let (ry, rx) = (ratio(to.0, from.0), ratio(to.1, from.1));
    let [x1, y1, x2, y2] = columns(boxes)?;
    Ok(Tensor::f_stack(&[x1 * rx, y1 * ry, x2 * rx, y2 * ry], -1)?)
}

/// The places where a bool `[N]` is true, in order: i64 `[K]`.
pub(super) fn indices(mask: &Tensor) -> Result<Tensor> {
    Ok(mask.f_nonzero()?.f_squeeze_dim(1)?)
}

/// [`indices`] where their number is known, without a wait for the device.
pub(super) fn known_indices(mask: &Tensor, count: i64) -> Result<Tensor> {
    Ok(mask.f_nonzero_static(count, 0)?.f_squeeze_dim(1)?)
}

/// Brings counts to the host, all at once: it waits for the device.
pub(super) fn read_counts(counts: &Tensor) -> Result<Vec<i64>> {
    Ok(counts.f_flatten(0, -1)?.try_into()?)
}

/// The sizes of images as a tensor, f32 `[N, 2]` of width and height, made on the device: an upload would wait.
pub(super) fn sizes_on(images: &[ImageSize], device: tch::Device) -> Result<Tensor> {
    let sizes = Tensor::f_empty([images.len() as i64, 2], (Kind::Float, device))?;
    for (image, (height, width)) in images.iter().enumerate() {
        let row = sizes.f_select(0, image as i64)?;
        let _ = row.f_select(0, 0)?.f_fill_(*width)?;
        let _ = row.f_select(0, 1)?.f_fill_(*height)?;
    }
    Ok(sizes)
}

/// Boxes `[M, 4]` cut off at the borders of the images that they are in; `limits`: width and height for each, `[M, 2]`.
pub(super) fn clip_each(boxes: &Tensor, limits: &Tensor) -> Result<Tensor> {
    Ok(boxes.f_clamp_min(0)?.f_minimum(&limits.f_repeat([1, 2])?.f_to_kind(boxes.kind())?)?)
}

/// At least single precision: boxes of a thousand pixels do not survive half's ten or bfloat16's seven bits.
pub(super) fn at_least_float(tensor: &Tensor) -> Result<Tensor> {
    Ok(match tensor.kind() {
        Kind::Half | Kind::BFloat16 => tensor.f_to_kind(Kind::Float)?,
        _ => tensor.shallow_clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[[f32; 4]]) -> Tensor {
        Tensor::from_slice2(rows)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten(0, -1).try_into().unwrap()
    }

    #[test]
    fn formats_go_round() {
        let boxes = of(&[[10.0, 20.0, 40.0, 80.0], [0.0, 0.0, 1.0, 2.0]]);
        for format in [BoxFormat::Xyxy, BoxFormat::Xywh, BoxFormat::Cxcywh] {
            let there = convert(&boxes, BoxFormat::Xyxy, format).unwrap();
            assert_eq!(convert(&there, format, BoxFormat::Xyxy).unwrap(), boxes, "{format:?}");
        }
        assert_eq!(values(&convert(&boxes, BoxFormat::Xyxy, BoxFormat::Xywh).unwrap())[..4], [10.0, 20.0, 30.0, 60.0]);
        assert_eq!(
            values(&convert(&boxes, BoxFormat::Xyxy, BoxFormat::Cxcywh).unwrap())[..4],
            [25.0, 50.0, 30.0, 60.0]
        );
        assert!(
            convert(&Tensor::zeros([2, 5], (Kind::Float, tch::Device::Cpu)), BoxFormat::Xywh, BoxFormat::Xyxy).is_err()
        );
    }

    #[test]
    fn overlap() {
        let a = of(&[[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 1.0, 1.0]]);
        let b = of(&[[1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0], [0.0, 0.0, 2.0, 2.0]]);
        assert_eq!(values(&iou(&a, &b).unwrap()), [1.0 / 3.0, 0.0, 1.0, 0.0, 0.0, 0.25]);
        let none = Tensor::zeros([0, 4], (Kind::Float, tch::Device::Cpu));
        assert_eq!(iou(&none, &b).unwrap().size(), [0, 3]);
    }

    #[test]
    fn clipped_and_filtered() {
        let boxes = of(&[[-5.0, 3.0, 700.0, 9.0], [1.0, 1.0, 1.5, 8.0]]);
        let limits = sizes_on(&[(8, 640)], tch::Device::Cpu).unwrap().repeat([2, 1]);
        let clipped = clip_each(&boxes, &limits).unwrap();
        assert_eq!(values(&clipped), [0.0, 3.0, 640.0, 8.0, 1.0, 1.0, 1.5, 8.0]);
        let large = large_enough(&clipped, 1.0).unwrap();
        assert_eq!(Vec::<bool>::try_from(large).unwrap(), [true, false]);
        assert_eq!(values(&resize(&boxes, (10, 10), (20, 5)).unwrap())[4..], [0.5, 2.0, 0.75, 16.0]);
    }
}
