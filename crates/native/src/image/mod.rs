//! JPEG and PNG, decoded and encoded by torchvision's codecs (libjpeg-turbo, libpng). Safe to call from many threads.
//!
//! The codecs believe what a header says. So it is read here first: [`claim`] bounds the memory and time it asks for,
//! [`mod@png`] looks at checksums, [`gif`] keeps a frame within its screen.

mod claim;
mod gif;
mod jpeg;
mod png;
mod webp;

use std::borrow::Cow;
use std::ffi::CStr;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use self::claim::Claim;
use crate::ffi;
use crate::library::load_torchvision_image;

/// Decodes an image, told by its first bytes (JPEG, PNG; also GIF's first frame and WebP), to RGB: u8 `[3, H, W]`, mostly
/// a view of interleaved pixels and so not contiguous.
///
/// Grey and palette images become RGB, an alpha channel is dropped, 16 bits become 8. `apply_exif` turns the image as
/// its EXIF orientation says.
///
/// # Errors
/// Bytes that are no image, or a cut or damaged one; one that claims more pixels or scans than its bytes make believable (the
/// bound is Pillow's, 178,956,970 pixels, but for files as large as photographs of that size); a GIF whose image lies outside
/// its screen; torchvision's library not found. As with every JPEG decoder,
/// damage inside the pixels of a JPEG that libjpeg can step over gives an image and a line on standard error.
pub fn decode(bytes: &[u8], apply_exif: bool) -> Result<Tensor> {
    load_torchvision_image()?;
    // The decoders look at the first bytes without asking how many there are.
    if bytes.len() < 16 {
        bail!("{} byte(s) are too few to be an image", bytes.len());
    }
    let bytes = checked(bytes).context("the image cannot be decoded")?;
    // torchvision's decoder of WebP does not look at it.
    let held = if apply_exif && bytes.starts_with(b"RIFF") { webp::orientation(&bytes) } else { None };
    // SAFETY: pointer and length are of one slice that outlives the call; the decoders only read it.
    let image = ffi::new_tensor(|out| unsafe {
        ffi::pn_decode(bytes.as_ptr(), bytes.len(), c"image".as_ptr(), apply_exif, out)
    });
    let image = image.context("the image cannot be decoded (cut, damaged, or of another format)")?;
    held.map_or(Ok(image.shallow_clone()), |held| upright(&image, held))
}

/// An image `[3, H, W]` turned as its orientation (1 to 8, as EXIF counts them) says.
fn upright(image: &Tensor, held: u8) -> Result<Tensor> {
    let image = if held > 4 { image.f_transpose(1, 2)? } else { image.shallow_clone() };
    let flipped: &[i64] = match held {
        2 | 6 => &[2],
        3 | 7 => &[1, 2],
        4 | 8 => &[1],
        _ => return Ok(image),
    };
    Ok(image.f_flip(flipped)?)
}

/// Refuses an image of a format that is decoded elsewhere which claims more pixels than its bytes make believable.
///
/// # Errors
/// As [`decode`].
pub fn believe(width: u64, height: u64, bytes: u64) -> Result<()> {
    Claim { width, height, scans: 1 }.check(bytes)
}

/// A JPEG file of the image (u8 `[3, H, W]` or `[1, H, W]`, on the CPU); `quality` is 1 (small) to 100 (good).
///
/// # Errors
/// Another type, shape, device or quality; torchvision's library not found.
pub fn encode_jpeg(image: &Tensor, quality: u8) -> Result<Vec<u8>> {
    ensure!((1..=100).contains(&quality), "the quality of a JPEG is 1 to 100, got {quality}");
    encode(image, c"jpeg", i64::from(quality))
}

/// A PNG file of the image (u8 `[3, H, W]` or `[1, H, W]`, on the CPU); `level` is 0 (fast) to 9 (small).
///
/// # Errors
/// As [`encode_jpeg`].
pub fn encode_png(image: &Tensor, level: u8) -> Result<Vec<u8>> {
    ensure!(level <= 9, "the compression level of a PNG is 0 to 9, got {level}");
    encode(image, c"png", i64::from(level))
}

/// The bytes to hand to the decoder: mostly as they are.
///
/// # Errors
/// Bytes of no format that is decoded, a header that is cut, or one that claims more than is sensible.
fn checked(bytes: &[u8]) -> Result<Cow<'_, [u8]>> {
    let mut decoded = Cow::Borrowed(bytes);
    let claim = match bytes {
        [0xff, 0xd8, 0xff, ..] => jpeg::claim(bytes)?,
        [0x89, b'P', b'N', b'G', ..] => png::check(bytes)?,
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => {
            let (claim, first) = gif::first_frame(bytes)?;
            decoded = Cow::Owned(first);
            claim
        }
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => webp::claim(bytes)?,
        _ => bail!("it is no JPEG, PNG, WebP, GIF, BMP, TIFF or PNM"),
    };
    claim.check(bytes.len() as u64)?;
    Ok(decoded)
}

fn encode(image: &Tensor, format: &CStr, quality: i64) -> Result<Vec<u8>> {
    load_torchvision_image()?;
    let size = image.size();
    ensure!(
        image.kind() == Kind::Uint8
            && image.device() == Device::Cpu
            && matches!(size[..], [1 | 3, h, w] if h > 0 && w > 0),
        "an image to encode is u8 [3, H, W] or [1, H, W] on the CPU, got {:?} {size:?} on {:?}",
        image.kind(),
        image.device()
    );
    let image = image.f_contiguous()?;
    let handle = ffi::handle(&image);
    // SAFETY: the handle lives as long as `image`; the shim only reads it.
    let encoded = ffi::new_tensor(|out| unsafe { ffi::pn_encode(handle, format.as_ptr(), quality, out) })?;
    Ok(Vec::<u8>::try_from(&encoded)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Pillow's `exif_transpose` turns them.
    #[test]
    fn each_orientation_is_turned_upright() {
        let image = Tensor::from_slice(&[1i64, 2, 3, 4, 5, 6]).view([1, 2, 3]);
        let turned = |held| Vec::<i64>::try_from(upright(&image, held).unwrap().contiguous().flatten(0, -1)).unwrap();
        assert_eq!(
            [1, 2, 3, 4].map(turned),
            [[1, 2, 3, 4, 5, 6], [3, 2, 1, 6, 5, 4], [6, 5, 4, 3, 2, 1], [4, 5, 6, 1, 2, 3],]
        );
        assert_eq!(
            [5, 6, 7, 8].map(turned),
            [[1, 4, 2, 5, 3, 6], [4, 1, 5, 2, 6, 3], [6, 3, 5, 2, 4, 1], [3, 6, 2, 5, 1, 4],]
        );
    }
}
