//! A JPEG's size and scans.

use anyhow::{Result, bail, ensure};

use super::claim::Claim;

/// Frame and scans, told by the markers between segments (ITU T.81, annex B).
pub(super) fn claim(bytes: &[u8]) -> Result<Claim> {
    let mut claim: Option<Claim> = None;
    let mut scans = 0;
    let mut rest = &bytes[2..];
    while let Some(at) = rest.iter().position(|byte| *byte == 0xff) {
        // Any number of 0xff may stand before the code; what lies between segments is passed over, as libjpeg does.
        let Some(code) = rest[at..].iter().position(|byte| *byte != 0xff) else { break };
        let marker = rest[at + code];
        rest = &rest[at + code + 1..];
        match marker {
            // Stuffed, restarts and a stray start: no segment follows.
            0x00 | 0x01 | 0xd0..=0xd8 => continue,
            0xd9 => break,
            _ => {}
        }
        let Some(length) = rest.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        let Some(segment) = rest.get(2..length.max(2)) else { break };
        match (marker, segment) {
            // SOF, but for the three codes in between that are tables.
            (0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf, [_, h, i, w, x, ..]) => {
                let [height, width] = [[*h, *i], [*w, *x]].map(|side| u64::from(u16::from_be_bytes(side)));
                ensure!(claim.is_none(), "it is a JPEG with two headers");
                claim = Some(Claim { width, height, scans: 1 });
            }
            (0xda, _) => scans += 1,
            _ => {}
        }
        rest = &rest[length.max(2)..];
    }
    let Some(claim) = claim else { bail!("the JPEG is cut: it has no header") };
    Ok(Claim { scans, ..claim })
}
