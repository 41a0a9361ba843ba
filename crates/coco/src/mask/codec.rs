//! The compressed string of run lengths in COCO JSON files.
//!
//! Each run, from the fourth on less the run two before it, is a signed number in groups of five bits, lowest first; a
//! group is one character from `0` on, its sixth bit says that more follow (`rleToString` in `maskApi.c`).

use super::{MaskError, Rle, pixel_count};

/// The character that stands for zero.
const ZERO: u8 = b'0';
/// More groups follow.
const MORE: u8 = 0x20;
/// The sign, in the last group.
const SIGN: u8 = 0x10;

impl Rle {
    /// A mask from the compressed string of a COCO segmentation.
    ///
    /// # Errors
    /// A byte outside the alphabet, a string cut short, a run that cannot be, or runs that do not sum to `height · width`.
    pub fn from_compressed(height: u32, width: u32, text: &[u8]) -> Result<Self, MaskError> {
        pixel_count(height, width)?;
        let mut counts: Vec<u32> = Vec::with_capacity(text.len());
        let mut at = 0;
        while at < text.len() {
            let index = counts.len();
            let mut value = read_number(text, &mut at, index)?;
            if index > 2 {
                value += i64::from(counts[index - 2]);
            }
            counts.push(u32::try_from(value).map_err(|_| MaskError::Run { index })?);
        }
        Self::from_own_counts(height, width, counts)
    }

    /// The compressed string of the mask, as pycocotools writes it.
    pub fn to_compressed(&self) -> String {
        compress(&self.counts)
    }
}

/// The compressed string of any run list, whatever it sums to.
pub(crate) fn compress(counts: &[u32]) -> String {
    let mut text = String::with_capacity(counts.len() * 2);
    for (i, &count) in counts.iter().enumerate() {
        let mut rest = i64::from(count);
        if i > 2 {
            rest -= i64::from(counts[i - 2]);
        }
        loop {
            let group = (rest & 0x1f) as u8;
            rest >>= 5;
            let done = if group & SIGN != 0 { rest == -1 } else { rest == 0 };
            text.push(char::from(ZERO + if done { group } else { group | MORE }));
            if done {
                break;
            }
        }
    }
    text
}

/// One signed number; `at` moves behind it.
fn read_number(text: &[u8], at: &mut usize, index: usize) -> Result<i64, MaskError> {
    // Most are a single group.
    if let Some(group) = text.get(*at).map(|byte| byte.wrapping_sub(ZERO)).filter(|group| *group < MORE) {
        *at += 1;
        return Ok(i64::from(group & 0x0f) - i64::from(group & SIGN));
    }
    let mut value = 0i64;
    let mut shift = 0;
    loop {
        let &byte = text.get(*at).ok_or(MaskError::CutShort)?;
        let group = byte.wrapping_sub(ZERO);
        if group >= 0x40 {
            return Err(MaskError::Byte { at: *at, byte });
        }
        // Seven groups hold any difference of two 32-bit runs.
        if shift > 30 {
            return Err(MaskError::Run { index });
        }
        value |= i64::from(group & 0x1f) << shift;
        shift += 5;
        *at += 1;
        if group & MORE == 0 {
            if group & SIGN != 0 {
                value |= -1 << shift;
            }
            return Ok(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn damaged_strings_are_told_apart() {
        let whole = Rle::from_counts(10, 100, &[100, 300, 50, 550]).unwrap().to_compressed();
        assert_eq!(Rle::from_compressed(10, 100, whole.as_bytes()).unwrap().counts(), [100, 300, 50, 550]);
        let refuse = |text: &[u8]| Rle::from_compressed(10, 100, text).unwrap_err();
        assert_eq!(refuse(b"5 5"), MaskError::Byte { at: 1, byte: b' ' });
        assert_eq!(refuse(b"Z"), MaskError::CutShort);
        assert_eq!(refuse(b"O"), MaskError::Run { index: 0 }, "a first run of -1");
        assert_eq!(refuse(b"oooooooooo1"), MaskError::Run { index: 0 });
        assert!(matches!(refuse(b"51"), MaskError::Total { total: 6, .. }));
        assert!(matches!(refuse(b""), MaskError::Total { total: 0, .. }));
    }

    proptest! {
        #[test]
        fn strings_survive_the_round_trip(runs in proptest::collection::vec(1u32..5000, 1..40)) {
            let width = runs.iter().sum();
            let mask = Rle::from_counts(1, width, &runs).unwrap();
            let text = mask.to_compressed();
            prop_assert_eq!(Rle::from_compressed(1, width, text.as_bytes()).unwrap(), mask);
        }

        #[test]
        fn noise_never_panics(text in proptest::collection::vec(any::<u8>(), 0..30), height in 0u32..40, width in 0u32..40) {
            let _ = Rle::from_compressed(height, width, &text);
        }

        #[test]
        fn noise_in_the_alphabet_never_panics(text in proptest::collection::vec(48u8..112, 0..30)) {
            let _ = Rle::from_compressed(7, 9, &text);
        }
    }
}
