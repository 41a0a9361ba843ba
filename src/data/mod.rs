//! Samples with typed fields, images, and batches.
//!
//! - [`fields`]: the standard field names
//! - [`image`]: pixels on the CPU
//! - [`sample`]: one sample, field by field
//! - [`batch`]: samples joined into tensors
//! - [`random`]: random streams that depend on seed, epoch and index alone

pub mod batch;
pub mod fields;
pub mod image;
pub mod random;
pub mod sample;

pub use batch::{Batch, BatchField, Detections};
pub use image::{Image, Pixels};
pub use random::SampleRng;
pub use sample::{Field, Sample};
