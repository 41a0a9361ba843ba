//! A curve by pixels: of each the smallest and the largest point, exactly, whatever lies between.

use anyhow::Result;
use serde::{Deserialize, Serialize};

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

    /// The pixel of a place, of so many; of one outside the first or the last.
    fn pixel(self, place: i64, pixels: u32) -> usize {
        let length = i128::from(self.to) - i128::from(self.from) + 1;
        let since = i128::from(place.clamp(self.from, self.to)) - i128::from(self.from);
        usize::try_from(since * i128::from(pixels) / length).unwrap_or_default()
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
        let mut columns = Columns { span, pixels, all: vec![Summary::default(); pixels as usize], blocks_read: 0 };
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
    all: Vec<Summary>,
    blocks_read: u64,
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
            self.all[pixel].append(summary);
            return Ok(());
        }
        if group.level == 0 {
            self.blocks_read += 1;
            files.1.read(summary.offset)?.iter().for_each(|point| self.add(point));
            return Ok(());
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
            self.all[self.span.pixel(place, self.pixels)].add(point);
        }
    }

    fn view(self) -> View {
        let there = (0u32..).zip(self.all).filter(|(_, summary)| summary.count > 0);
        let columns = there.map(|(pixel, Summary { count, non_finite, min, max, .. })| Column {
            pixel,
            count,
            non_finite,
            min,
            max,
        });
        View { columns: columns.collect(), blocks_read: self.blocks_read }
    }
}
