//! Instance masks that know where their pixels are.
//!
//! An object covers a small part of its image. A mask therefore keeps the pixels of a window around it; flips, crops,
//! nearest-neighbour resizing and warps of the window give exactly the pixels that they would give of the whole plane, and
//! cost as much as the object is large. The whole planes `[N, H, W]` are painted once, when a batch is made.

use serde::{Deserialize, Serialize};

/// Instance masks of one image.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Masks {
    /// Height of the image in pixels.
    pub height: usize,
    /// Width of the image in pixels.
    pub width: usize,
    /// One an instance.
    pub instances: Vec<Mask>,
}

/// The mask of one instance: a window of the image; everything outside it is background.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mask {
    /// First column of the window.
    pub left: usize,
    /// First row of the window.
    pub top: usize,
    /// Columns of the window.
    pub width: usize,
    /// Rows of the window.
    pub height: usize,
    /// `height * width` values, 0 or 1, row by row.
    #[serde(with = "serde_bytes")]
    pub bits: Vec<u8>,
}

impl Masks {
    /// Masks given as whole planes of 0 (background) and other values, row by row.
    ///
    /// # Panics
    /// When a plane has not `height * width` values: a mistake of the caller, not of the user.
    pub fn from_bitmaps<'a>(height: usize, width: usize, planes: impl IntoIterator<Item = &'a [u8]>) -> Masks {
        let instances = planes.into_iter().map(|plane| Mask::from_bitmap(height, width, plane)).collect();
        Masks { height, width, instances }
    }

    /// All planes, `[N, H, W]` end to end, 0 or 1.
    pub fn to_planes(&self) -> Vec<u8> {
        let mut planes = vec![0; self.instances.len() * self.height * self.width];
        self.paint(&mut planes);
        planes
    }

    /// Sets the foreground to 1 in planes `[N, H, W]` of zeros.
    pub fn paint(&self, planes: &mut [u8]) {
        let plane = (self.height * self.width).max(1);
        for (mask, plane) in self.instances.iter().zip(planes.chunks_exact_mut(plane)) {
            mask.paint(plane, self.width);
        }
    }

    /// Turns left and right round.
    pub fn flip_horizontal(&mut self) {
        for mask in &mut self.instances {
            mask.left = self.width - mask.left - mask.width;
            mask.bits.chunks_exact_mut(mask.width.max(1)).for_each(<[u8]>::reverse);
        }
    }

    /// Turns top and bottom round.
    pub fn flip_vertical(&mut self) {
        for mask in &mut self.instances {
            mask.top = self.height - mask.top - mask.height;
            mask.bits = mask.bits.rchunks_exact(mask.width.max(1)).flatten().copied().collect();
        }
    }

    /// The part from row `top` and column `left` on, of `height` by `width`; where that lies outside, background.
    pub fn crop(&mut self, top: i64, left: i64, height: usize, width: usize) {
        for mask in &mut self.instances {
            *mask = mask.crop(top, left, height, width);
        }
        (self.height, self.width) = (height, width);
    }

    /// Nearest neighbours at another size: what `torch.nn.functional.interpolate(mode="nearest")` takes.
    pub fn resize(&mut self, height: usize, width: usize) {
        let rows = nearest(self.height, height);
        let columns = nearest(self.width, width);
        for mask in &mut self.instances {
            *mask = mask.gather(&rows, &columns);
        }
        (self.height, self.width) = (height, width);
    }
}

impl Mask {
    /// The mask of a whole plane of `height` by `width`: background where 0.
    ///
    /// # Panics
    /// When the plane has not `height * width` values: a mistake of the caller, not of the user.
    pub fn from_bitmap(height: usize, width: usize, plane: &[u8]) -> Mask {
        assert_eq!(plane.len(), height * width, "mask plane of the wrong length");
        Mask { left: 0, top: 0, width, height, bits: plane.iter().map(|&v| u8::from(v != 0)).collect() }.trimmed()
    }

