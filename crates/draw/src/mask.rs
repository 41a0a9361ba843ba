//! Instance masks over an image.

use anyhow::{Result, ensure};

use super::canvas::{Canvas, Rect};
use super::palette::{Color, mix};

/// A binary mask of a whole image, `[height, width]` in row-major order; everything but 0 is inside.
#[derive(Clone, Copy, Debug)]
pub struct MaskRef<'a> {
    data: &'a [u8],
    height: usize,
    width: usize,
}

impl<'a> MaskRef<'a> {
    /// Looks at `data`, `[height, width]`.
    ///
    /// # Errors
    /// `data` is not of that size.
    pub fn new(data: &'a [u8], height: usize, width: usize) -> Result<Self> {
        ensure!(
            height.checked_mul(width) == Some(data.len()),
            "a mask of {height} × {width} pixels needs {height} × {width} bytes, got {}",
            data.len()
        );
        Ok(Self { data, height, width })
    }

    /// Whether the pixel at row `y` and column `x` is inside the mask.
    pub fn contains(&self, y: usize, x: usize) -> bool {
        y < self.height && x < self.width && self.data[y * self.width + x] != 0
    }

    /// The smallest rectangle around the mask; `None` for an empty one.
    pub fn bounds(&self) -> Option<Rect> {
        let (mut top, mut bottom, mut left, mut right) = (usize::MAX, 0, usize::MAX, 0);
        for (y, row) in self.data.chunks_exact(self.width.max(1)).enumerate() {
            let Some(first) = row.iter().position(|&inside| inside != 0) else {
                continue;
            };
            let last = row.iter().rposition(|&inside| inside != 0).unwrap_or(first);
            (top, bottom) = (top.min(y), y + 1);
            (left, right) = (left.min(first), right.max(last + 1));
        }
        (bottom > 0).then(|| Rect::new(left as f32, top as f32, right as f32, bottom as f32))
    }
}

/// How a mask is painted.
pub(super) struct MaskStyle {
    pub(super) color: Color,
    /// Of the filling.
    pub(super) alpha: f32,
    /// Pixels of the contour, which lies inside the mask.
    pub(super) contour: usize,
    /// Pixels of the canvas per pixel of the mask, each way.
    pub(super) enlarged: usize,
}

/// Fills the mask and draws its contour in a darker shade. Pixels outside the mask stay as they are.
pub(super) fn paint(canvas: &mut Canvas, mask: &MaskRef, style: &MaskStyle) {
    let Some(bounds) = mask.bounds() else { return };
    let patch = Patch::cut(mask, &bounds, style);
    let depth = patch.depth(style.contour);
    let contour = mix(style.color, [0, 0, 0], 0.25);
    for (at, &depth) in depth.iter().enumerate().filter(|(_, depth)| **depth > 0) {
        let (y, x) = (patch.top + at / patch.width, patch.left + at % patch.width);
        if depth <= style.contour {
            canvas.blend(y, x, contour, 0.95);
        } else {
            canvas.blend(y, x, style.color, style.alpha);
        }
    }
}

/// The part of a mask within its bounds and one pixel more, at the size of the canvas.
struct Patch {
    /// Canvas row of the first pixel inside the border, less one; the border itself may lie outside the canvas.
    top: usize,
    left: usize,
    height: usize,
    width: usize,
    inside: Vec<bool>,
}

impl Patch {
    fn cut(mask: &MaskRef, bounds: &Rect, style: &MaskStyle) -> Self {
        let scale = style.enlarged.max(1);
        let (top, left) = (bounds.y1 as usize, bounds.x1 as usize);
        let (height, width) = ((bounds.y2 as usize - top) * scale, (bounds.x2 as usize - left) * scale);
        let inside =
            (0..height * width).map(|at| mask.contains(top + at / width / scale, left + at % width / scale)).collect();
        Self { top: top * scale, left: left * scale, height, width, inside }
    }

    /// How many steps each pixel is inside the mask, counted up to `most + 1`; 0 outside. Beyond the patch is outside.
    ///
    /// Steps go alternately to four and to eight neighbors, whose distance is an octagon and so nearly round.
    fn depth(&self, most: usize) -> Vec<usize> {
        let mut depth: Vec<usize> = self.inside.iter().map(|&inside| usize::from(inside) * (most + 1)).collect();
        for step in 0..most {
            // What is still deep but touches something shallower is `step + 1` deep.
            let deep = |y: Option<usize>, x: Option<usize>| match (y, x) {
                (Some(y), Some(x)) if y < self.height && x < self.width => depth[y * self.width + x] > step,
                _ => false,
            };
            let mut found = Vec::new();
            for at in (0..depth.len()).filter(|&at| depth[at] > most) {
                let (y, x) = (at / self.width, at % self.width);
                let (rows, columns) = ([y.checked_sub(1), Some(y + 1)], [x.checked_sub(1), Some(x + 1)]);
                let sides =
                    rows.iter().all(|&row| deep(row, Some(x))) && columns.iter().all(|&column| deep(Some(y), column));
                let corners = step % 2 == 0 || rows.iter().all(|&row| columns.iter().all(|&column| deep(row, column)));
                if !(sides && corners) {
                    found.push(at);
                }
            }
            found.into_iter().for_each(|at| depth[at] = step + 1);
        }
        depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RgbImage;

    #[test]
    fn the_mask_is_filled_with_a_darker_contour_and_nothing_else_changes() {
        let mut data = [0u8; 100];
        for y in 2..8 {
            data[y * 10 + 1..y * 10 + 7].fill(1);
        }
        let mask = MaskRef::new(&data, 10, 10).unwrap();
        assert_eq!(mask.bounds(), Some(Rect::new(1.0, 2.0, 7.0, 8.0)));
        for enlarged in [1, 3] {
            let gray = RgbImage::filled(10 * enlarged, 10 * enlarged, [100; 3]);
            let mut canvas = Canvas::new(gray);
            paint(&mut canvas, &mask, &MaskStyle { color: [240, 100, 100], alpha: 0.5, contour: 1, enlarged });
            let red = |y: usize, x: usize| canvas.image().pixel(y, x).unwrap()[0];
            for y in 0..10 * enlarged {
                for x in 0..10 * enlarged {
                    assert_eq!(red(y, x) != 100, mask.contains(y / enlarged, x / enlarged), "{y} {x}");
                }
            }
            assert_eq!(red(5 * enlarged, 4 * enlarged), 170, "the filling");
            assert_eq!(red(2 * enlarged, enlarged), 176, "the contour");
        }
    }

    #[test]
    fn masks_without_pixels_are_nothing() {
        for (height, width) in [(0, 0), (0, 5), (5, 0), (4, 4)] {
            let data = vec![0; height * width];
            assert_eq!(MaskRef::new(&data, height, width).unwrap().bounds(), None);
        }
        assert!(MaskRef::new(&[0; 3], 2, 2).unwrap_err().to_string().contains("2 × 2"));
    }
}
