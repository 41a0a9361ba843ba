//! What is known of many points without reading them.

use crate::point::{Bytes, Point, micros, put_point};

/// Of points that follow each other in the order in which they were measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many there are.
    pub count: u64,
    /// How many of them are not finite.
    pub non_finite: u64,
    /// The smallest and the largest step.
    pub steps: (u64, u64),
    /// The earliest and the latest time, in microseconds since 1970.
    pub times: (i64, i64),
    /// The first of the smallest finite ones.
    pub min: Option<Point>,
    /// The first of the largest finite ones.
    pub max: Option<Point>,
    /// Where the block lies among the points; of many blocks that of the first.
    pub offset: u64,
}

impl Default for Summary {
    fn default() -> Summary {
        let (steps, times) = ((u64::MAX, 0), (i64::MAX, i64::MIN));
        Summary { count: 0, non_finite: 0, steps, times, min: None, max: None, offset: u64::MAX }
    }
}

/// The bytes of a summary in the index.
pub const SIZE: usize = 8 + 8 + 16 + 16 + 32 + 32 + 8 + 4;

impl Summary {
    /// Of these points.
    pub fn of(points: &[Point]) -> Summary {
        let mut summary = Summary::default();
        points.iter().for_each(|point| summary.add(point));
        summary
    }

    /// One more point.
    pub fn add(&mut self, point: &Point) {
        let (step, time) = (point.step, micros(point.time));
        self.count = self.count.saturating_add(1);
        self.steps = (self.steps.0.min(step), self.steps.1.max(step));
        self.times = (self.times.0.min(time), self.times.1.max(time));
        match point.value.is_finite() {
            true => self.consider(Some(*point), Some(*point)),
            false => self.non_finite = self.non_finite.saturating_add(1),
        }
    }

    /// Those of `later`, which come behind.
    pub fn append(&mut self, later: &Summary) {
        self.count = self.count.saturating_add(later.count);
        self.non_finite = self.non_finite.saturating_add(later.non_finite);
        self.steps = (self.steps.0.min(later.steps.0), self.steps.1.max(later.steps.1));
        self.times = (self.times.0.min(later.times.0), self.times.1.max(later.times.1));
        self.offset = self.offset.min(later.offset);
        self.consider(later.min, later.max);
    }

    fn consider(&mut self, min: Option<Point>, max: Option<Point>) {
        if let Some(min) = min.filter(|new| self.min.is_none_or(|own| new.value < own.value)) {
            self.min = Some(min);
        }
        if let Some(max) = max.filter(|new| self.max.is_none_or(|own| new.value > own.value)) {
            self.max = Some(max);
        }
    }

    /// As it lies in the index.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let start = into.len();
        let none = Point { step: 0, epoch: 0, time: 0.0, value: f64::NAN };
        into.extend(self.count.to_le_bytes());
        into.extend(self.non_finite.to_le_bytes());
        into.extend([self.steps.0, self.steps.1].iter().flat_map(|step| step.to_le_bytes()));
        into.extend([self.times.0, self.times.1].iter().flat_map(|time| time.to_le_bytes()));
        put_point(&self.min.unwrap_or(none), into);
        put_point(&self.max.unwrap_or(none), into);
        into.extend(self.offset.to_le_bytes());
        let sum = crc32fast::hash(&into[start..]);
        into.extend(sum.to_le_bytes());
    }

    /// The way back; `None` where the bytes are not what was written.
    pub fn decode(bytes: &[u8]) -> Option<Summary> {
        let (content, _) = bytes.split_at_checked(SIZE - 4)?;
        let mut bytes = Bytes(bytes);
        let summary = Summary {
            count: bytes.u64()?,
            non_finite: bytes.u64()?,
            steps: (bytes.u64()?, bytes.u64()?),
            times: (bytes.i64()?, bytes.i64()?),
            min: bytes.point().map(|point| (!point.value.is_nan()).then_some(point))?,
            max: bytes.point().map(|point| (!point.value.is_nan()).then_some(point))?,
            offset: bytes.u64()?,
        };
        (bytes.u32()? == crc32fast::hash(content)).then_some(summary)
    }
}
