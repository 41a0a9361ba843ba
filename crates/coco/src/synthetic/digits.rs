//! `builtin:digits`: handwriting-like digits in MNIST's file format.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};

use super::glyphs::{Stroke, glyph};
use super::outline::{Point, sin_cos};
use super::store::publish;
use crate::dice::Dice;
use crate::parallel::parallel;

/// Raised whenever the same specification gives other files.
const VERSION: u32 = 1;
/// Width and height in pixels.
const SIDE: usize = 28;

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub struct DigitsSpec {
    /// Digits in the training files.
    pub train: usize,
    /// Digits in the test files.
    pub test: usize,
    /// Everything follows from it.
    pub seed: u64,
}

impl Default for DigitsSpec {
    fn default() -> Self {
        Self { train: 6000, test: 1000, seed: 0 }
    }
}

/// Writes the four files of MNIST into the folder `root`, unless they are there already:
/// `{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`, grey images `[N, 28, 28]` and labels `[N]` of 0 to 9.
///
/// Digits are drawn from strokes in several styles each, bent, slanted, turned and scaled, with pens of all widths,
/// blur, noise and stray marks. The folder appears completely or not at all, also with several processes at once.
///
/// # Errors
/// A folder that holds something else, or a disk that cannot be written.
pub fn write_digits(root: &Path, spec: &DigitsSpec) -> Result<()> {
    publish(root, &format!("digits {VERSION} {spec:?}\n"), |folder| {
        for (stream, name, count) in [(0u64, "train", spec.train), (1, "t10k", spec.test)] {
            // Each image has a sequence of its own, so the number of threads does not show.
            let indices: Vec<u64> = (0..count as u64).collect();
            let digits = parallel(&indices, |&i| {
                let mut dice = Dice::new(spec.seed, stream << 32 | i);
                let label = dice.below(10);
                (label as u8, digit(label, &mut dice))
            });
            let (labels, pictures): (Vec<u8>, Vec<Vec<u8>>) = digits.into_iter().unzip();
            let side = SIDE as u32;
            write_idx(
                &folder.join(format!("{name}-images-idx3-ubyte.gz")),
                &[count as u32, side, side],
                &pictures.concat(),
            )?;
            write_idx(&folder.join(format!("{name}-labels-idx1-ubyte.gz")), &[count as u32], &labels)?;
        }
        Ok(())
    })
}

/// Bytes of that shape as a gzipped IDX file.
fn write_idx(path: &Path, shape: &[u32], data: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        // Without a time in the header the same bytes come out every time.
        let mut file = GzBuilder::new().write(File::create(path)?, Compression::default());
        file.write_all(&[0, 0, 8, shape.len() as u8])?;
        shape.iter().try_for_each(|side| file.write_all(&side.to_be_bytes()))?;
        file.write_all(data)?;
        file.finish()?.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// One digit, `[28, 28]`.
fn digit(label: usize, dice: &mut Dice) -> Vec<u8> {
    let place = Placement::random(dice);
    let mut strokes: Vec<Stroke> = glyph(label, dice);
    strokes.iter_mut().flatten().for_each(|point| *point = place.apply(*point));
    let pen = dice.between(0.9, 2.1);
    let edge = dice.between(0.7, 2.0);
    let ink = dice.between(150.0, 255.0);
    let grain = dice.between(0.0, 22.0);
    if dice.chance(0.15) {
        // A stray mark.
        let start = [dice.between(0.0, 28.0), dice.between(0.0, 28.0)];
        strokes.push(vec![start, start.map(|v| v + 2.5 * dice.normal())]);
    }
    let mut pixels = Vec::with_capacity(SIDE * SIDE);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let distance = nearest(&strokes, [x as f64 + 0.5, y as f64 + 0.5]);
            let value = ink * ((pen - distance) / edge + 0.5).clamp(0.0, 1.0) + grain * dice.between(-1.5, 1.5);
            pixels.push(value.round().clamp(0.0, 255.0) as u8);
        }
    }
    pixels
}

/// Distance from a point to the nearest stroke.
fn nearest(strokes: &[Stroke], [x, y]: Point) -> f64 {
    let mut best = f64::MAX;
    for pair in strokes.iter().flat_map(|stroke| stroke.windows(2)) {
        let (dx, dy) = (pair[1][0] - pair[0][0], pair[1][1] - pair[0][1]);
        let (px, py) = (x - pair[0][0], y - pair[0][1]);
        let length = dx * dx + dy * dy;
        let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
        let (ex, ey) = (px - along * dx, py - along * dy);
        best = best.min(ex * ex + ey * ey);
    }
    best.sqrt()
}

/// From the unit square of a glyph to pixels: bent, then slanted, turned, scaled and moved.
struct Placement {
    bend: [Point; 2],
    matrix: [Point; 2],
    center: Point,
}

impl Placement {
    fn random(dice: &mut Dice) -> Self {
        let (sin, cos) = sin_cos(dice.normal() * 0.03);
        let slant = dice.normal() * 0.18;
        let (wide, high) = (dice.between(11.0, 18.0), dice.between(16.0, 22.0));
        let bend = [(); 2].map(|()| [dice.normal() * 0.035, dice.unit()]);
        Self {
            bend,
            matrix: [[wide * cos, wide * slant - high * sin], [wide * sin, high * cos]],
            center: [14.0 + 1.3 * dice.normal(), 14.0 + 1.1 * dice.normal()],
        }
    }

    fn apply(&self, [x, y]: Point) -> Point {
        let wave = |[size, phase]: Point, along: f64| size * sin_cos(0.8 * along + phase).0;
        let (x, y) = (x + wave(self.bend[0], y) - 0.5, y + wave(self.bend[1], x) - 0.5);
        let row = |row: Point, center: f64| center + row[0] * x + row[1] * y;
        [row(self.matrix[0], self.center[0]), row(self.matrix[1], self.center[1])]
    }
}
