//! Segmentations of a whole dataset in a few large buffers.
//!
//! COCO writes coordinates with two decimals. Those are kept as `f32` and come back as the very `f64` the file's decimal
//! means; an annotation with finer coordinates keeps its `f64`. Rasterising can hang on the last bit (see
//! `mask/polygon.rs`), so nothing may be rounded, and twice the memory for all would be a waste.

use anyhow::{Context, Result, bail};

use crate::mask::{MaskError, Rle};

/// Where an annotation's segmentation lies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Slot {
    /// The annotation has none.
    #[default]
    None,
    /// Polygons of two-decimal coordinates: first, number.
    Hundredths(u32, u32),
    /// Polygons of other coordinates: first, number.
    Exact(u32, u32),
    /// Run lengths: which.
    Runs(u32),
}

/// Where segmentations that were added begin.
#[derive(Clone, Copy)]
pub(super) struct Firsts {
    hundredths: u32,
    exact: u32,
    runs: u32,
}

impl Slot {
    /// The slot of a segmentation that was added.
    pub fn behind(self, firsts: Firsts) -> Self {
        match self {
            Self::None => Self::None,
            Self::Hundredths(first, count) => Self::Hundredths(firsts.hundredths + first, count),
            Self::Exact(first, count) => Self::Exact(firsts.exact + first, count),
            Self::Runs(index) => Self::Runs(firsts.runs + index),
        }
    }
}

/// Lists of numbers, end to end.
#[derive(Clone, Debug)]
struct Lists<T> {
    values: Vec<T>,
    ends: Vec<u32>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { values: Vec::new(), ends: Vec::new() }
    }
}

impl<T> Lists<T> {
    fn push(&mut self, list: impl Iterator<Item = T>) -> Result<()> {
        self.values.extend(list);
        self.ends.push(u32::try_from(self.values.len()).context("more than 4 billion values in segmentations")?);
        Ok(())
    }

    /// Returns which list the first of the others is now.
    fn append(&mut self, others: &Self) -> Result<u32>
    where
        T: Copy,
    {
        let (first, before) = (self.ends.len() as u32, self.values.len());
        u32::try_from(before + others.values.len()).context("more than 4 billion values in segmentations")?;
        self.values.extend_from_slice(&others.values);
        self.ends.extend(others.ends.iter().map(|end| before as u32 + end));
        Ok(first)
    }

    fn get(&self, index: u32) -> &[T] {
        let index = index as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.values[start..self.ends[index] as usize]
    }
}

/// The segmentations of a dataset.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments {
    hundredths: Lists<f32>,
    exact: Lists<f64>,
    runs: Lists<u8>,
    sizes: Vec<[u32; 2]>,
}

/// The segmentation of one annotation, as the file gives it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Segmentation {
    /// No segmentation, or an empty one.
    #[default]
    None,
    /// The object's parts, each `x, y, x, y, …` in pixels.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths.
    Runs {
        /// `[height, width]` in pixels.
        size: [u32; 2],
        /// The compressed string.
        counts: Vec<u8>,
    },
}

impl Segments {
    /// Stores polygons; `ends[i]` is where polygon `i` ends in `values`.
    pub fn push_polygons(&mut self, values: &[f64], ends: &[usize]) -> Result<Slot> {
        if ends.is_empty() {
            return Ok(Slot::None);
        }
        let hundredths = values.iter().all(|&v| restore(v as f32).to_bits() == v.to_bits());
        let first = if hundredths { self.hundredths.ends.len() } else { self.exact.ends.len() } as u32;
        let mut start = 0;
        for &end in ends {
            let polygon = values[start..end].iter();
            start = end;
            if hundredths {
                self.hundredths.push(polygon.map(|&v| v as f32))?;
            } else {
                self.exact.push(polygon.copied())?;
            }
        }
        let count = ends.len() as u32;
        Ok(if hundredths { Slot::Hundredths(first, count) } else { Slot::Exact(first, count) })
    }

    /// Stores run lengths as their compressed string.
    pub fn push_runs(&mut self, size: [u32; 2], counts: &[u8]) -> Result<Slot> {
        self.sizes.push(size);
        self.runs.push(counts.iter().copied())?;
        Ok(Slot::Runs(self.sizes.len() as u32 - 1))
    }

    /// Stores all that `others` holds; a slot of it is afterwards [`Slot::behind`] what is returned.
    pub fn append(&mut self, others: &Self) -> Result<Firsts> {
        self.sizes.extend(&others.sizes);
        Ok(Firsts {
            hundredths: self.hundredths.append(&others.hundredths)?,
            exact: self.exact.append(&others.exact)?,
            runs: self.runs.append(&others.runs)?,
        })
    }

    /// Stores what `other` holds at `slot`.
    pub fn copy_from(&mut self, other: &Self, slot: Slot) -> Result<Slot> {
        match slot {
            Slot::None => Ok(slot),
            Slot::Runs(index) => self.push_runs(other.sizes[index as usize], other.runs.get(index)),
            Slot::Hundredths(first, count) => {
                let start = self.hundredths.ends.len() as u32;
                (first..first + count)
                    .try_for_each(|i| self.hundredths.push(other.hundredths.get(i).iter().copied()))?;
                Ok(Slot::Hundredths(start, count))
            }
            Slot::Exact(first, count) => {
                let start = self.exact.ends.len() as u32;
                (first..first + count).try_for_each(|i| self.exact.push(other.exact.get(i).iter().copied()))?;
                Ok(Slot::Exact(start, count))
            }
        }
    }

