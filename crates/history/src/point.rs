//! One measured number.

use pipe_vocab::record::{number, read_number};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One measured number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Iterations of the outermost engine by then.
    pub step: u64,
    /// The outermost engine's epoch, counted from 1; 0 before the first.
    pub epoch: u64,
    /// Seconds since 1970, to the microsecond.
    pub time: f64,
    /// The number, exactly; as JSON those that are not finite are texts.
    #[serde(serialize_with = "write", deserialize_with = "read")]
    pub value: f64,
}

fn write<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    number(*value).serialize(serializer)
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    read_number(&value).ok_or_else(|| serde::de::Error::custom("a number is expected"))
}

/// Seconds as microseconds, as they are stored.
pub(crate) fn micros(time: f64) -> i64 {
    (time * 1e6).round() as i64
}

/// The way back.
pub(crate) fn seconds(micros: i64) -> f64 {
    micros as f64 / 1e6
}

/// Reads little-endian numbers off the front of bytes; `None` at their end.
pub(crate) struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|bytes| u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub fn i64(&mut self) -> Option<i64> {
        self.u64().map(u64::cast_signed)
    }

    pub fn f64(&mut self) -> Option<f64> {
        self.u64().map(f64::from_bits)
    }

    /// A point of 32 bytes.
    pub fn point(&mut self) -> Option<Point> {
        Some(Point { step: self.u64()?, epoch: self.u64()?, time: seconds(self.i64()?), value: self.f64()? })
    }

    /// A text with its length before it.
    pub fn text(&mut self) -> Option<String> {
        let length = self.u32()?;
        String::from_utf8(self.take(usize::try_from(length).ok()?)?.to_vec()).ok()
    }
}

/// As [`Bytes::point`] reads it.
pub(crate) fn put_point(point: &Point, into: &mut Vec<u8>) {
    into.extend(point.step.to_le_bytes());
    into.extend(point.epoch.to_le_bytes());
    into.extend(micros(point.time).to_le_bytes());
    into.extend(point.value.to_le_bytes());
}

/// As [`Bytes::text`] reads it.
pub(crate) fn put_text(text: &str, into: &mut Vec<u8>) {
    into.extend((text.len() as u32).to_le_bytes());
    into.extend(text.as_bytes());
}
