//! Small datasets the program makes itself, so that a demo runs the very code that real data runs.
//!
//! | file | holds |
//! |---|---|
//! | `store.rs` | the cache folder; folders that appear completely or not at all |
//! | `shapes.rs` | [`write_shapes`]: `builtin:shapes`, in COCO's layout; [`write_shape_keypoints`]; [`write_shape_masks`]: masks of classes |
//! | `scene.rs` | what is in one image, what is visible of it, and its annotations |
//! | `outline.rs` | circles, squares, triangles, stars as polygons |
//! | `trace.rs` | a mask back to polygons |
//! | `paint.rs` | pixels: background, textured fills with soft edges |
//! | `digits.rs` | [`write_digits`]: `builtin:digits`, MNIST's files with digits drawn from strokes |
//! | `glyphs.rs` | the strokes |
//!
//! Everything follows from a seed, bit for bit on every machine: random numbers come from [`crate::dice`], and only
//! arithmetic that IEEE 754 fixes is used (no library sine, no SIMD encoder).

mod digits;
mod glyphs;
mod outline;
mod paint;
mod scene;
mod shapes;
mod store;
mod trace;

pub use digits::{DigitsSpec, write_digits};
pub use shapes::{ShapesSpec, write_shape_keypoints, write_shape_masks, write_shapes};
