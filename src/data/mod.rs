//! Samples with typed fields, images, and batches.
//!
//! - [`fields`]: the standard field names
//! - [`image`]: pixels on the CPU
//! - [`decode`]: pictures from files
//! - [`detections`]: what a model found, at the size on disk
//! - [`masks`]: instance masks that know where their pixels are
//! - [`geometry`]: resizing, flipping, cropping, warping whole samples
//! - [`color`]: brightness, contrast, saturation, hue
//! - [`sample`]: one sample, field by field
//! - [`batch`]: samples joined into tensors
//! - [`random`]: random streams that depend on seed, epoch and index alone
//! - [`order`]: which samples make which batch
//! - [`pool`]: worker threads that hand things over in order

pub mod batch;
pub mod color;
pub mod decode;
pub mod detections;
pub mod fields;
pub mod geometry;
pub mod image;
pub mod masks;
pub mod order;
pub mod pool;
pub mod random;
pub mod sample;

pub use batch::{Batch, BatchField, Detections};
pub use image::{Image, Pixels};
pub use masks::{Mask, Masks};
pub use random::SampleRng;
pub use sample::{Field, Sample};
