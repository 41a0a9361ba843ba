//! `open.log`: the latest points of all tags, and which tags there are.
//!
//! ```text
//! 8 bytes "pipelog1"   u64 incarnation   u64 number
//! then frames: u32 length of what follows the CRC   u32 CRC-32 of it   entries
//! an entry: u8 1, u32 tag, u64 points in blocks, its name, its node       or u8 2, u32 tag, u64 ordinal, a point
//! ```

use crate::point::{Bytes, Point, put_point, put_text};

/// Its name.
pub const NAME: &str = "open.log";

const MAGIC: &[u8; 8] = b"pipelog1";

/// The bytes before the first frame.
pub const HEAD: usize = 24;

/// The beginning of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Another one wherever the run went back.
    pub incarnation: u64,
    /// How often it was written anew since.
    pub number: u64,
}

impl Head {
    /// As it is written.
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.incarnation.to_le_bytes());
        bytes.extend(self.number.to_le_bytes());
        bytes
    }

    /// The way back.
    pub fn decode(bytes: &[u8]) -> Option<Head> {
        let mut bytes = Bytes(bytes.strip_prefix(MAGIC)?);
        Some(Head { incarnation: bytes.u64()?, number: bytes.u64()? })
    }
}

/// What a log says.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A tag has this number.
    Tag {
        /// The number.
        number: u32,
        /// How many of its points lie in blocks and not in this log.
        before: u64,
        /// The tag.
        tag: String,
        /// The node that measured it first.
        node: String,
    },
    /// Something was measured.
    Point {
        /// The tag's number.
        tag: u32,
        /// The point's number among those of its tag.
        ordinal: u64,
        /// The point.
        point: Point,
    },
}

/// Adds the entry of a tag.
pub fn put_tag(number: u32, before: u64, tag: &str, node: &str, into: &mut Vec<u8>) {
    into.push(1);
    into.extend(number.to_le_bytes());
    into.extend(before.to_le_bytes());
    put_text(tag, into);
    put_text(node, into);
}

/// Adds the entry of a point.
pub fn put_measured(tag: u32, ordinal: u64, point: &Point, into: &mut Vec<u8>) {
    into.push(2);
    into.extend(tag.to_le_bytes());
    into.extend(ordinal.to_le_bytes());
    put_point(point, into);
}

/// Entries as a frame.
pub fn frame(entries: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(entries.len() + 8);
    frame.extend((entries.len() as u32).to_le_bytes());
    frame.extend(crc32fast::hash(entries).to_le_bytes());
    frame.extend(entries);
    frame
}

/// Calls `each` with the entries of all whole frames, and returns how many bytes these take: a torn one may be whole later.
pub fn read(bytes: &[u8], mut each: impl FnMut(Entry)) -> usize {
    let mut rest = Bytes(bytes);
    let mut whole = 0;
    let next = |rest: &mut Bytes<'_>| -> Option<Vec<Entry>> {
        let (length, sum) = (rest.u32()?, rest.u32()?);
        let body = rest.take(length as usize).filter(|body| !body.is_empty() && crc32fast::hash(body) == sum)?;
        entries(body)
    };
    while let Some(entries) = next(&mut rest) {
        entries.into_iter().for_each(&mut each);
        whole = bytes.len() - rest.0.len();
    }
    whole
}

fn entries(body: &[u8]) -> Option<Vec<Entry>> {
    let mut bytes = Bytes(body);
    let mut entries = Vec::new();
    while let Some([kind]) = bytes.take(1) {
        entries.push(match kind {
            1 => Entry::Tag { number: bytes.u32()?, before: bytes.u64()?, tag: bytes.text()?, node: bytes.text()? },
            2 => Entry::Point { tag: bytes.u32()?, ordinal: bytes.u64()?, point: bytes.point()? },
            _ => return None,
        });
    }
    Some(entries)
}
