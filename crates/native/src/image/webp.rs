//! A WebP's size and orientation.

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

/// How the camera noted that it was held (EXIF's tag 274, 1 to 8), of an extended image that says so.
pub(super) fn orientation(bytes: &[u8]) -> Option<u8> {
    let mut rest = bytes.get(12..)?;
    loop {
        let size = u32::from_le_bytes(rest.get(4..8)?.try_into().ok()?) as usize;
        let data = rest.get(8..)?;
        if rest.starts_with(b"EXIF") {
            let exif = data.get(..size)?;
            return of_exif(exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
        }
        // Chunks begin at even places.
        rest = data.get(size.checked_add(size % 2)?..)?;
    }
}

/// The orientation in the first directory of a TIFF header.
fn of_exif(exif: &[u8]) -> Option<u8> {
    let little = match exif.get(..2)? {
        b"II" => true,
        b"MM" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = exif.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = exif.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let directory = long(4)?;
    let entries = usize::from(short(directory)?);
    let entry = |number: usize| directory.checked_add(2 + 12 * number);
    let found = (0..entries).filter_map(entry).find(|at| short(*at) == Some(274))?;
    u8::try_from(short(found.checked_add(8)?)?).ok().filter(|orientation| (1..=8).contains(orientation))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orientation_is_found_and_damage_is_none() {
        let exif = |little: bool| {
            let mut exif = if little { b"II\x2a\0\x08\0\0\0".to_vec() } else { b"MM\0\x2a\0\0\0\x08".to_vec() };
            for number in [1u16, 274, 3] {
                exif.extend(if little { number.to_le_bytes() } else { number.to_be_bytes() });
            }
            exif.extend(if little { 1u32.to_le_bytes() } else { 1u32.to_be_bytes() });
            exif.extend(if little { 6u16.to_le_bytes() } else { 6u16.to_be_bytes() });
            exif.extend([0, 0]);
            exif
        };
        let file = |exif: &[u8]| {
            let mut file = b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\0\0\0\0\0\0ABCD\x01\0\0\0xy".to_vec();
            file.extend(b"EXIF");
            file.extend((exif.len() as u32).to_le_bytes());
            file.extend(exif);
            file
        };
        for little in [true, false] {
            let whole = file(&exif(little));
            assert_eq!(orientation(&whole), Some(6));
            assert_eq!(orientation(&file(&[b"Exif\0\0".as_slice(), &exif(little)].concat())), Some(6));
            assert!((0..whole.len() - 2).all(|end| orientation(&whole[..end]).is_none()));
        }
        assert_eq!(orientation(&file(b"MM\0\x2a\xff\xff\xff\xff")), None);
    }
}
