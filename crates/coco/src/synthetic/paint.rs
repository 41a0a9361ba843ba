//! Pixels: textured backgrounds, and textured fills with soft edges.

use super::outline::Point;
use crate::dice::Dice;

/// Rows a pixel is cut into for its coverage.
const SUBROWS: usize = 4;

/// A color, 0 to 255 each.
pub(super) type Color = [f64; 3];

/// An RGB image being painted.
pub(super) struct Canvas {
    pub width: usize,
    pub height: usize,
    pixels: Vec<Color>,
}

/// A fill: a color that changes across the shape, with grain.
pub(super) struct Fill {
    pub color: Color,
    /// Change of brightness a pixel to the right and down.
    pub slope: Point,
    /// Deviation of the brightness from pixel to pixel.
    pub grain: f64,
}

impl Canvas {
    /// Two colors blended by a smooth random pattern of two scales, with grain.
    pub fn background(width: usize, height: usize, dice: &mut Dice) -> Self {
        let (dark, light) = (color(dice), color(dice));
        let coarse = Lattice::new(width, height, 24 + dice.below(40), dice);
        let fine = Lattice::new(width, height, 4 + dice.below(8), dice);
        let (share, grain) = (dice.between(0.0, 0.6), dice.between(1.0, 8.0));
        let mut pixels = Vec::with_capacity(width * height);
        for y in 0..height {
            for x in 0..width {
                let blend = (1.0 - share) * coarse.at(x, y) + share * fine.at(x, y);
                let noise = grain * dice.between(-1.5, 1.5);
                pixels.push([0, 1, 2].map(|c| dark[c] + (light[c] - dark[c]) * blend + noise));
            }
        }
        Self { width, height, pixels }
    }

    /// Mean color around a point.
    pub fn around(&self, [x, y]: Point) -> Color {
        let of = |v: f64, end: usize| (v.max(4.0) as usize).min(end.saturating_sub(5));
        let (x, y) = (of(x, self.width), of(y, self.height));
        let mut sum = [0.0; 3];
        for offset in [[0, 0], [0, 4], [4, 0], [4, 4], [2, 2]] {
            let pixel = &self.pixels[(y + offset[1] - 2) * self.width + x + offset[0] - 2];
            (0..3).for_each(|c| sum[c] += pixel[c] / 5.0);
        }
        sum
    }

    /// Fills a polygon; a pixel `[x, x + 1) × [y, y + 1)` takes the share of it that lies inside.
    pub fn fill(&mut self, polygon: &[Point], fill: &Fill, dice: &mut Dice) {
        let Some(&center) = polygon.first() else { return };
        let (mut top, mut bottom) = (f64::MAX, f64::MIN);
        polygon.iter().for_each(|p| (top, bottom) = (top.min(p[1]), bottom.max(p[1])));
        let rows = top.max(0.0) as usize..(bottom.max(0.0).ceil() as usize).min(self.height);
        let mut coverage = vec![0.0; self.width];
        for y in rows {
            coverage.fill(0.0);
            for sub in 0..SUBROWS {
                cover(polygon, y as f64 + (sub as f64 + 0.5) / SUBROWS as f64, &mut coverage);
            }
            for (x, &covered) in coverage.iter().enumerate().filter(|(_, covered)| **covered > 0.0) {
                let light = fill.slope[0] * (x as f64 - center[0]) + fill.slope[1] * (y as f64 - center[1]);
                let noise = fill.grain * dice.between(-1.5, 1.5);
                let pixel = &mut self.pixels[y * self.width + x];
                for (value, color) in pixel.iter_mut().zip(fill.color) {
                    *value += (color + light + noise - *value) * covered.min(1.0);
                }
            }
        }
    }

    /// The image as bytes `[H, W, 3]`.
    pub fn to_rgb(&self) -> Vec<u8> {
        self.pixels.iter().flatten().map(|v| v.round().clamp(0.0, 255.0) as u8).collect()
    }
}

/// Adds the lengths in each pixel that a horizontal line has inside a polygon.
fn cover(polygon: &[Point], y: f64, coverage: &mut [f64]) {
    let mut crossings: Vec<f64> = Vec::with_capacity(4);
    for (i, to) in polygon.iter().enumerate() {
        let from = &polygon[(i + polygon.len() - 1) % polygon.len()];
        if (from[1] <= y) != (to[1] <= y) {
            crossings.push(from[0] + (y - from[1]) / (to[1] - from[1]) * (to[0] - from[0]));
        }
    }
    crossings.sort_by(f64::total_cmp);
    for pair in crossings.chunks_exact(2) {
        let (left, right) = (pair[0].max(0.0), pair[1].min(coverage.len() as f64));
        let mut x = left;
        while x < right {
            let next = (x.floor() + 1.0).min(right);
            coverage[x as usize] += (next - x) / SUBROWS as f64;
            x = next;
        }
    }
}

pub(super) fn color(dice: &mut Dice) -> Color {
    [(); 3].map(|()| dice.between(20.0, 235.0))
}

/// Random values on a grid, smooth in between.
struct Lattice {
    values: Vec<f64>,
    columns: usize,
    cell: usize,
}

impl Lattice {
    fn new(width: usize, height: usize, cell: usize, dice: &mut Dice) -> Self {
        let (columns, rows) = (width / cell + 2, height / cell + 2);
        Self { values: (0..columns * rows).map(|_| dice.unit()).collect(), columns, cell }
    }

    fn at(&self, x: usize, y: usize) -> f64 {
        let smooth = |v: usize| {
            let t = (v % self.cell) as f64 / self.cell as f64;
            t * t * (3.0 - 2.0 * t)
        };
        let (u, v) = (smooth(x), smooth(y));
        let corner = y / self.cell * self.columns + x / self.cell;
        let row = |at: usize| self.values[at] * (1.0 - u) + self.values[at + 1] * u;
        row(corner) * (1.0 - v) + row(corner + self.columns) * v
    }
}
