//! A GIF's first frame, written anew so that torchvision's decoder stays within its buffers.
//!
//! That decoder writes each frame to where it says it lies and looks colours up by number, and checks neither against the
//! size of the screen nor of the table. Layout: the GIF89a specification.

use anyhow::{Context, Result, bail, ensure};

use super::claim::Claim;

/// A table of 256 colours, three bytes each.
const FULL_TABLE: usize = 768;

/// The size that a decoder makes room for, and a GIF of the first frame alone whose tables of colours are full.
pub(super) fn first_frame(bytes: &[u8]) -> Result<(Claim, Vec<u8>)> {
    let mut reader = Reader { bytes, at: 0 };
    let header = reader.take(13)?;
    let screen = [word(header, 6), word(header, 8)];
    let mut out = header.to_vec();
    let flags = reader.colours(header[10], &mut out)?;
    out[10] = flags;
    loop {
        match reader.take(1)? {
            [0x21] => {
                let label = reader.take(1)?[0];
                out.extend([0x21, label]);
                reader.blocks(&mut out)?;
            }
            [0x2c] => break,
            [0x3b] => bail!("the GIF has no image"),
            _ => bail!("the GIF is damaged"),
        }
    }
    let place = reader.take(9)?;
    let [left, top, width, height] = [0, 2, 4, 6].map(|at| word(place, at));
    // The decoder takes the larger of screen and frame.
    let [right, bottom] = [screen[0].max(width), screen[1].max(height)];
    ensure!(
        left + width <= right && top + height <= bottom,
        "the GIF's image of {width} × {height} pixels at {left}, {top} lies outside its screen of {} × {}",
        screen[0],
        screen[1]
    );
    out.push(0x2c);
    let start = out.len();
    out.extend(place);
    let flags = reader.colours(place[8], &mut out)?;
    out[start + 8] = flags;
    out.extend(reader.take(1)?);
    reader.blocks(&mut out)?;
    out.push(0x3b);
    Ok((Claim { width: right, height: bottom, scans: 1 }, out))
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at + count).context("the GIF is cut: its end is missing")?;
        self.at += count;
        Ok(taken)
    }

    /// Copies the table of colours that these flags announce, filled up with black; the flags that announce the result.
    fn colours(&mut self, flags: u8, out: &mut Vec<u8>) -> Result<u8> {
        if flags & 0x80 == 0 {
            return Ok(flags);
        }
        let table = self.take(3 << (1 + (flags & 7)))?;
        out.extend(table);
        out.resize(out.len() + FULL_TABLE - table.len(), 0);
        Ok(flags | 7)
    }

    /// Copies blocks of data with their lengths, up to the empty one.
    fn blocks(&mut self, out: &mut Vec<u8>) -> Result<()> {
        loop {
            let length = self.take(1)?[0];
            out.push(length);
            if length == 0 {
                return Ok(());
            }
            out.extend(self.take(length.into())?);
        }
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}
