//! TensorBoard event files, written without TensorFlow or TensorBoard.
//!
//! One folder is one run: an [`EventWriter`] adds one `events.out.tfevents.*` file to it. Tags may contain `/`; TensorBoard
//! groups charts by the part before the first one.
//!
//! | file | holds |
//! |---|---|
//! | `writer.rs` | [`EventWriter`]: the file, its name, flushing, resuming |
//! | `summary.rs` | the summary of each kind as a protobuf message |
//! | `histogram.rs` | bucket counts, equal to `torch.utils.tensorboard`'s |
//! | `pr_curve.rs` | counts over thresholds, equal to `torch.utils.tensorboard`'s |
//! | `hparams.rs` | [`HParam`] and the messages of the HPARAMS page |
//! | `layout.rs` | the charts of the CUSTOM SCALARS page |
//! | `record.rs` | the record framing with its masked CRC-32C |
//! | `proto.rs` | the part of the protobuf wire format that is needed |
//!
//! Message and field numbers follow `event.proto`, `summary.proto`, `tensor.proto` and the plugins' `plugin_data.proto` of
//! TensorBoard 2.21.

mod histogram;
mod hparams;
mod layout;
mod pr_curve;
mod proto;
mod record;
mod summary;
mod writer;

pub use histogram::Histogram;
pub use hparams::{HParam, SessionStatus};
pub use writer::EventWriter;