    pub fn get(&self, slot: Slot) -> Segmentation {
        match slot {
            Slot::None => Segmentation::None,
            Slot::Runs(index) => {
                Segmentation::Runs { size: self.sizes[index as usize], counts: self.runs.get(index).to_vec() }
            }
            Slot::Hundredths(first, count) => Segmentation::Polygons(
                (first..first + count).map(|i| self.hundredths.get(i).iter().map(|&v| restore(v)).collect()).collect(),
            ),
            Slot::Exact(first, count) => {
                Segmentation::Polygons((first..first + count).map(|i| self.exact.get(i).to_vec()).collect())
            }
        }
    }

    /// `[height, width]` and compressed string of run lengths.
    pub fn runs(&self, index: u32) -> ([u32; 2], &[u8]) {
        (self.sizes[index as usize], self.runs.get(index))
    }

    /// The corners (xyxy) of each polygon at `slot`, `None` for one that encloses nothing; nothing for other segmentations.
    pub fn polygon_bounds(&self, slot: Slot) -> impl Iterator<Item = Option<[f64; 4]>> + '_ {
        let (first, count) = match slot {
            Slot::Hundredths(first, count) | Slot::Exact(first, count) => (first, count),
            Slot::None | Slot::Runs(_) => (0, 0),
        };
        (first..first + count).map(move |i| match slot {
            Slot::Exact(..) => bounds(self.exact.get(i)),
            _ => bounds(self.hundredths.get(i)),
        })
    }

    /// Gives back the memory that growing left over.
    pub fn shrink(&mut self) {
        self.hundredths.values.shrink_to_fit();
        self.exact.values.shrink_to_fit();
        self.runs.values.shrink_to_fit();
    }
}

impl Segmentation {
    /// The mask at the size of the image, `[height, width]`: polygons drawn and joined, runs decoded. Polygons of fewer
    /// than three points, or of half a point, are skipped.
    ///
    /// # Errors
    /// A damaged segmentation, or run lengths of another size than the image.
    pub fn mask(&self, height: u32, width: u32) -> Result<Rle> {
        match self {
            Self::None => Ok(Rle::empty(height, width)?),
            Self::Polygons(polygons) => {
                let whole = polygons.iter().filter(|polygon| is_drawable(polygon.len())).map(Vec::as_slice);
                match Rle::from_polygons(whole, height, width) {
                    Err(MaskError::NoMasks) => Ok(Rle::empty(height, width)?),
                    mask => Ok(mask?),
                }
            }
            Self::Runs { size, counts } => {
                if *size != [height, width] {
                    bail!("the mask is height × width {} × {}, its image {height} × {width}", size[0], size[1]);
                }
                Ok(Rle::from_compressed(height, width, counts)?)
            }
        }
    }
}

/// The corners of a polygon; `None` when it encloses nothing.
fn bounds<T: Copy + PartialOrd + Into<f64>>(polygon: &[T]) -> Option<[f64; 4]> {
    is_drawable(polygon.len()).then(|| {
        let [mut low, mut high] = [[polygon[0], polygon[1]]; 2];
        for point in polygon.as_chunks::<2>().0 {
            for axis in 0..2 {
                low[axis] = if point[axis] < low[axis] { point[axis] } else { low[axis] };
                high[axis] = if point[axis] > high[axis] { point[axis] } else { high[axis] };
            }
        }
        [low[0], low[1], high[0], high[1]].map(Into::into)
    })
}

/// Whether a polygon of that many coordinates encloses anything.
fn is_drawable(coordinates: usize) -> bool {
    coordinates >= 6 && coordinates.is_multiple_of(2)
}

/// The decimal of two places that rounds to `value`, if there is one, else `value` itself.
fn restore(value: f32) -> f64 {
    let wide = f64::from(value);
    let decimal = (wide * 100.0).round() / 100.0;
    if decimal as f32 == value { decimal } else { wide }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn coordinates_come_back_bit_for_bit(
            hundredths in proptest::collection::vec(-10_000i32..200_000, 6..20),
            other in proptest::collection::vec(-1e4f64..1e4, 0..3),
        ) {
            let mut values: Vec<f64> = hundredths.iter().map(|&v| f64::from(v) / 100.0).collect();
            let mut segments = Segments::default();
            let two_decimals = segments.push_polygons(&values, &[4, values.len()]).unwrap();
            prop_assert!(matches!(two_decimals, Slot::Hundredths(0, 2)));
            prop_assert_eq!(segments.get(two_decimals), Segmentation::Polygons(vec![values[..4].to_vec(), values[4..].to_vec()]));
            values.extend(other);
            let slot = segments.push_polygons(&values, &[values.len()]).unwrap();
            prop_assert_eq!(segments.get(slot), Segmentation::Polygons(vec![values.clone()]));
            let mut copy = Segments::default();
            let copied = copy.copy_from(&segments, slot).unwrap();
            prop_assert_eq!(copy.get(copied), segments.get(slot));
        }
    }
}
