//! Samples with typed fields, images, and batches.
//!
//! What plugins see too lies in the crate `pipe-plugin`: the first five below, and the types of [`batch`].
//!
//! - [`fields`]: the standard field names
//! - [`image`]: pixels on the CPU
//! - [`decode`]: images from files; `raster`, `palette`: of the formats that torchvision does not read
//! - [`masks`]: instance masks that know where their pixels are
//! - [`geometry`]: resizing, flipping, cropping, warping whole samples
//! - [`color`]: brightness, contrast, saturation, hue; [`filter`]: blur and sharpness; [`augment`]: TrivialAugment's operations
//! - [`sample`]: one sample, field by field
//! - [`batch`]: samples joined into tensors
//! - [`random`]: random streams that depend on seed, epoch and index alone
//! - [`order`]: which samples make which batch; [`sampling`]: by weights or repeat factors
//! - [`fingerprint`]: a short text by which data are known again
//! - [`pool`]: worker threads that hand things over in order
//! - [`upload`]: batches on their way to an accelerator

pub mod augment;
pub mod batch;
pub mod color;
pub mod decode;
pub mod filter;
pub mod fingerprint;
pub mod geometry;
pub mod order;
mod palette;
pub mod pool;
mod raster;
pub mod sampling;
pub mod upload;

pub use batch::{Batch, BatchField, Detections, Prepared, collate, join, prepare};
pub use fingerprint::Fingerprint;
pub use image::{Image, Pixels};
pub use masks::{Mask, Masks};
pub use pipe_plugin::data::Extent;
pub use pipe_plugin::data::{fields, image, masks, random, sample};
pub use random::SampleRng;
pub use sample::{Field, Sample};
