//! Transforms: functions from sample to sample.
//!
//! The operations on images are in [`pipe_data::geometry`] and [`pipe_data::color`]; random parameters are sampled here.

pub mod center_crop;
pub mod choice;
pub mod color_jitter;
pub mod compose;
pub mod fixed_size_crop;
#[cfg(test)]
mod follow;
pub mod gaussian_blur;
pub mod gaussian_noise;
pub mod grayscale;
pub mod mixup;
pub mod mosaic;
pub mod normalize;
pub mod pad;
pub mod random_affine;
pub mod random_apply;
pub mod random_crop;
pub mod random_erasing;
pub mod random_horizontal_flip;
pub mod random_iou_crop;
pub mod random_photometric_distort;
pub mod random_resize;
pub mod random_resized_crop;
pub mod random_rotation;
pub mod random_short_side;
pub mod random_vertical_flip;
pub mod random_zoom_out;
pub mod resize;
pub mod scale_jitter;
#[cfg(test)]
pub(crate) mod testing;
pub mod to_float;
pub mod trivial_augment_wide;
