//! Anchors: reference boxes of several sizes and shapes at every place of every feature map.

use std::cell::RefCell;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::ImageSize;

/// Makes the anchors of a pyramid of feature maps; as `torchvision.models.detection.anchor_utils.AnchorGenerator`.
#[derive(Debug)]
pub struct AnchorGenerator {
    /// For each level the anchors around the origin, `[A, 4]`.
    cells: Vec<Tensor>,
    /// The same on the device where they were wanted last: an upload in every step would wait each time.
    moved: RefCell<Vec<Tensor>>,
}

impl AnchorGenerator {
    /// `sizes`: for each level the sides of square anchors, in pixels; `aspect_ratios`: for each level height / width.
    ///
    /// # Errors
    /// The two have another number of levels, a level has no anchors or another number than the first, or a number is not
    /// positive.
    pub fn new(sizes: &[Vec<f64>], aspect_ratios: &[Vec<f64>]) -> Result<Self> {
        let (levels, ratios) = (sizes.len(), aspect_ratios.len());
        ensure!(
            levels == ratios && levels > 0,
            "anchors: sizes for {levels} levels but aspect ratios for {ratios}; give both one list per level"
        );
        let positive = sizes.iter().chain(aspect_ratios).flatten().all(|number| *number > 0.0);
        ensure!(positive, "anchors: every size and aspect ratio must be positive");
        let cells = sizes.iter().zip(aspect_ratios).map(|(sizes, ratios)| cell(sizes, ratios));
        let cells = cells.collect::<Result<Vec<_>>>()?;
        let counts: Vec<_> = cells.iter().map(|cell| cell.size()[0]).collect();
        ensure!(
            counts[0] > 0 && counts.iter().all(|count| *count == counts[0]),
            "anchors: every level must have the same number of anchors per location, not {counts:?}"
        );
        Ok(Self { cells, moved: RefCell::default() })
    }

    /// Levels of the pyramid this makes anchors for.
    pub fn levels(&self) -> usize {
        self.cells.len()
    }

    /// Anchors at each place of a feature map.
    pub fn per_place(&self) -> i64 {
        self.cells[0].size()[0]
    }

    /// The anchors of all levels, one after the other, `[A, 4]` in pixels of the padded images of size `image`; within a
    /// level row by row, the anchors of a place together. The same for every image of a batch.
    ///
    /// # Errors
    /// The feature maps are not as many as the levels.
    pub fn anchors(&self, image: ImageSize, features: &[Tensor]) -> Result<Tensor> {
        ensure!(
            features.len() == self.cells.len(),
            "anchors are set for {} levels, but the backbone gives {} feature maps",
            self.cells.len(),
            features.len()
        );
        let device = features[0].device();
        let mut moved = self.moved.borrow_mut();
        if moved.first().is_none_or(|cell| cell.device() != device) {
            *moved = self.cells.iter().map(|cell| cell.f_to_device(device)).collect::<Result<_, _>>()?;
        }
        let levels = moved.iter().zip(features).map(|(cell, feature)| level(cell, image, feature));
        Ok(Tensor::f_cat(&levels.collect::<Result<Vec<_>>>()?, 0)?)
    }
}

/// The anchors of one level around the origin, rounded to whole pixels: ratios outside, sizes inside.
fn cell(sizes: &[f64], ratios: &[f64]) -> Result<Tensor> {
    let heights = Tensor::f_from_slice(ratios)?.f_to_kind(Kind::Float)?.f_sqrt()?;
    let widths = heights.f_reciprocal()?;
    let sizes = Tensor::f_from_slice(sizes)?.f_to_kind(Kind::Float)?.f_unsqueeze(0)?;
    let w = (widths.f_unsqueeze(1)? * &sizes).f_flatten(0, -1)?;
    let h = (heights.f_unsqueeze(1)? * &sizes).f_flatten(0, -1)?;
    Ok((Tensor::f_stack(&[-&w, -&h, w, h], 1)? / 2.0).f_round()?)
}

/// One level's anchors, moved to every place of its feature map `[N, C, H, W]`.
fn level(cell: &Tensor, image: ImageSize, feature: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = feature.size4()?;
    let device: Device = feature.device();
    let steps =
        |count: i64, stride: i64| Tensor::f_arange(count, (Kind::Float, device)).map(|steps| steps * stride as f64);
    let xs = steps(width, image.1 / width)?.f_view([1, width])?.f_expand([height, width], false)?;
    let ys = steps(height, image.0 / height)?.f_view([height, 1])?.f_expand([height, width], false)?;
    let shifts = Tensor::f_stack(&[&xs, &ys, &xs, &ys], 2)?.f_view([height * width, 1, 4])?;
    Ok(shifts.f_add(&cell.f_unsqueeze(0)?)?.f_reshape([-1, 4])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_levels() {
        let generator = AnchorGenerator::new(&[vec![32.0], vec![64.0]], &[vec![0.5, 1.0], vec![0.5, 1.0]]).unwrap();
        let map = |h, w| Tensor::zeros([1, 1, h, w], (Kind::Float, Device::Cpu));
        let anchors = generator.anchors((8, 16), &[map(2, 4), map(1, 2)]).unwrap();
        assert_eq!(anchors.size(), [2 * 8 + 2 * 2, 4]);
        let row = |index: i64| Vec::<f32>::try_from(anchors.get(index)).unwrap();
        assert_eq!(row(0), [-23.0, -11.0, 23.0, 11.0]);
        assert_eq!(row(1), [-16.0, -16.0, 16.0, 16.0]);
        assert_eq!(row(3), [-12.0, -16.0, 20.0, 16.0]);
        assert_eq!(row(9), [-16.0, -12.0, 16.0, 20.0]);
        assert_eq!(row(19), [-24.0, -32.0, 40.0, 32.0]);
    }

    #[test]
    fn uneven_settings_are_refused() {
        let text = AnchorGenerator::new(&[vec![32.0]], &[]).unwrap_err().to_string();
        assert!(text.contains("sizes for 1 levels but aspect ratios for 0"), "{text}");
        assert!(AnchorGenerator::new(&[vec![32.0], vec![32.0, 64.0]], &[vec![1.0], vec![1.0]]).is_err());
    }
}
