//! Geometry of whole samples: what moves the image moves its boxes, masks, keypoints and per-pixel classes.
//!
//! - [`resize`](mod@resize): images at another size
//! - [`crop`](mod@crop): a window of an image, with padding
//! - [`warp`](mod@warp): rotation, scale, shear, translation
//! - [`fill`]: what comes in from outside an image
//! - [`sample`]: the same done to every field of a sample
//! - [`join`](mod@join): several samples as one
//!
//! Images are resized with antialiasing, masks and classes take the nearest pixel. Areas (field `area`) follow: resizing
//! scales them, cropping and warping scale them by what becomes of the instance's mask, or of its box when there is none.
//! Instances of which nothing is left are dropped from every field of instances.

pub mod crop;
pub mod fill;
pub mod join;
pub mod resize;
pub mod sample;
pub mod warp;

pub use crop::Window;
pub use fill::OUTSIDE;
pub use join::{Part, join};
pub use resize::{Interpolation, check_size};
pub use sample::{crop, flip_horizontal, flip_vertical, resize, size, warp, warp_to};
pub use warp::{Affine, Frame};
