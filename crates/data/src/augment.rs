//! The operations of TrivialAugment (Müller and Hutter 2021), as torchvision's `TrivialAugmentWide` has them. What moves the image
//! moves all that belongs to it.

use anyhow::Result;

use super::geometry::{Affine, Interpolation, size, warp};
use super::sample::Sample;
use super::{color, filter};

/// An operation whose strength is a magnitude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

use Operation::{
    AutoContrast, Brightness, Color, Contrast, Equalize, Identity, Posterize, Rotate, Sharpness, ShearX, ShearY,
    Solarize, TranslateX, TranslateY,
};

impl Operation {
    /// All of them, in torchvision's order.
    pub const ALL: [Operation; 14] = [
        Identity,
        ShearX,
        ShearY,
        TranslateX,
        TranslateY,
        Rotate,
        Brightness,
        Color,
        Contrast,
        Sharpness,
        Posterize,
        Solarize,
        AutoContrast,
        Equalize,
    ];

    /// Whether its magnitude may be negative.
    pub fn is_signed(self) -> bool {
        !matches!(self, Identity | Posterize | Solarize | AutoContrast | Equalize)
    }

    /// The magnitude number `bin` of `bins`, at least 2; `None` for an operation without one.
    pub fn magnitude(self, bin: usize, bins: usize) -> Option<f64> {
        match self {
            Identity | AutoContrast | Equalize => None,
            ShearX | ShearY | Brightness | Color | Contrast | Sharpness => Some(linspace(0.0, 0.99, bin, bins)),
            TranslateX | TranslateY => Some(linspace(0.0, 32.0, bin, bins)),
            Rotate => Some(linspace(0.0, 135.0, bin, bins)),
            Posterize => {
                let part = bin as f32 / ((bins as f64 - 1.0) / 6.0) as f32;
                Some(f64::from((8.0 - part).round_ties_even()))
            }
            Solarize => Some(linspace(1.0, 0.0, bin, bins)),
        }
    }

    /// Does it to a sample.
    ///
    /// # Errors
    /// When the sample has no image.
    pub fn apply(self, sample: &mut Sample, magnitude: f64, interpolation: Interpolation, fill: &[f32]) -> Result<()> {
        let (height, width) = size(sample)?;
        let no_shift = (0.0, 0.0);
        let sheared = |shear| {
            // About the upper left corner.
            Affine::new(0.0, no_shift, 1.0, shear).about((-0.5 * width as f64, -0.5 * height as f64))
        };
        let angle = magnitude.atan().to_degrees();
        let affine = match self {
            ShearX => sheared((angle, 0.0)),
            ShearY => sheared((0.0, angle)),
            TranslateX => Affine::new(0.0, (magnitude.trunc(), 0.0), 1.0, no_shift),
            TranslateY => Affine::new(0.0, (0.0, magnitude.trunc()), 1.0, no_shift),
            // torchvision turns counterclockwise here.
            Rotate => Affine::new(-magnitude, no_shift, 1.0, no_shift),
            _ => return self.recolor(sample, magnitude),
        };
        warp(sample, &affine, interpolation, fill)
    }

    fn recolor(self, sample: &mut Sample, magnitude: f64) -> Result<()> {
        let image = sample.image_mut()?;
        match self {
            Brightness => color::adjust_brightness(image, 1.0 + magnitude),
            Color => color::adjust_saturation(image, 1.0 + magnitude),
            Contrast => color::adjust_contrast(image, 1.0 + magnitude),
            Sharpness => filter::adjust_sharpness(image, 1.0 + magnitude),
            Posterize => color::posterize(image, magnitude as u32),
            Solarize => color::solarize(image, magnitude),
            AutoContrast => color::autocontrast(image),
            Equalize => color::equalize(image),
            _ => {}
        }
        Ok(())
    }
}

/// An element of `torch.linspace`, in single precision, with one rounding and from the nearer end, as libtorch computes it.
fn linspace(start: f32, end: f32, at: usize, steps: usize) -> f64 {
    let step = (end - start) / (steps as f32 - 1.0);
    let near = at < steps / 2;
    f64::from(if near { step.mul_add(at as f32, start) } else { (-step).mul_add((steps - 1 - at) as f32, end) })
}
