//! Binary masks as run lengths, bit for bit as pycocotools makes them.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Rle`]: the type, its invariants, area and box, pixels to runs and back |
//! | `codec.rs` | the compressed string of COCO JSON files |
//! | `polygon.rs` | polygons and boxes to runs |
//! | `ops.rs` | union, intersection, IoU |
//! | `error.rs` | [`MaskError`]: everything that can be wrong with a mask |
//!
//! Runs go down the columns (column-major, as in COCO files); pixel buffers are row-major `[H, W]` like every other
//! image in the program. The reference is `maskApi.c` of <https://github.com/cocodataset/cocoapi>.

mod codec;
mod error;
mod ops;
mod polygon;

pub(crate) use codec::compress;
pub use error::MaskError;
pub use ops::{box_iou, intersection_area, iou_matrix};

/// A binary mask `[H, W]` as run lengths.
///
/// Runs alternate background, foreground, background … down the columns and start with background. Three things always
/// hold, so that two equal masks compare equal: the runs sum to `H · W`, only the first may be zero, and `H · W` fits
/// 32 bits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rle {
    height: u32,
    width: u32,
    counts: Vec<u32>,
}

impl Rle {
    /// A mask from its runs, as in the `counts` list of an uncompressed COCO segmentation.
    ///
    /// Runs of zero length inside the list are joined with their neighbors.
    ///
    /// # Errors
    /// When the runs do not sum to `height · width`, or that product does not fit 32 bits.
    pub fn from_counts(height: u32, width: u32, counts: &[u32]) -> Result<Self, MaskError> {
        Self::from_own_counts(height, width, counts.to_vec())
    }

    fn from_own_counts(height: u32, width: u32, counts: Vec<u32>) -> Result<Self, MaskError> {
        let pixels = pixel_count(height, width)?;
        let total: u64 = counts.iter().map(|&c| u64::from(c)).sum();
        if total != u64::from(pixels) {
            return Err(MaskError::Total { height, width, total });
        }
        Ok(Self::from_runs(height, width, counts))
    }

    /// The empty mask.
    ///
    /// # Errors
    /// When `height · width` does not fit 32 bits.
    pub fn empty(height: u32, width: u32) -> Result<Self, MaskError> {
        let pixels = pixel_count(height, width)?;
        Ok(Self { height, width, counts: vec![pixels] })
    }

    /// A mask from a row-major buffer `[H, W]`; every byte that is not zero is foreground.
    ///
    /// # Errors
    /// When the buffer does not have `height · width` bytes.
    pub fn encode(pixels: &[u8], height: u32, width: u32) -> Result<Self, MaskError> {
        let total = pixel_count(height, width)?;
        if pixels.len() != total as usize {
            return Err(MaskError::Buffer { height, width, bytes: pixels.len() });
        }
        Ok(Self::from_changes(height, width, changes(pixels, height as usize, width as usize)))
    }

    /// The mask as a row-major buffer `[H, W]` of zeros and ones.
    pub fn decode(&self) -> Vec<u8> {
        let (height, width) = (self.height as usize, self.width as usize);
        let mut pixels = vec![0; height * width];
        for (start, end) in self.foreground() {
            let (mut at, end) = (start as usize, end as usize);
            while at < end {
                let (x, y) = (at / height, at % height);
                let rows = (height - y).min(end - at);
                for pixel in pixels[y * width + x..].iter_mut().step_by(width).take(rows) {
                    *pixel = 1;
                }
                at += rows;
            }
        }
        pixels
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The runs: background, foreground, background …
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Number of foreground pixels.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&c| u64::from(c)).sum()
    }

    /// The smallest box `[x, y, width, height]` in pixels that holds the foreground; all zeros for an empty mask.
    pub fn bbox(&self) -> [f64; 4] {
        let height = self.height;
        let (mut left, mut top, mut right, mut bottom) = (self.width, height, 0, 0);
        // Most runs begin and end in the column of the one before or the next: a division is rarely needed.
        let (mut x, mut above) = (0, 0);
        for (start, end) in self.foreground() {
            if start - above >= height {
                let columns = if start - above < 2 * height { 1 } else { (start - above) / height };
                (x, above) = (x + columns, above + columns * height);
            }
            left = left.min(x);
            if end - above <= height {
                top = top.min(start - above);
                bottom = bottom.max(end - 1 - above);
            } else {
                // A run over a column border covers that column's last row and the next one's first.
                (top, bottom) = (0, height - 1);
                let columns = (end - 1 - above) / height;
                (x, above) = (x + columns, above + columns * height);
            }
            right = x;
        }
        if left == self.width {
            return [0.0; 4];
        }
        [left, top, right - left + 1, bottom - top + 1].map(f64::from)
    }

    /// Where the last foreground run ends, in column-major positions.
    fn foreground_end(&self) -> u32 {
        let behind = if self.counts.len() % 2 == 1 { self.counts.last().copied().unwrap_or(0) } else { 0 };
        self.height * self.width - behind
    }

    /// The foreground runs as half-open ranges of column-major positions.
    fn foreground(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 0;
        self.counts.chunks(2).filter_map(move |pair| {
            let start = at + pair[0];
            at = start + pair.get(1).copied().unwrap_or(0);
            (at > start).then_some((start, at))
        })
    }

    /// The column-major positions where the mask changes, the end included, to runs. `changes` is sorted; a position
    /// given twice cancels itself.
    fn from_changes(height: u32, width: u32, changes: Vec<u32>) -> Self {
        let mut at = 0;
        let mut counts = changes;
        for change in &mut counts {
            let position = *change;
            *change = position - at;
            at = position;
        }
        counts.push(height * width - at);
        Self::from_runs(height, width, counts)
    }

    /// Joins runs around zero-length ones. The caller has checked the total.
    fn from_runs(height: u32, width: u32, runs: Vec<u32>) -> Self {
        if !runs.is_empty() && !runs[1..].contains(&0) {
            return Self { height, width, counts: runs };
        }
        let mut counts: Vec<u32> = Vec::with_capacity(runs.len());
        for (i, &run) in runs.iter().enumerate() {
            let foreground = i % 2 == 1;
            let next_is_foreground = counts.len() % 2 == 1;
            match counts.last_mut() {
                None => counts.push(run),
                Some(_) if run == 0 => {}
                Some(last) if foreground != next_is_foreground => *last += run,
                Some(_) => counts.push(run),
            }
        }
        if counts.is_empty() {
            counts.push(0);
        }
        Self { height, width, counts }
    }
}

