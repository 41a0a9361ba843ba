//! A PNG's chunks, looked at before libpng is.

use anyhow::{Context, Result, bail, ensure};

use super::claim::Claim;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// Chunks that libpng unpacks into memory (8 MB each, at the most) and that are no pixels.
const MAX_PACKED: usize = 32;

/// The size of a PNG. One that is cut, or whose header, palette or pixels do not have their checksum, is refused here:
/// libpng would print to standard error and give less of a reason.
pub(super) fn check(bytes: &[u8]) -> Result<Claim> {
    let mut rest = bytes.strip_prefix(SIGNATURE).context("it is a PNG with a damaged signature")?;
    let size = match rest.first_chunk::<16>() {
        Some([_, _, _, _, b'I', b'H', b'D', b'R', w, i, d, t, h, g, e, f]) => {
            Some([[*w, *i, *d, *t], [*h, *g, *e, *f]])
        }
        Some(_) => bail!("the PNG is damaged: it does not begin with its header"),
        None => None,
    };
    let mut packed = 0;
    loop {
        let Some((length, after)) = rest.split_first_chunk::<4>() else {
            bail!("the PNG is cut: its end is missing");
        };
        // The checksum is over the kind (4 bytes) and the data.
        let len = (u32::from_be_bytes(*length) as usize).saturating_add(4);
        let (Some(chunk), Some(&[e, f, g, h])) = (after.get(..len), after.get(len..len.saturating_add(4))) else {
            bail!("the PNG is cut: its end is missing");
        };
        // Chunks that an image can do without begin with a small letter.
        let needed = chunk[0].is_ascii_uppercase();
        if needed && crc32fast::hash(chunk) != u32::from_be_bytes([e, f, g, h]) {
            bail!("the PNG is damaged: a checksum is wrong");
        }
        packed += usize::from(matches!(&chunk[..4], b"zTXt" | b"iTXt" | b"iCCP"));
        ensure!(packed <= MAX_PACKED, "the PNG carries more than {MAX_PACKED} compressed texts");
        if chunk.starts_with(b"IEND") {
            break;
        }
        rest = &after[len + 4..];
    }
    let [width, height] =
        size.context("the PNG is cut: its end is missing")?.map(|side| u64::from(u32::from_be_bytes(side)));
    Ok(Claim { width, height, scans: 1 })
}
