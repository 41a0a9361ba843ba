//! Transforms: functions from sample to sample.
//!
//! Pictures are changed by [`crate::data::geometry`] and [`crate::data::color`]; what is drawn at random is drawn here.

pub mod center_crop;
pub mod color_jitter;
pub mod compose;
pub mod fixed_size_crop;
pub mod gaussian_noise;
pub mod grayscale;
pub mod normalize;
pub mod random_affine;
pub mod random_crop;
pub mod random_erasing;
pub mod random_horizontal_flip;
pub mod random_iou_crop;
pub mod random_photometric_distort;
pub mod random_resized_crop;
pub mod random_short_side;
pub mod random_vertical_flip;
pub mod random_zoom_out;
pub mod resize;
pub mod scale_jitter;
#[cfg(test)]
pub(crate) mod testing;
pub mod to_float;

use std::sync::Arc;

use anyhow::Result;

use crate::data::{Sample, SampleRng};
use crate::registry::{Kind, PortKind};
use crate::run::Instance;

/// A function from sample to sample, called from worker threads. It acts on fields by their type and keeps them
/// consistent: what moves the image moves its boxes, masks and keypoints.
pub trait Transform: Send + Sync {
    /// Changes one sample. All chance comes from `rng`.
    ///
    /// # Errors
    /// When the sample lacks what the transform needs.
    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample>;

    /// Changes the samples of one batch together, after [`Transform::apply`] (mixup, copy-paste).
    ///
    /// # Errors
    /// As [`Transform::apply`].
    fn apply_batch(&self, samples: Vec<Sample>, _rng: &mut SampleRng) -> Result<Vec<Sample>> {
        Ok(samples)
    }
}

impl PortKind for dyn Transform {
    const KIND: Kind = Kind::Transform;
    type Shared = Arc<dyn Transform>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Transform(transform) => Some(transform.clone()),
            _ => None,
        }
    }
}
