//! Pictures at another size.

use anyhow::{Context, Result, ensure};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32, F32x3, InnerPixel, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::image::{Image, Pixels};

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Linear between neighbours; over all pixels that a smaller one covers when a picture shrinks (antialiased).
    #[default]
    Bilinear,
    /// Cubic (Catmull-Rom's family, a = -0.5, as PIL's), antialiased likewise.
    Bicubic,
}

/// The picture at `height` by `width`. Bytes are interpolated as PIL and torchvision's `antialias=True` do, up to rounding
/// (at most 1 of 255, see `tests/parity/transforms`).
///
/// # Errors
/// When a side is zero, or there are neither 1 nor 3 channels.
pub fn resized(image: &Image, height: usize, width: usize, interpolation: Interpolation) -> Result<Image> {
    ensure!(height > 0 && width > 0, "a picture cannot be resized to {height} × {width}");
    ensure!(image.height > 0 && image.width > 0, "a picture of {} × {} cannot be resized", image.height, image.width);
    let algorithm = match interpolation {
        Interpolation::Nearest => ResizeAlg::Nearest,
        Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
    };
    let from = (image.height, image.width);
    let to = (height, width);
    let pixels = match (&image.pixels, image.channels) {
        (Pixels::U8(values), 1) => Pixels::U8(convolve::<U8, u8, 1>(values, from, to, algorithm)?),
        (Pixels::U8(values), 3) => Pixels::U8(convolve::<U8x3, u8, 3>(values, from, to, algorithm)?),
        (Pixels::F32(values), 1) => Pixels::F32(convolve::<F32, f32, 1>(values, from, to, algorithm)?),
        (Pixels::F32(values), 3) => Pixels::F32(convolve::<F32x3, f32, 3>(values, from, to, algorithm)?),
        (_, channels) => anyhow::bail!("a picture of {channels} channels cannot be resized"),
    };
    Ok(Image { height, width, channels: image.channels, pixels })
}

/// Values as pixels of the resizing library and back.
trait Convert<T, const C: usize>: InnerPixel {
    fn pack(values: [T; C]) -> Self;
    fn unpack(self) -> [T; C];
}

macro_rules! convert {
    ($pixel:ty, $value:ty, 1) => {
        impl Convert<$value, 1> for $pixel {
            fn pack([value]: [$value; 1]) -> Self {
                Self::new(value)
            }
            fn unpack(self) -> [$value; 1] {
                [self.0]
            }
        }
    };
    ($pixel:ty, $value:ty, 3) => {
        impl Convert<$value, 3> for $pixel {
            fn pack(values: [$value; 3]) -> Self {
                Self::new(values)
            }
            fn unpack(self) -> [$value; 3] {
                self.0
            }
        }
    };
}

convert!(U8, u8, 1);
convert!(U8x3, u8, 3);
convert!(F32, f32, 1);
convert!(F32x3, f32, 3);

fn convolve<P: PixelTrait + Convert<T, C> + Default, T: Copy, const C: usize>(
    values: &[T],
    (height, width): (usize, usize),
    (new_height, new_width): (usize, usize),
    algorithm: ResizeAlg,
) -> Result<Vec<T>> {
    let pixels: Vec<P> = values.as_chunks::<C>().0.iter().map(|&pixel| P::pack(pixel)).collect();
    // Rows first, then columns, with rounding between them: PIL's and torchvision's way. The library alone would begin with
    // the columns, and a fifth of the bytes would differ by one.
    let options = ResizeOptions::new().resize_alg(algorithm);
    let narrowed = pass(pixels, (height, width), (height, new_width), &options)?;
    let resized = pass(narrowed, (height, new_width), (new_height, new_width), &options)?;
    Ok(resized.iter().flat_map(|pixel| pixel.unpack()).collect())
}

fn pass<P: PixelTrait + Default>(
    pixels: Vec<P>,
    from: (usize, usize),
    to: (usize, usize),
    options: &ResizeOptions,
) -> Result<Vec<P>> {
    if from == to {
        return Ok(pixels);
    }
    let side = |value: usize| u32::try_from(value).context("a side of the picture is too long");
    let source = TypedImageRef::new(side(from.1)?, side(from.0)?, &pixels)?;
    let mut resized = vec![P::default(); to.0 * to.1];
    let mut target = TypedImage::from_pixels_slice(side(to.1)?, side(to.0)?, &mut resized)?;
    Resizer::new().resize_typed(&source, &mut target, options)?;
    drop(target);
    Ok(resized)
}
