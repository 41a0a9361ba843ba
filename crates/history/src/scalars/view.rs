//! A curve by pixels: of each the smallest and the largest point, exactly, whatever lies between.

use std::ops::Range;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::BLOCK;
use super::block::Block;
use super::reader::{Blocks, Index, Scalars};
use super::summary::Summary;
use super::tree::{self, Group};
use crate::point::{Point, micros};

/// What a curve is drawn over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Axis {
    /// Steps.
    Step,
    /// Times.
    Time,
}

/// A part of an axis, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The axis.
    pub axis: Axis,
    /// The beginning: a step, or microseconds since 1970.
    pub from: i64,
    /// The end.
    pub to: i64,
}

impl Span {
    /// From one step to another.
    pub fn steps(from: u64, to: u64) -> Span {
        Span { axis: Axis::Step, from: bounded(from), to: bounded(to) }
    }

    /// From one time to another, in seconds since 1970.
    pub fn times(from: f64, to: f64) -> Span {
        Span { axis: Axis::Time, from: micros(from), to: micros(to) }
    }

    fn ends(self, summary: &Summary) -> (i64, i64) {
        match self.axis {
            Axis::Step => (bounded(summary.steps.0), bounded(summary.steps.1)),
            Axis::Time => summary.times,
        }
    }

    fn of(self, point: &Point) -> i64 {
        match self.axis {
            Axis::Step => bounded(point.step),
            Axis::Time => micros(point.time),
        }
    }

    fn in_block(self, block: &Block<'_>, row: usize) -> i64 {
        match self.axis {
            Axis::Step => bounded(block.step(row)),
            Axis::Time => block.time(row),
        }
    }

    fn length(self) -> i128 {
        i128::from(self.to) - i128::from(self.from) + 1
    }

    /// The pixel of a place, of so many; of one outside the first or the last.
    fn pixel(self, place: i64, pixels: u32) -> usize {
        let since = i128::from(place.clamp(self.from, self.to)) - i128::from(self.from);
        usize::try_from(since * i128::from(pixels) / self.length()).unwrap_or_default()
    }

    /// The first place of a pixel.
    fn first(self, pixel: usize, pixels: u32) -> i64 {
        let since = pixel as i128 * self.length();
        let since = (since + i128::from(pixels) - 1) / i128::from(pixels);
        i64::try_from(i128::from(self.from) + since).unwrap_or(i64::MAX)
    }
}

fn bounded(step: u64) -> i64 {
    i64::try_from(step).unwrap_or(i64::MAX)
}

/// What lies in one pixel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    /// Its number, from 0.
    pub pixel: u32,
    /// How many points it has.
    pub count: u64,
    /// How many of them are not finite.
    pub non_finite: u64,
    /// The first of the smallest finite ones.
    pub min: Option<Point>,
    /// The first of the largest finite ones.
    pub max: Option<Point>,
}

/// A curve by pixels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The pixels in which something lies, in order.
    pub columns: Vec<Column>,
    /// How many blocks were read for it, each of 256 points: about as many as there are pixels, however long the curve is.
    #[serde(skip)]
    pub blocks_read: u64,
}

/// More than any screen has.
const MOST: u32 = 1 << 16;

impl Scalars {
    /// A part of a curve by pixels; nothing where it has no points or the span is empty.
    ///
    /// # Errors
    /// When its files cannot be read or are damaged.
    pub fn view(&self, tag: &str, span: Span, pixels: u32) -> Result<View> {
        let pixels = pixels.clamp(1, MOST);
        let mut columns = Columns { span, pixels, all: vec![Cell::default(); pixels as usize], blocks_read: 0 };
        if let Some(stream) = self.streams.get(tag).filter(|_| span.from <= span.to) {
            if stream.blocks > 0 {
                let (index, blocks) = (self.index(stream)?, self.blocks(stream)?);
                for root in tree::roots(stream.blocks) {
                    let summary = index.one(root.position())?;
                    columns.enter(root, &summary, None, &(&index, &blocks))?;
                }
            }
            stream.tail.iter().for_each(|point| columns.add(point));
        }
        Ok(columns.view())
    }
}

struct Columns {
    span: Span,
    pixels: u32,
    all: Vec<Cell>,
    blocks_read: u64,
}

/// What lies in a pixel.
#[derive(Clone, Default)]
struct Cell {
    count: u64,
    non_finite: u64,
    min: Option<Point>,
    max: Option<Point>,
}

