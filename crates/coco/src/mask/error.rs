//! Everything that can be wrong with a mask.

use std::fmt;

/// Why a mask was refused. The text says what is wrong and, where there is a usual cause, which.
#[derive(Clone, Debug, PartialEq)]
pub enum MaskError {
    /// The runs do not sum to the number of pixels.
    Total {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
        /// What the runs sum to.
        total: u64,
    },
    /// More pixels than 32-bit runs can count.
    TooLarge {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
    },
    /// A pixel buffer of the wrong length.
    Buffer {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
        /// Bytes in the buffer.
        bytes: usize,
    },
    /// A byte that no compressed string contains.
    Byte {
        /// Position in the string.
        at: usize,
        /// The byte found there.
        byte: u8,
    },
    /// A compressed string that ends inside a number.
    CutShort,
    /// A run in a compressed string that is negative or does not fit 32 bits.
    Run {
        /// Which run, from zero.
        index: usize,
    },
    /// A polygon with an odd number of coordinates.
    OddPolygon {
        /// Coordinates in the polygon.
        coordinates: usize,
    },
    /// A polygon with fewer than three points.
    ShortPolygon {
        /// Points in the polygon.
        points: usize,
    },
    /// A coordinate that is not finite or absurdly far outside any image.
    Coordinate {
        /// Which coordinate of the polygon, from zero.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// Outlines that change the mask more often than any object does.
    Detail {
        /// Changes allowed.
        limit: usize,
    },
    /// Two masks that should have one size.
    Sizes {
        /// `[height, width]` of the one.
        left: [u32; 2],
        /// `[height, width]` of the other.
        right: [u32; 2],
    },
    /// A union or intersection of nothing: it has no size.
    NoMasks,
}

impl fmt::Display for MaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Total { height, width, total } => {
                let pixels = u64::from(*height) * u64::from(*width);
                write!(
                    f,
                    "the runs cover {total} pixels, but a mask of height × width {height} × {width} has {pixels}"
                )?;
                write!(f, " (is `size` [height, width], and of the same image?)")
            }
            Self::TooLarge { height, width } => {
                write!(f, "a mask of height × width {height} × {width} has more pixels than 32-bit runs can count")
            }
            Self::Buffer { height, width, bytes } => {
                let pixels = u64::from(*height) * u64::from(*width);
                write!(
                    f,
                    "a buffer of {bytes} bytes for a mask of height × width {height} × {width}, which needs {pixels}"
                )
            }
            Self::Byte { at, byte } => write!(
                f,
                "byte {byte:#04x} at position {at} of the compressed run-length string; it may contain only `0` to `o` (0x30 to 0x6f)"
            ),
            Self::CutShort => write!(f, "the compressed run-length string ends inside a number: it is truncated"),
            Self::Run { index } => {
                write!(
                    f,
                    "run {index} of the compressed run-length string is negative or larger than 32 bits: the string is damaged"
                )
            }
            Self::OddPolygon { coordinates } => {
                write!(f, "a polygon of {coordinates} coordinates; expected pairs x, y")
            }
            Self::ShortPolygon { points } => {
                write!(f, "a polygon of {points} points; it needs at least 3")
            }
            Self::Coordinate { index, value } => write!(
                f,
                "coordinate {index} of the polygon is {value}; coordinates are finite pixels, less than 1,000,000 from the image"
            ),
            Self::Detail { limit } => {
                write!(f, "polygons that cross more than {limit} columns of pixels: the annotation is damaged")
            }
            Self::Sizes { left, right } => write!(
                f,
                "masks of height × width {} × {} and {} × {} cannot be combined",
                left[0], left[1], right[0], right[1]
            ),
            Self::NoMasks => write!(f, "no masks to combine"),
        }
    }
}

impl std::error::Error for MaskError {}
