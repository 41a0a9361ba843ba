//! JPEG and PNG, decoded and encoded by torchvision's codecs (libjpeg-turbo, libpng). Safe to call from many threads.

use std::ffi::CStr;

use anyhow::{Context, Result, bail, ensure};
use tch::{Device, Kind, Tensor};

use crate::ffi;
use crate::library::load_torchvision_image;

/// Decodes an image, told by its first bytes (JPEG, PNG; also GIF's first frame and WebP), to RGB: u8 `[3, H, W]`, mostly
/// a view of interleaved pixels and so not contiguous.
///
/// Grey and palette images become RGB, an alpha channel is dropped, 16 bits become 8. `apply_exif` turns the image as
/// its EXIF orientation says.
///
/// # Errors
/// Bytes that are no image, or a cut or damaged one; torchvision's library not found. As with every JPEG decoder,
/// damage inside the pixels of a JPEG that libjpeg can step over gives an image and a line on standard error.
pub fn decode(bytes: &[u8], apply_exif: bool) -> Result<Tensor> {
    load_torchvision_image()?;
    // The decoders look at the first bytes without asking how many there are.
    if bytes.len() < 16 {
        bail!("{} byte(s) are too few to be an image", bytes.len());
    }
    check_png(bytes).context("the image cannot be decoded")?;
    // SAFETY: pointer and length are of one slice that outlives the call; the decoders only read it.
    ffi::new_tensor(|out| unsafe { ffi::pn_decode(bytes.as_ptr(), bytes.len(), c"image".as_ptr(), apply_exif, out) })
        .context("the image cannot be decoded (cut, damaged, or of another format)")
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

/// A PNG that is cut, or whose header, palette or pixels do not have their checksum, is refused here: libpng would print
/// to standard error and give less of a reason.
fn check_png(bytes: &[u8]) -> Result<()> {
    const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
    let Some(mut rest) = bytes.strip_prefix(SIGNATURE) else {
        return Ok(());
    };
    loop {
        let Some((&[a, b, c, d], after)) = rest.split_first_chunk::<4>() else {
            bail!("the PNG is cut: its end is missing");
        };
        // The checksum is over the kind (4 bytes) and the data.
        let len = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_add(4);
        let (Some(chunk), Some(&[e, f, g, h])) = (after.get(..len), after.get(len..len.saturating_add(4))) else {
            bail!("the PNG is cut: its end is missing");
        };
        // Chunks that an image can do without begin with a small letter.
        let needed = chunk[0].is_ascii_uppercase();
        if needed && crc32fast::hash(chunk) != u32::from_be_bytes([e, f, g, h]) {
            bail!("the PNG is damaged: a checksum is wrong");
        }
        if chunk.starts_with(b"IEND") {
            return Ok(());
        }
        rest = &after[len + 4..];
    }
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
