//! A model's detections in COCO format: at the size of the image on disk, masks as RLE.

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Tensor};

use pipe_coco::eval::Detection;
use pipe_coco::mask::Rle;
use pipe_data::Detections;
use pipe_vision::nn::functional::resize_bilinear;

/// Probability above which a pixel belongs to an object, as in torchvision's references.
const MASK_THRESHOLD: f64 = 0.5;
/// Maximum number of mask values processed at once: 100 masks of a large image take half a gigabyte.
const MASK_NUMBERS: i64 = 1 << 25;

/// The detections of one image. `given` is the image's size (height, width) as the model saw it, `original` its size
/// on disk, to which boxes, masks and keypoints are scaled. Categories are the labels.
///
/// # Errors
/// When `masks` are requested and there are none, or the shapes do not match.
pub fn to_coco(found: &Detections, given: [i64; 2], original: [i64; 2], masks: bool) -> Result<Vec<Detection>> {
    let count = found.scores.size1()?;
    ensure!(found.boxes.size() == [count, 4], "{count} scores for boxes {:?}", found.boxes.size());
    // Double precision from the start, so that a results file has the numbers that are evaluated.
    let host = |tensor: &Tensor| tensor.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1);
    let boxes: Vec<f64> = host(&found.boxes).try_into()?;
    let scores: Vec<f64> = host(&found.scores).try_into()?;
    let labels: Vec<i64> = (&found.labels.to_device(Device::Cpu)).try_into()?;
    ensure!(labels.len() == scores.len(), "{count} scores for {} labels", labels.len());
    let masks = if masks { encode(found, original)? } else { Vec::new() };
    let mut masks = masks.into_iter();
    let mut keypoints = points(found)?.into_iter();
    let [y, x] = [0, 1].map(|axis| original[axis] as f64 / given[axis].max(1) as f64);
    let scaled = |points: Vec<[f64; 3]>| points.into_iter().map(|[px, py, v]| [px * x, py * y, v]).collect();
    let one = |((corners, score), label): ((&[f64], &f64), &i64)| {
        let [x1, y1, x2, y2] = [corners[0] * x, corners[1] * y, corners[2] * x, corners[3] * y];
        Ok(Detection {
            category_id: u32::try_from(*label).with_context(|| format!("label {label}"))?,
            bbox: [x1, y1, x2 - x1, y2 - y1],
            score: *score,
            mask: masks.next(),
            keypoints: scaled(keypoints.next().unwrap_or_default()),
            area: None,
        })
    };
    boxes.chunks_exact(4).zip(&scores).zip(&labels).map(one).collect()
}

/// The keypoints of each detection; none of a model without.
fn points(found: &Detections) -> Result<Vec<Vec<[f64; 3]>>> {
    let Some(keypoints) = &found.keypoints else { return Ok(Vec::new()) };
    let (count, each, _) = keypoints.size3().context("keypoints must be [N, K, 3]")?;
    ensure!(count == found.scores.size()[0], "keypoints of {count} objects for {} detections", found.scores.size()[0]);
    let flat: Vec<f64> = keypoints.to_device(Device::Cpu).to_kind(Kind::Double).flatten(0, -1).try_into()?;
    Ok(flat.as_chunks::<3>().0.chunks(each.max(1) as usize).map(<[_]>::to_vec).collect())
}

/// Probabilities `[N, 1, H, W]` as RLE at another size, interpolated before thresholding.
fn encode(found: &Detections, [height, width]: [i64; 2]) -> Result<Vec<Rle>> {
    let masks = found.masks.as_ref().context("the detections have no masks; does the model predict masks?")?;
    let (count, _, given_height, given_width) = masks.size4().context("masks must be [N, 1, H, W]")?;
    ensure!(count == found.scores.size()[0], "{count} masks for {} detections", found.scores.size()[0]);
    let step = (MASK_NUMBERS / (height * width).max(1)).max(1);
    let mut encoded = Vec::with_capacity(count as usize);
    for first in (0..count).step_by(step as usize) {
        let mut part = masks.f_narrow(0, first, step.min(count - first))?;
        if (given_height, given_width) != (height, width) {
            part = resize_bilinear(&part, (height, width))?;
        }
        let bits = part.f_gt(MASK_THRESHOLD)?.f_view_dtype(Kind::Uint8)?.f_to_device(Device::Cpu)?;
        let bits = pipe_native::buffer::bytes(&bits.f_contiguous()?)?;
        let (rows, columns) = (u32::try_from(height)?, u32::try_from(width)?);
        for plane in bits.chunks_exact((height * width).max(1) as usize) {
            encoded.push(Rle::encode(plane, rows, columns)?);
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(masks: Option<Tensor>) -> Detections {
        let boxes = Tensor::from_slice2(&[[2f32, 4.0, 6.0, 8.0]]);
        let found = Detections::new(boxes, Tensor::from_slice(&[7i64]), Tensor::from_slice(&[0.5f32]));
        Detections { masks, ..found }
    }

    #[test]
    fn boxes_and_masks_are_scaled_to_the_size_on_disk() {
        let mut plane = Tensor::zeros([1, 1, 10, 20], (Kind::Float, Device::Cpu));
        let _ = plane.narrow(2, 4, 4).narrow(3, 2, 4).fill_(0.9);
        plane = plane.contiguous();
        let found = to_coco(&one(Some(plane.copy())), [10, 20], [30, 40], true).unwrap();
        assert_eq!(found[0].bbox, [4.0, 12.0, 8.0, 12.0]);
        assert_eq!((found[0].category_id, found[0].score), (7, 0.5));
        let mask = found[0].mask.as_ref().unwrap();
        assert_eq!((mask.height(), mask.width(), mask.bbox()), (30, 40, [4.0, 12.0, 8.0, 12.0]));
        let same = to_coco(&one(Some(plane)), [10, 20], [10, 20], true).unwrap();
        assert_eq!(same[0].mask.as_ref().unwrap().area(), 16);
    }

    #[test]
    fn nothing_found_is_nothing_and_missing_masks_are_named() {
        let floats = (Kind::Float, Device::Cpu);
        let labels = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        let none = Detections::new(Tensor::zeros([0, 4], floats), labels, Tensor::zeros([0], floats));
        let none = Detections { masks: Some(Tensor::zeros([0, 1, 10, 20], floats)), ..none };
        assert!(to_coco(&none, [10, 20], [30, 40], true).unwrap().is_empty());
        let error = to_coco(&one(None), [10, 20], [10, 20], true).unwrap_err().to_string();
        assert!(error.contains("no masks"), "{error}");
        assert!(to_coco(&one(None), [10, 20], [10, 20], false).unwrap()[0].mask.is_none());
    }

    #[test]
    fn keypoints_are_scaled_to_the_size_on_disk() {
        let keypoints = Tensor::from_slice(&[2f32, 4.0, 1.0, 6.0, 8.0, 1.0]).view([1, 2, 3]);
        let found = Detections { keypoints: Some(keypoints), ..one(None) };
        let found = to_coco(&found, [10, 20], [30, 40], false).unwrap();
        assert_eq!(found[0].keypoints, [[4.0, 12.0, 1.0], [12.0, 24.0, 1.0]]);
        assert!(to_coco(&one(None), [10, 20], [30, 40], false).unwrap()[0].keypoints.is_empty());
    }
}
