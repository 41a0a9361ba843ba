//! A WebP's size.

use anyhow::{Result, bail};

use super::claim::Claim;

/// The size in the first chunk (RFC 9649): of lossy, lossless or extended images.
pub(super) fn claim(bytes: &[u8]) -> Result<Claim> {
    let at = |index: usize| u64::from(bytes.get(index).copied().unwrap_or(0));
    let bits = |from: usize, shift: u32, count: u32| {
        let word = (0..5).fold(0, |word, byte| word | at(from + byte) << (8 * byte));
        word >> shift & ((1 << count) - 1)
    };
    let (width, height) = match bytes.get(12..16) {
        Some(b"VP8 ") => (bits(26, 0, 14), bits(28, 0, 14)),
        Some(b"VP8L") => (bits(21, 0, 14) + 1, bits(21, 14, 14) + 1),
        Some(b"VP8X") => (bits(24, 0, 24) + 1, bits(27, 0, 24) + 1),
        _ => bail!("the WebP is cut or damaged: it has no header"),
    };
    Ok(Claim { width, height, scans: 1 })
}
