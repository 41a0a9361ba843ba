//! The numbers of a run, in its folder `scalars`.
//!
//! ```text
//! open.log      the latest points of all tags, in the order in which they were measured; and which tags there are
//! 0000.points   the points of tag 0, 256 a block, as far as there are whole blocks
//! 0000.index    what lies in each block and in each 16, 256, 4096, … of them: how many points, over which steps and times, the smallest and
//!               the largest with their places
//! ```
//!
//! Everything is appended, so that a reader may look on at any time: `open.log` in frames with a checksum, of which a torn one counts as
//! absent; what a block takes over stays in the log until the log is written anew, under another number, so that no point is ever in neither.
//! A point is known by its ordinal among those of its tag, so what is in both is read once. Files of blocks are only ever cut, never changed:
//! then the log is of another incarnation, and readers start over.
//!
//! A curve over a run is read from the index, and where a pixel begins or ends inside a block, from that block alone ([`View`]).
//!
//! | file | what is there |
//! |---|---|
//! | `block.rs`, `summary.rs` | points to bytes, and what is known of many without reading them |
//! | `tree.rs` | where a summary lies in the index |
//! | `log.rs` | the frames of `open.log` |
//! | `writer.rs`, `reader.rs` | the two sides |
//! | `view.rs` | a curve by pixels |
//! | `records.rs` | the same of a run that has only `records.jsonl` |

mod block;
mod log;
mod reader;
mod records;
mod summary;
mod tree;
mod view;
mod writer;

pub use reader::{Curve, Refresh, Scalars};
pub use records::{RecordPoint, each_scalar};
pub use view::{Axis, Column, Span, View};
pub use writer::Writer;

/// The folder in that of a run.
pub const FOLDER: &str = "scalars";

/// The points of a block.
pub const BLOCK: usize = 256;

/// The name of a file of a tag: of its points, or of their index.
fn file_name(number: u32, what: &str) -> String {
    format!("{number:04}.{what}")
}