/// `height · width`, when run lengths can hold it.
fn pixel_count(height: u32, width: u32) -> Result<u32, MaskError> {
    height.checked_mul(width).ok_or(MaskError::TooLarge { height, width })
}

/// Sorted column-major positions at which a row-major mask differs from the pixel before it.
///
/// Rows are compared with the row above, eight bytes at a time: most words are equal, so a mask costs about one pass over
/// its memory instead of a walk down every column.
fn changes(pixels: &[u8], height: usize, width: usize) -> Vec<u32> {
    let mut found = Vec::with_capacity(2 * width);
    if pixels.is_empty() {
        return found;
    }
    let last = &pixels[(height - 1) * width..];
    for x in 0..width {
        // The pixel before the top of a column is the bottom of the column to its left.
        let before = x > 0 && last[x - 1] != 0;
        if (pixels[x] != 0) != before {
            found.push((x * height) as u32);
        }
    }
    for (y, pair) in pixels.windows(2 * width).step_by(width).enumerate() {
        let (above, row) = pair.split_at(width);
        for (word, (a, b)) in above.chunks(8).zip(row.chunks(8)).enumerate() {
            if a == b {
                continue;
            }
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                if (*a != 0) != (*b != 0) {
                    found.push(((word * 8 + i) * height + y + 1) as u32);
                }
            }
        }
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn runs_go_down_the_columns() {
        // Row-major 2 × 3: only the middle column is set.
        let mask = Rle::encode(&[0, 1, 0, 0, 1, 0], 2, 3).unwrap();
        assert_eq!(mask.counts(), [2, 2, 2]);
        assert_eq!((mask.area(), mask.bbox()), (2, [1.0, 0.0, 1.0, 2.0]));
        let first = Rle::encode(&[7, 0, 0, 0], 2, 2).unwrap();
        assert_eq!(first.counts(), [0, 1, 3]);
    }

    #[test]
    fn empty_full_and_sizeless_masks() {
        assert_eq!(Rle::encode(&[0; 12], 3, 4).unwrap(), Rle::empty(3, 4).unwrap());
        let full = Rle::encode(&[1; 12], 3, 4).unwrap();
        assert_eq!((full.counts(), full.bbox()), (&[0, 12][..], [0.0, 0.0, 4.0, 3.0]));
        let none = Rle::encode(&[], 0, 5).unwrap();
        assert_eq!((none.area(), none.bbox(), none.decode().len()), (0, [0.0; 4], 0));
    }

    #[test]
    fn zero_runs_are_joined() {
        let mask = Rle::from_counts(1, 9, &[0, 0, 2, 3, 0, 1, 3, 0]).unwrap();
        assert_eq!(mask.counts(), [2, 4, 3]);
        assert_eq!(Rle::from_counts(1, 3, &[0, 0, 0, 3]).unwrap().counts(), [0, 3]);
    }

    #[test]
    fn wrong_totals_say_by_how_much() {
        let text = Rle::from_counts(4, 4, &[3, 2]).unwrap_err().to_string();
        assert!(text.contains("5") && text.contains("4 × 4"), "{text}");
        assert!(Rle::encode(&[0; 3], 2, 2).unwrap_err().to_string().contains("3 bytes"));
        assert!(matches!(Rle::empty(1 << 16, 1 << 16), Err(MaskError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn pixels_survive_the_round_trip(
            (height, width, pixels) in (1u32..24, 1u32..24).prop_flat_map(|(h, w)| {
                (Just(h), Just(w), proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255)], (h * w) as usize))
            })
        ) {
            let mask = Rle::encode(&pixels, height, width).unwrap();
            let expected: Vec<u8> = pixels.iter().map(|&p| u8::from(p != 0)).collect();
            prop_assert_eq!(mask.decode(), expected.clone());
            prop_assert_eq!(mask.area(), expected.iter().map(|&p| u64::from(p)).sum::<u64>());
            prop_assert!(mask.counts().iter().skip(1).all(|&run| run > 0));
            prop_assert_eq!(Rle::from_counts(height, width, mask.counts()).unwrap(), mask.clone());

            let set = || (0..pixels.len()).filter(|&i| pixels[i] != 0).map(|i| (i as u32 % width, i as u32 / width));
            let expected = match (set().map(|p| p.0).min(), set().map(|p| p.0).max(), set().map(|p| p.1).min(), set().map(|p| p.1).max()) {
                (Some(l), Some(r), Some(t), Some(b)) => [l, t, r - l + 1, b - t + 1].map(f64::from),
                _ => [0.0; 4],
            };
            prop_assert_eq!(mask.bbox(), expected);
        }
    }
}