    /// The mask of run lengths down the columns of an image of `image_height` rows, beginning with background, as COCO
    /// writes them. Runs beyond the image's end are cut off.
    pub fn from_runs(image_height: usize, image_width: usize, runs: &[u32]) -> Mask {
        let (height, end) = (image_height, image_height * image_width);
        let strips = || {
            let mut at = 0usize;
            let ones = runs.iter().enumerate().filter_map(move |(i, &run)| {
                let start = at.min(end);
                at = at.saturating_add(run as usize);
                (i % 2 == 1 && start < at.min(end)).then_some(start..at.min(end))
            });
            ones.flat_map(move |run| {
                (run.start / height..=(run.end - 1) / height).map(move |x| {
                    let rows = run.start.max(x * height) - x * height..run.end.min((x + 1) * height) - x * height;
                    (x, rows)
                })
            })
        };
        let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
        for (x, rows) in strips() {
            (left, right) = (left.min(x), right.max(x + 1));
            (top, bottom) = (top.min(rows.start), bottom.max(rows.end));
        }
        if right == 0 {
            return Mask::default();
        }
        let (width, height) = (right - left, bottom - top);
        let mut bits = vec![0; width * height];
        for (x, rows) in strips() {
            let column = bits[x - left..].iter_mut().step_by(width);
            column.take(rows.end - top).skip(rows.start - top).for_each(|bit| *bit = 1);
        }
        Mask { left, top, width, height, bits }
    }

    /// Number of foreground pixels.
    pub fn area(&self) -> usize {
        self.bits.iter().map(|&bit| usize::from(bit)).sum()
    }

    /// Sets the mask's foreground to 1 in a plane of `image_width` columns.
    pub fn paint(&self, plane: &mut [u8], image_width: usize) {
        if self.bits.is_empty() {
            return;
        }
        let rows = plane.chunks_exact_mut(image_width).skip(self.top);
        for (row, bits) in rows.zip(self.bits.chunks_exact(self.width)) {
            row[self.left..self.left + self.width].copy_from_slice(bits);
        }
    }

    /// The value at a pixel of the image.
    pub fn at(&self, y: usize, x: usize) -> u8 {
        let inside =
            (self.top..self.top + self.height).contains(&y) && (self.left..self.left + self.width).contains(&x);
        if inside { self.bits[(y - self.top) * self.width + x - self.left] } else { 0 }
    }

    /// The same mask in the smallest window.
    pub fn trimmed(&self) -> Mask {
        let rows: Vec<&[u8]> = self.bits.chunks_exact(self.width.max(1)).collect();
        let filled = |row: &&[u8]| row.contains(&1);
        let (Some(first), Some(last)) = (rows.iter().position(filled), rows.iter().rposition(filled)) else {
            return Mask::default();
        };
        let rows = &rows[first..=last];
        let start = rows.iter().filter_map(|row| row.iter().position(|&bit| bit == 1)).min().unwrap_or(0);
        let end = rows.iter().filter_map(|row| row.iter().rposition(|&bit| bit == 1)).max().unwrap_or(0) + 1;
        let bits = rows.iter().flat_map(|row| &row[start..end]).copied().collect();
        Mask { left: self.left + start, top: self.top + first, width: end - start, height: rows.len(), bits }
    }

    fn crop(&self, top: i64, left: i64, height: usize, width: usize) -> Mask {
        let rows = overlap(self.top, self.height, top, height);
        let columns = overlap(self.left, self.width, left, width);
        if rows.is_empty() || columns.is_empty() {
            return Mask::default();
        }
        let window = self.bits.chunks_exact(self.width).skip(rows.start).take(rows.len());
        Mask {
            left: ((self.left + columns.start) as i64 - left) as usize,
            top: ((self.top + rows.start) as i64 - top) as usize,
            width: columns.len(),
            height: rows.len(),
            bits: window.flat_map(|row| &row[columns.clone()]).copied().collect(),
        }
    }

    /// The mask whose pixel `(y, x)` is this one's `(rows[y], columns[x])`; both lists rise.
    fn gather(&self, rows: &[usize], columns: &[usize]) -> Mask {
        let window = |list: &[usize], start: usize, length: usize| {
            list.partition_point(|&i| i < start)..list.partition_point(|&i| i < start + length)
        };
        let (ys, xs) = (window(rows, self.top, self.height), window(columns, self.left, self.width));
        if ys.is_empty() || xs.is_empty() {
            return Mask::default();
        }
        let columns: Vec<usize> = columns[xs.clone()].iter().map(|x| x - self.left).collect();
        let mut bits = Vec::with_capacity(ys.len() * xs.len());
        for &y in &rows[ys.clone()] {
            let row = &self.bits[(y - self.top) * self.width..][..self.width];
            bits.extend(columns.iter().map(|&x| row[x]));
        }
        Mask { left: xs.start, top: ys.start, width: xs.len(), height: ys.len(), bits }
    }
}

