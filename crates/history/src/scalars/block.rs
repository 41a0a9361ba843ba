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

/// The points at the beginning of `bytes`, and how many bytes they take; `None` where no whole block is.
pub fn decode(bytes: &[u8]) -> Option<(Vec<Point>, usize)> {
    let mut head = Bytes(bytes);
    let length = head.u32()? as usize;
    let sum = head.u32()?;
    let body = bytes.get(8..length).filter(|body| length <= LONGEST && crc32fast::hash(body) == sum)?;
    let mut body = Bytes(body);
    let widths: [u8; 4] = body.take(4)?.try_into().ok()?;
    let (step, epoch, time) = (body.u64()?, body.u64()?, body.i64()?);
    let mut column = |column: usize| {
        let width = usize::from(widths[column]).min(8);
        Some((body.take(width * BLOCK)?, width))
    };
    let (steps, epochs, times) = (column(0)?, column(1)?, column(2)?);
    let values = body.take(8 * BLOCK)?;
    let at = |(column, width): (&[u8], usize), row: usize| {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&column[row * width..(row + 1) * width]);
        u64::from_le_bytes(bytes)
    };
    let points = (0..BLOCK).map(|row| Point {
        step: step.wrapping_add(at(steps, row)),
        epoch: epoch.wrapping_add(at(epochs, row)),
        time: seconds(time.wrapping_add(at(times, row).cast_signed())),
        value: f64::from_bits(at((values, 8), row)),
    });
    Some((points.collect(), length))
}
