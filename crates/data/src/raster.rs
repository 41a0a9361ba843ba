//! BMP, TIFF and PNM files, which torchvision's codecs do not read.

use std::io::Cursor;

use anyhow::{Context, Result, bail};
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use super::image::Image;
use super::palette;

/// The format of a file that begins with these bytes, if it is one of those read here.
pub(crate) fn format(head: &[u8]) -> Option<ImageFormat> {
    match head {
        [b'B', b'M', ..] => Some(ImageFormat::Bmp),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Some(ImageFormat::Tiff),
        [b'P', b'1'..=b'6', space, ..] if space.is_ascii_whitespace() => Some(ImageFormat::Pnm),
        _ => None,
    }
}

/// Decodes such a file as RGB bytes: the first page of a TIFF; 16 bits become 8 as those of a PNG.
///
/// # Errors
/// A damaged file, or one that claims more pixels than its bytes make believable; numbers that are no colours (32-bit TIFF).
pub(crate) fn decode(bytes: &[u8], format: ImageFormat, exif: bool) -> Result<Image> {
    if let Some((indices, colors)) = palette::split(bytes).filter(|_| format == ImageFormat::Tiff) {
        let image = decode_plain(&indices, format, exif)?;
        return colors.apply(image);
    }
    decode_plain(bytes, format, exif)
}

fn decode_plain(bytes: &[u8], format: ImageFormat, exif: bool) -> Result<Image> {
    let failed = match format {
        ImageFormat::Tiff => {
            "the TIFF is damaged or of a rare kind (read are 8 and 16 bits: grey, RGB, CMYK, palettes of 8)"
        }
        _ => "the image cannot be decoded (cut, damaged, or of a rare kind)",
    };
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder().context(failed)?;
    let (width, height) = decoder.dimensions();
    pipe_native::image::believe(width.into(), height.into(), bytes.len() as u64)?;
    let mut limits = Limits::default();
    // What is believed may be large: believed it is all the same.
    limits.max_alloc = Some(decoder.total_bytes().saturating_mul(4).max(1 << 28));
    decoder.set_limits(limits).context(failed)?;
    if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
        bail!("{failed}: its pixels are floating-point numbers");
    }
    let orientation = decoder.orientation().context(failed)?;
    let mut image = DynamicImage::from_decoder(decoder).context(failed)?;
    if exif {
        image.apply_orientation(orientation);
    }
    let (height, width) = (image.height() as usize, image.width() as usize);
    Ok(Image::from_u8(height, width, 3, rgb(image)))
}

fn rgb(image: DynamicImage) -> Vec<u8> {
    let deep = matches!(image.color(), ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16);
    if deep {
        image.into_rgb16().iter().map(|value| (value / 257) as u8).collect()
    } else {
        image.into_rgb8().into_raw()
    }
}
