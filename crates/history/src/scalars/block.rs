//! The points of a block as bytes: columns, each as wide as its values need, so that a block needs no reading of others.
//!
//! ```text
//! u32 length of the whole   u32 CRC-32 of what follows
//! u8 × 3 widths in bytes of steps, epochs, times   u8 0
//! u64 smallest step   u64 smallest epoch   i64 earliest time in µs
//! steps, epochs, times less the smallest; then the values, f64
//! ```

use super::BLOCK;
use crate::point::{Bytes, Point, micros, seconds};

/// No block is longer.
pub const LONGEST: usize = HEAD + 4 * 8 * BLOCK;

/// One with a step each, and times as close as those of training, is no longer.
pub const USUAL: usize = HEAD + 13 * BLOCK;

const HEAD: usize = 8 + 4 + 24;

/// The bytes of a block.
pub fn encode(points: &[Point]) -> Vec<u8> {
    let steps: Vec<u64> = points.iter().map(|point| point.step).collect();
    let epochs: Vec<u64> = points.iter().map(|point| point.epoch).collect();
    let times: Vec<i64> = points.iter().map(|point| micros(point.time)).collect();
    let (step, epoch) = (least(&steps), least(&epochs));
    let time = times.iter().copied().min().unwrap_or_default();
    let since = |time_of: &i64| time_of.wrapping_sub(time).cast_unsigned();
    let columns = [
        steps.iter().map(|own| own - step).collect::<Vec<u64>>(),
        epochs.iter().map(|own| own - epoch).collect(),
        times.iter().map(since).collect(),
    ];
    let widths = [0, 1, 2].map(|column| width(&columns[column]));
    let mut body = vec![widths[0], widths[1], widths[2], 0];
    body.extend(step.to_le_bytes());
    body.extend(epoch.to_le_bytes());
    body.extend(time.to_le_bytes());
    for (column, width) in columns.iter().zip(widths) {
        column.iter().for_each(|value| body.extend(&value.to_le_bytes()[..width.into()]));
    }
    points.iter().for_each(|point| body.extend(point.value.to_le_bytes()));
    let mut bytes = Vec::with_capacity(body.len() + 8);
    bytes.extend((body.len() as u32 + 8).to_le_bytes());
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn least(values: &[u64]) -> u64 {
    values.iter().copied().min().unwrap_or_default()
}

/// Bytes that the largest of these needs.
fn width(values: &[u64]) -> u8 {
    let most = values.iter().copied().max().unwrap_or_default();
    (8 - most.leading_zeros() / 8) as u8
}

/// The length of the block that begins so.
pub fn length(bytes: &[u8]) -> Option<usize> {
    Bytes(bytes).u32().map(|length| length as usize)
}

/// A column: numbers of the same width, each more than the smallest.
#[derive(Clone, Copy)]
struct Column<'a> {
    bytes: &'a [u8],
    width: usize,
    least: u64,
}

impl Column<'_> {
    fn at(self, row: usize) -> u64 {
        let bytes = &self.bytes[row * self.width..(row + 1) * self.width];
        self.least.wrapping_add(match *bytes {
            [] => 0,
            [a] => a.into(),
            [a, b] => u16::from_le_bytes([a, b]).into(),
            [a, b, c] => u32::from_le_bytes([a, b, c, 0]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            _ => bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)),
        })
    }
}

/// A block whose points are looked at one by one.
#[derive(Clone, Copy)]
pub struct Block<'a> {
    steps: Column<'a>,
    epochs: Column<'a>,
    times: Column<'a>,
    values: &'a [u8],
    /// The bytes that it takes.
    pub length: usize,
}

impl Block<'_> {
    /// The block at the beginning of `bytes`; `None` where no whole one is.
    pub fn of(bytes: &[u8]) -> Option<Block<'_>> {
        let mut head = Bytes(bytes);
        let length = head.u32()? as usize;
        let sum = head.u32()?;
        let body = bytes.get(8..length).filter(|body| length <= LONGEST && crc32fast::hash(body) == sum)?;
        let mut body = Bytes(body);
        let widths: [u8; 4] = body.take(4)?.try_into().ok()?;
        let least = [body.u64()?, body.u64()?, body.u64()?];
        let mut column = |at: usize| {
            let width = usize::from(widths[at]).min(8);
            Some(Column { bytes: body.take(width * BLOCK)?, width, least: least[at] })
        };
        let (steps, epochs, times) = (column(0)?, column(1)?, column(2)?);
        Some(Block { steps, epochs, times, values: body.take(8 * BLOCK)?, length })
    }

    /// The step of a point.
    pub fn step(&self, row: usize) -> u64 {
        self.steps.at(row)
    }

    /// Its time, in microseconds since 1970.
    pub fn time(&self, row: usize) -> i64 {
        self.times.at(row).cast_signed()
    }

    /// Its value.
    pub fn value(&self, row: usize) -> f64 {
        let bytes = self.values[row * 8..].first_chunk().copied().unwrap_or_default();
        f64::from_le_bytes(bytes)
    }

    /// The point.
    pub fn point(&self, row: usize) -> Point {
        let (step, epoch) = (self.step(row), self.epochs.at(row));
        Point { step, epoch, time: seconds(self.time(row)), value: self.value(row) }
    }

    /// All points.
    pub fn points(&self) -> Vec<Point> {
        (0..BLOCK).map(|row| self.point(row)).collect()
    }
}
