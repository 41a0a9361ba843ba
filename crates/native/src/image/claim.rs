//! What an image says of itself, read before a decoder allocates memory or spends time on it.

use anyhow::{Result, ensure};

/// An image of more pixels is refused, as Pillow refuses it (twice its `MAX_IMAGE_PIXELS`), unless its file is as large as
/// real images of that size are.
const MAX_PIXELS: u64 = 178_956_970;
/// Pixels a byte of a real photograph, at the most.
const PHOTOGRAPH: u64 = 32;
/// Pixels a byte that a codec can make in the extreme: a block of a JPEG takes a bit at least, a deflated byte 1/1032.
const EXTREME: u64 = 1024;
/// Pixels that any file may claim: formats may store a single colour in no space at all.
const FREE: u64 = 1 << 24;
/// Scans of a progressive JPEG; encoders make about ten.
const MAX_SCANS: u64 = 100;
/// Each scan goes over all pixels: together they may see this many.
const MAX_SCANNED: u64 = 16 * MAX_PIXELS;

/// Width, height and number of passes over the pixels.
pub(super) struct Claim {
    pub width: u64,
    pub height: u64,
    pub scans: u64,
}

impl Claim {
    /// Refuses what is not believed of a file of so many bytes.
    pub fn check(&self, bytes: u64) -> Result<()> {
        let Self { width, height, scans } = *self;
        let pixels = width.saturating_mul(height);
        let possible = FREE.saturating_add(bytes.saturating_mul(EXTREME));
        ensure!(
            pixels <= possible && pixels <= MAX_PIXELS.max(bytes.saturating_mul(PHOTOGRAPH)),
            "it claims to have {width} × {height} pixels, which is not believed of {bytes} bytes"
        );
        ensure!(
            scans <= 1 || (scans <= MAX_SCANS && pixels.saturating_mul(scans) <= MAX_SCANNED),
            "it is a progressive JPEG of {scans} scans over {width} × {height} pixels, which would take too long \
             (encoders make about ten)"
        );
        Ok(())
    }
}
