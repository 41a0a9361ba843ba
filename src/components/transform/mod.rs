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

pub use pipe_plugin::Transform;

use crate::registry::{Kind, PortKind};
use crate::run::Instance;

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