impl Cell {
    /// More points, behind those that are in it.
    fn append(&mut self, count: u64, non_finite: u64, min: Option<Point>, max: Option<Point>) {
        self.count = self.count.saturating_add(count);
        self.non_finite = self.non_finite.saturating_add(non_finite);
        if let Some(min) = min.filter(|new| self.min.is_none_or(|own| new.value < own.value)) {
            self.min = Some(min);
        }
        if let Some(max) = max.filter(|new| self.max.is_none_or(|own| new.value > own.value)) {
            self.max = Some(max);
        }
    }
}

/// Points of a block that lie in one pixel.
struct Part {
    pixel: usize,
    /// The places of the pixel; none where nothing was looked at yet.
    places: Range<i64>,
    count: u64,
    non_finite: u64,
    /// The value, and where it is in the block.
    min: (f64, usize),
    max: (f64, usize),
}

impl Default for Part {
    fn default() -> Part {
        let (min, max) = ((f64::INFINITY, 0), (f64::NEG_INFINITY, 0));
        Part { pixel: 0, places: 0..0, count: 0, non_finite: 0, min, max }
    }
}

impl Part {
    fn add(&mut self, row: usize, value: f64) {
        self.count += 1;
        if !value.is_finite() {
            self.non_finite += 1;
            return;
        }
        if value < self.min.0 {
            self.min = (value, row);
        }
        if value > self.max.0 {
            self.max = (value, row);
        }
    }

    fn enter(&self, block: &Block<'_>, cells: &mut [Cell]) {
        if self.count > 0 {
            let finite = self.count > self.non_finite;
            let point = |row| finite.then(|| block.point(row));
            cells[self.pixel].append(self.count, self.non_finite, point(self.min.1), point(self.max.1));
        }
    }
}

/// Groups of this level are read whole: at most 273 summaries.
const AT_ONCE: u32 = 2;

impl Columns {
    /// Takes what lies in a group; `around` are summaries that were read already, from a position on.
    fn enter(
        &mut self,
        group: Group,
        summary: &Summary,
        around: Option<(&[Summary], u64)>,
        files: &(&Index, &Blocks),
    ) -> Result<()> {
        let (first, last) = self.span.ends(summary);
        if last < self.span.from || first > self.span.to {
            return Ok(());
        }
        let inside = first >= self.span.from && last <= self.span.to;
        let pixel = self.span.pixel(first, self.pixels);
        if inside && pixel == self.span.pixel(last, self.pixels) {
            self.all[pixel].append(summary.count, summary.non_finite, summary.min, summary.max);
            return Ok(());
        }
        if group.level == 0 {
            self.blocks_read += 1;
            return files.1.with(summary.offset, |block| self.add_block(&block));
        }
        let read;
        let around = match around {
            None if group.level <= AT_ONCE => {
                let from = tree::entries(group.first());
                let count = usize::try_from(group.position() - from)?;
                read = files.0.many(from, count)?;
                Some((read.as_slice(), from))
            }
            around => around,
        };
        for part in group.parts() {
            match around {
                Some((summaries, from)) => {
                    let summary = summaries[(part.position() - from) as usize];
                    self.enter(part, &summary, around, files)?;
                }
                None => {
                    let summary = files.0.one(part.position())?;
                    self.enter(part, &summary, None, files)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, point: &Point) {
        let place = self.span.of(point);
        if (self.span.from..=self.span.to).contains(&place) {
            let finite = point.value.is_finite();
            let (own, bad) = (finite.then_some(*point), u64::from(!finite));
            self.all[self.span.pixel(place, self.pixels)].append(1, bad, own, own);
        }
    }

    fn add_block(&mut self, block: &Block<'_>) {
        // Points follow each other within a pixel: of each such part the pixel is found once, by dividing, and entered once.
        let mut part = Part::default();
        for row in 0..BLOCK {
            let place = self.span.in_block(block, row);
            if !part.places.contains(&place) {
                part.enter(block, &mut self.all);
                if !(self.span.from..=self.span.to).contains(&place) {
                    part = Part::default();
                    continue;
                }
                let pixel = self.span.pixel(place, self.pixels);
                let places = self.span.first(pixel, self.pixels)..self.span.first(pixel + 1, self.pixels);
                part = Part { pixel, places, ..Part::default() };
            }
            part.add(row, block.value(row));
        }
        part.enter(block, &mut self.all);
    }

    fn view(self) -> View {
        let there = (0u32..).zip(self.all).filter(|(_, cell)| cell.count > 0);
        let columns =
            there.map(|(pixel, Cell { count, non_finite, min, max })| Column { pixel, count, non_finite, min, max });
        View { columns: columns.collect(), blocks_read: self.blocks_read }
    }
}