/// The part of a window `[start, start + length)` that lies in `[from, from + size)`, counted from the window's start.
fn overlap(start: usize, length: usize, from: i64, size: usize) -> std::ops::Range<usize> {
    let start = start as i64;
    let first = (from - start).clamp(0, length as i64);
    let last = (from + size as i64 - start).clamp(first, length as i64);
    first as usize..last as usize
}

/// For each of `to` positions the one of `from` that libtorch's nearest-neighbour resizing takes
/// (`nearest_neighbor_compute_source_index`: in single precision, rounded down).
pub fn nearest(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f32 / to as f32;
    (0..to).map(|i| ((i as f32 * scale) as usize).min(from.saturating_sub(1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Three masks of an image, as whole planes.
    fn planes(height: usize, width: usize, bits: &[u8]) -> Vec<Vec<u8>> {
        let plane = height * width;
        let mut some: Vec<u8> = bits.iter().copied().cycle().take(plane).collect();
        // The middle only, so that there is a border to trim.
        for (i, bit) in some.iter_mut().enumerate() {
            let (y, x) = (i / width, i % width);
            if y < height / 3 || x < width / 4 || x > width * 3 / 4 {
                *bit = 0;
            }
        }
        vec![some, vec![0; plane], vec![1; plane]]
    }

    fn masks(height: usize, width: usize, planes: &[Vec<u8>]) -> Masks {
        Masks::from_bitmaps(height, width, planes.iter().map(Vec::as_slice))
    }

    /// What `f` of the coordinates takes from each plane.
    fn expect(planes: &[Vec<u8>], height: usize, width: usize, f: impl Fn(usize, usize) -> Option<usize>) -> Vec<u8> {
        let at = |plane: &Vec<u8>, y, x| f(y, x).map_or(0, |i| plane[i]);
        let all = planes.iter().flat_map(|p| (0..height).flat_map(move |y| (0..width).map(move |x| (p, y, x))));
        all.map(|(p, y, x)| at(p, y, x)).collect()
    }

    proptest! {
        #[test]
        fn windows_change_as_whole_planes_do(
            (h, w) in (1usize..12, 1usize..12),
            bits in proptest::collection::vec(0u8..2, 1..40),
            (new_h, new_w) in (1usize..20, 1usize..20),
            (top, left) in (-6i64..12, -6i64..12),
        ) {
            let planes = planes(h, w, &bits);
            let original = masks(h, w, &planes);
            prop_assert_eq!(original.to_planes(), planes.concat());

            let mut flipped = original.clone();
            flipped.flip_horizontal();
            prop_assert_eq!(flipped.to_planes(), expect(&planes, h, w, |y, x| Some(y * w + w - 1 - x)));
            let mut flipped = original.clone();
            flipped.flip_vertical();
            prop_assert_eq!(flipped.to_planes(), expect(&planes, h, w, |y, x| Some((h - 1 - y) * w + x)));

            let mut resized = original.clone();
            resized.resize(new_h, new_w);
            let (rows, columns) = (nearest(h, new_h), nearest(w, new_w));
            let expected = expect(&planes, new_h, new_w, |y, x| Some(rows[y] * w + columns[x]));
            prop_assert_eq!(resized.to_planes(), expected);

            let mut cropped = original.clone();
            cropped.crop(top, left, new_h, new_w);
            let expected = expect(&planes, new_h, new_w, |y, x| {
                let (y, x) = (y as i64 + top, x as i64 + left);
                ((0..h as i64).contains(&y) && (0..w as i64).contains(&x)).then(|| y as usize * w + x as usize)
            });
            prop_assert_eq!(cropped.to_planes(), expected);
        }

        #[test]
        fn runs_are_drawn_down_the_columns(h in 1usize..9, runs in proptest::collection::vec(0u32..12, 0..12)) {
            let w = 7;
            let mut columns = vec![0u8; h * w];
            let mut at = 0;
            for (i, &run) in runs.iter().enumerate() {
                let end = (at + run as usize).min(h * w);
                columns[at..end].fill((i % 2) as u8);
                at = end;
            }
            let mask = Mask::from_runs(h, w, &runs);
            let mut plane = vec![0; h * w];
            mask.paint(&mut plane, w);
            let expected: Vec<u8> = (0..h).flat_map(|y| (0..w).map(move |x| x * h + y)).map(|i| columns[i]).collect();
            prop_assert_eq!(&plane, &expected);
            prop_assert_eq!(mask.area(), expected.iter().filter(|&&bit| bit == 1).count());
            prop_assert_eq!(mask.trimmed(), mask);
        }
    }
}
