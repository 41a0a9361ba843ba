//! Helpers of the handlers that draw images: images from batches, class names.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use pipe_core::{Dataset, NodeId, RecordValue, RunContext};
use pipe_draw::RgbImage;
use pipe_vocab::Objects;

/// A `[C, H, W]` tensor as an image: bytes as they are, floats from 0..1. Floats of another range (normalized ones) are
/// rescaled from their minimum and maximum.
///
/// # Errors
/// When it has neither 1 nor 3 channels.
pub fn picture(image: &Tensor) -> Result<RgbImage> {
    let size = image.size();
    ensure!(size.len() == 3 && matches!(size[0], 1 | 3), "an image must be [1 or 3, H, W], not {size:?}");
    let image = image.detach().to_device(Device::Cpu);
    let bytes = if image.kind() == Kind::Uint8 || image.numel() == 0 {
        image.to_kind(Kind::Uint8)
    } else {
        let image = image.to_kind(Kind::Float).nan_to_num(0.0, 1.0, 0.0);
        let (low, high) = (image.min().double_value(&[]), image.max().double_value(&[]));
        let image = if low < 0.0 || high > 1.0 { (image - low) / (high - low).max(1e-6) } else { image };
        (image * 255.0).round().to_kind(Kind::Uint8)
    };
    let rows = bytes.expand([3, size[1], size[2]], true).permute([1, 2, 0]).contiguous();
    RgbImage::from_data(size[1] as usize, size[2] as usize, Vec::try_from(rows.flatten(0, -1))?)
}

/// Records an image of `node`, with what is to be seen on it.
///
/// # Errors
/// When a sink fails.
pub fn emit(run: &RunContext, node: &NodeId, tag: String, image: RgbImage, objects: Option<Objects>) -> Result<()> {
    let (height, width, objects) = (image.height(), image.width(), objects.map(Box::new));
    run.emit(node, tag, RecordValue::Image { height, width, rgb: image.into_data(), objects })
}

/// Class names by label.
#[derive(Debug, Default)]
pub struct ClassNames(HashMap<i64, String>);

impl ClassNames {
    /// The class names of a dataset.
    pub fn of(dataset: &dyn Dataset) -> ClassNames {
        ClassNames(dataset.class_names().into_iter().collect())
    }

    /// The name of a class, or its number.
    pub fn get(&self, label: i64) -> String {
        self.0.get(&label).cloned().unwrap_or_else(|| label.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_floats_and_normalised_values() {
        let gray = picture(&Tensor::from_slice(&[0.0f32, 0.5, 1.0, f32::NAN]).view([1, 2, 2])).unwrap();
        assert_eq!(gray.data(), [[0; 3], [128; 3], [255; 3], [0; 3]].as_flattened());
        let normal = picture(&Tensor::from_slice(&[-2.0f32, 2.0]).view([1, 1, 2])).unwrap();
        assert_eq!(normal.data(), [0, 0, 0, 255, 255, 255]);
        let bytes = picture(&Tensor::from_slice(&[1u8, 2, 3, 4, 5, 6]).view([3, 1, 2])).unwrap();
        assert_eq!(bytes.data(), [1, 3, 5, 2, 4, 6]);
        assert!(picture(&Tensor::from_slice(&[1u8, 2]).view([2, 1, 1])).is_err());
    }
}
