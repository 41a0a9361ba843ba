//! Samples with typed fields, and batches.

pub mod batch;
pub mod extent;
pub mod fields;
pub mod image;
pub mod masks;
pub mod random;
pub mod sample;

pub use batch::{Batch, BatchField, Detections};
pub use extent::Extent;
pub use image::{Image, Pixels};
pub use masks::{Mask, Masks};
pub use random::SampleRng;
pub use sample::{Field, Sample};
