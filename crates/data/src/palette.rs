//! TIFF files with a palette, which the decoder reads as grey once they say that they are.

use anyhow::{Result, bail, ensure};

use super::image::{Image, Pixels};

/// `PhotometricInterpretation`, and the values that say "grey, black is 0" and "palette".
const INTERPRETATION: u16 = 262;
const GREY: u16 = 1;
const PALETTE: u16 = 3;
/// `ColorMap`: all reds, all greens, all blues, of 16 bits each.
const COLOR_MAP: u16 = 320;
/// A value of 16 bits.
const SHORT: u16 = 3;

/// The colours of 256 indices.
pub(crate) struct Colors(Vec<[u8; 3]>);

/// A file with a palette of 8 bits as one of grey indices, and its colours (TIFF 6.0, section 5); `None` for any other.
pub(crate) fn split(bytes: &[u8]) -> Option<(Vec<u8>, Colors)> {
    let little = bytes.starts_with(b"II");
    let short = |at: usize| {
        let two = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
    };
    let long = |at: usize| {
        let four = bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) } as usize)
    };
    let directory = long(4)?;
    let entries = (0..usize::from(short(directory)?)).map(|i| directory + 2 + 12 * i);
    let entry = |tag: u16| entries.clone().find(|at| short(*at) == Some(tag) && short(at + 2) == Some(SHORT));
    let interpretation = entry(INTERPRETATION)? + 8;
    let map = entry(COLOR_MAP)?;
    if short(interpretation)? != PALETTE || long(map + 4)? != 3 * 256 {
        return None;
    }
    let colors = long(map + 8)?;
    let value = |channel: usize, index: usize| Some((short(colors + 2 * (256 * channel + index))? >> 8) as u8);
    let color = |index| Some([value(0, index)?, value(1, index)?, value(2, index)?]);
    let colors = (0..256).map(color).collect::<Option<Vec<_>>>()?;
    let mut grey = bytes.to_vec();
    let new = if little { GREY.to_le_bytes() } else { GREY.to_be_bytes() };
    grey.get_mut(interpretation..interpretation + 2)?.copy_from_slice(&new);
    Some((grey, Colors(colors)))
}

impl Colors {
    /// The image whose grey values are indices, in colour.
    ///
    /// # Errors
    /// When its pixels are not bytes.
    pub(crate) fn apply(&self, mut image: Image) -> Result<Image> {
        let Pixels::U8(pixels) = &mut image.pixels else { bail!("a decoded image has bytes") };
        ensure!(pixels.len().is_multiple_of(3), "a decoded image has three channels");
        for pixel in pixels.chunks_exact_mut(3) {
            pixel.copy_from_slice(&self.0[usize::from(pixel[0])]);
        }
        Ok(image)
    }
}
