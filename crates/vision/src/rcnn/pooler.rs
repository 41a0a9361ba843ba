//! The features of boxes, each from the level of the pyramid that suits its size.

use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

use crate::boxes::{area, at_least_float, read_counts};
use crate::suppress::count_by;
use crate::{ImageSize, ops};

/// Side in pixels and level of the pyramid (2 is the largest map) that the paper's equation 1 is anchored at.
const CANONICAL: (f64, f64) = (224.0, 4.0);

/// `torchvision.ops.MultiScaleRoIAlign`. The choice of level is equation 1 of Lin et al. 2017.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MultiScaleRoiAlign {
    /// Bins on a side.
    pub output_size: i64,
    /// Samples in a bin on a side.
    pub sampling_ratio: i64,
}

impl MultiScaleRoiAlign {
    /// Features `[K, C, S, S]` of the boxes of all images, in order. `features`: maps `[N, C, H, W]`, large first;
    /// `boxes`: for each image `[K_i, 4]` in pixels of the resized images, whose sizes are `images`.
    ///
    /// # Errors
    /// The shapes are others, or there are no images.
    pub fn forward(&self, features: &[Tensor], boxes: &[Tensor], images: &[ImageSize]) -> Result<Tensor> {
        let scales = scales(features, images)?;
        let rois = with_image_index(boxes)?;
        let pool = |features: &Tensor, rois: &Tensor, scale: f64| {
            ops::roi_align(features, rois, scale, self.output_size, self.sampling_ratio)
        };
        if features.len() == 1 {
            return pool(&features[0], &rois, scales[0]);
        }
        let levels = levels(&rois.f_narrow(1, 1, 4)?, &scales)?;
        let all = Tensor::f_ones_like(&levels)?.f_to_kind(Kind::Bool)?;
        // One wait for the device, not one a level.
        let counts = read_counts(&count_by(&levels, &all, features.len() as i64)?)?;
        let (_, order) = levels.f_sort_stable(true, 0, false)?;
        let sorted = rois.f_index_select(0, &order)?;
        let (mut pooled, mut first) = (Vec::new(), 0);
        for ((features, scale), count) in features.iter().zip(&scales).zip(counts) {
            if count > 0 {
                pooled.push(pool(features, &sorted.f_narrow(0, first, count)?, *scale)?);
                first += count;
            }
        }
        match pooled.len() {
            0 => pool(&features[0], &rois, scales[0]),
            // All boxes in one level are still in their order.
            1 => Ok(pooled.remove(0)),
            _ => Ok(Tensor::f_cat(&pooled, 0)?.f_index_select(0, &order.f_argsort(0, false)?)?),
        }
    }
}

/// Maps as RoIAlign reads them on an accelerator, in single precision and one channel after the other: changed once for all heads.
///
/// # Errors
/// Memory is short.
pub fn as_pooled(maps: &[Tensor]) -> Result<Vec<Tensor>> {
    let changed = |map: &Tensor| match pipe_native::is_accelerator(map.device()) {
        true => Ok(at_least_float(map)?.f_contiguous()?),
        false => Ok(map.shallow_clone()),
    };
    maps.iter().map(changed).collect()
}

/// Features `[K, C, S, S]` with rows of zeros behind them where convolutions are planned for each shape: how many boxes there are is
/// another number in each step, and so it is one of few.
///
/// # Errors
/// Memory is short.
pub fn with_spare_rows(features: &Tensor) -> Result<Tensor> {
    let count = features.size()[0];
    if count == 0 || !pipe_native::device::plans_by_shape(features.device()) {
        return Ok(features.shallow_clone());
    }
    Ok(features.f_constant_pad_nd([0, 0, 0, 0, 0, 0, 0, steady(count) - count])?)
}

/// A number of rows that is at least `count`, of which there are few: multiples of 8, and of a sixteenth of the next power of two.
fn steady(count: i64) -> i64 {
    let step = (count.unsigned_abs().next_power_of_two() / 16).max(8).cast_signed();
    (count + step - 1) / step * step
}

/// Rows of image index and corners, `[K, 5]`.
fn with_image_index(boxes: &[Tensor]) -> Result<Tensor> {
    let all = Tensor::f_cat(boxes, 0)?;
    let index = all.f_narrow(1, 0, 1)?.f_empty_like()?;
    let counts: Vec<_> = boxes.iter().map(|boxes| boxes.size()[0]).collect();
    for (image, rows) in index.f_split_with_sizes(&counts, 0)?.iter().enumerate() {
        let _ = rows.shallow_clone().f_fill_(image as i64)?;
    }
    Ok(Tensor::f_cat(&[&index, &all], 1)?)
}

/// Each map's size over the images', as the nearest power of two (padding makes it inexact).
fn scales(features: &[Tensor], images: &[ImageSize]) -> Result<Vec<f64>> {
    let tallest = images.iter().map(|(height, _)| *height).max().unwrap_or(0);
    ensure!(tallest > 0 && !features.is_empty(), "pooling needs at least one image and one feature map");
    let scale = |map: &Tensor| -> Result<f64> {
        let (_, _, height, _) = map.size4()?;
        Ok(((height as f64 / tallest as f64) as f32).log2().round_ties_even().exp2().into())
    };
    features.iter().map(scale).collect()
}

/// The index of the map for each of the boxes `[K, 4]`: i64 `[K]`.
fn levels(boxes: &Tensor, scales: &[f64]) -> Result<Tensor> {
    let (side, level) = CANONICAL;
    // Keeps boxes of exactly a level's size in it.
    let epsilon = 1e-6;
    let (first, last) = (-scales[0].log2(), -scales[scales.len() - 1].log2());
    let sides = area(&at_least_float(boxes)?)?.f_sqrt()?;
    let target = ((sides / side).f_log2()? + level + epsilon).f_floor()?.f_clamp(first as i64, last as i64)?;
    Ok(target.f_to_kind(Kind::Int64)? - first as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn numbers_of_rows_are_few_and_near() {
        let all: std::collections::BTreeSet<i64> = (1..=1024).map(steady).collect();
        assert!(all.len() <= 40, "{}", all.len());
        assert!((1..=5000).all(|count| (0..=7.max(count / 8)).contains(&(steady(count) - count))));
    }

    #[test]
    fn boxes_find_their_level_and_keep_their_order() {
        let maps: Vec<_> = (0..4)
            .map(|level| Tensor::full([2, 1, 64 >> level, 64 >> level], level, (Kind::Float, Device::Cpu)))
            .collect();
        let square = |side: f32| [0f32, 0.0, side, side];
        let boxes = [
            Tensor::from_slice2(&[square(224.0), square(10.0)]),
            Tensor::from_slice2(&[square(111.9), square(112.0), square(250.0)]),
        ];
        let pooler = MultiScaleRoiAlign { output_size: 1, sampling_ratio: 2 };
        let pooled = pooler.forward(&maps, &boxes, &[(250, 256), (256, 256)]).unwrap();
        assert_eq!(pooled.size(), [5, 1, 1, 1]);
        assert_eq!(Vec::<f32>::try_from(pooled.flatten(0, -1)).unwrap(), [2.0, 0.0, 0.0, 1.0, 2.0]);
        let none = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        assert_eq!(pooler.forward(&maps, &[none], &[(256, 256)]).unwrap().size(), [0, 1, 1, 1]);
    }
}
