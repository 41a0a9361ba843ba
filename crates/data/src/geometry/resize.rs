//! Images at another size.

use anyhow::{Context, Result, bail, ensure};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{F32, U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::image::{Image, Pixels};

/// How values between pixels are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// Linear between neighbors; over all pixels that a smaller one covers when an image shrinks (antialiased).
    #[default]
    Bilinear,
    /// Cubic (Catmull-Rom's family, a = -0.5, as PIL's), antialiased likewise.
    Bicubic,
}

/// An image of more pixels is not made: a digit too many, or an image of one row, would take all memory there is.
pub const MAX_PIXELS: usize = 178_956_970;

/// Refuses a size of more pixels than [`MAX_PIXELS`].
///
/// # Errors
/// The size, and where it comes from.
pub fn check_size(height: usize, width: usize) -> Result<()> {
    ensure!(
        height.saturating_mul(width) <= MAX_PIXELS,
        "it would make an image of {height} × {width} pixels, more than the {MAX_PIXELS} there may be: see the sizes among its \
         options, and the sides of the image"
    );
    Ok(())
}

/// The image at `height` by `width`. Bytes are interpolated as PIL and torchvision's `antialias=True` do, up to rounding
/// (at most 1 of 255, see `tests/parity/transforms`).
///
/// # Errors
/// When a side is zero, there are too many pixels ([`check_size`]), or there are neither 1 nor 3 channels.
pub fn resized(image: &Image, height: usize, width: usize, interpolation: Interpolation) -> Result<Image> {
    ensure!(height > 0 && width > 0, "an image cannot be resized to {height} × {width}");
    ensure!(image.height > 0 && image.width > 0, "an image of {} × {} cannot be resized", image.height, image.width);
    check_size(height, width)?;
    // What lies between the two passes of bytes.
    check_size(image.height, width)?;
    let algorithm = match interpolation {
        Interpolation::Nearest => ResizeAlg::Nearest,
        Interpolation::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Interpolation::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
    };
    let from = [image.height, image.width];
    let options = ResizeOptions::new().resize_alg(algorithm);
    let to = [height, width];
    let pixels = match (&image.pixels, image.channels) {
        (Pixels::U8(bytes), 1) => Pixels::U8(resize_bytes::<U8>(bytes, from, to, &options)?),
        (Pixels::U8(bytes), 3) => Pixels::U8(resize_bytes::<U8x3>(bytes, from, to, &options)?),
        (Pixels::F32(values), 1 | 3) => Pixels::F32(resize_floats(values, image.channels, from, to, &options)?),
        (_, channels) => bail!("an image of {channels} channels cannot be resized"),
    };
    Ok(Image { height, width, channels: image.channels, pixels })
}

/// Rows first, then columns, with rounding between them: PIL's and torchvision's way. The library alone would begin with
/// the columns, and a fifth of the bytes would differ by one.
fn resize_bytes<P: PixelTrait>(
    bytes: &[u8],
    from: [usize; 2],
    to: [usize; 2],
    options: &ResizeOptions,
) -> Result<Vec<u8>> {
    let between = [from[0], to[1]];
    // Of one type of pixels: the library's function for images of any is compiled here for each that it knows, which takes minutes.
    let pass = |bytes: &[u8], from: [usize; 2], to: [usize; 2]| -> Result<Vec<u8>> {
        let ([height, width], [new_height, new_width]) = (sides(from)?, sides(to)?);
        let source = TypedImageRef::<P>::from_buffer(width, height, bytes)?;
        let mut resized = vec![0; to[0] * to[1] * size_of::<P>()];
        let mut target = TypedImage::<P>::from_buffer(new_width, new_height, &mut resized)?;
        Resizer::new().resize_typed(&source, &mut target, options)?;
        Ok(resized)
    };
    match (from == between, between == to) {
        (true, true) => Ok(bytes.to_vec()),
        (true, false) => pass(bytes, from, to),
        (false, true) => pass(bytes, from, to),
        (false, false) => pass(&pass(bytes, from, between)?, between, to),
    }
}

/// Channel by channel: floats are resized rarely, after another step has made them.
fn resize_floats(
    values: &[f32],
    channels: usize,
    from: [usize; 2],
    to: [usize; 2],
    options: &ResizeOptions,
) -> Result<Vec<f32>> {
    let ([height, width], [new_height, new_width]) = (sides(from)?, sides(to)?);
    let mut resized = vec![0.0; to[0] * to[1] * channels];
    for c in 0..channels {
        let plane: Vec<F32> = values[c..].iter().step_by(channels).map(|&v| F32::new(v)).collect();
        let source = TypedImageRef::new(width, height, &plane)?;
        let mut target = TypedImage::<F32>::new(new_width, new_height);
        Resizer::new().resize_typed(&source, &mut target, options)?;
        resized[c..].iter_mut().step_by(channels).zip(target.pixels()).for_each(|(to, from)| *to = from.0);
    }
    Ok(resized)
}

fn sides(size: [usize; 2]) -> Result<[u32; 2]> {
    let side = |side: usize| u32::try_from(side).context("a side of the image is too long");
    Ok([side(size[0])?, side(size[1])?])
}
