//! How much of a file is read.

/// Tables, arrays and dotted keys may be nested this deep, all counted together.
pub(super) const MAX_DEPTH: usize = 64;

/// Files longer than this are refused: a pipeline is written by people.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Nobody reads more errors of syntax than this, and finding the line of each costs time.
pub(super) const MAX_ERRORS: usize = 500;
