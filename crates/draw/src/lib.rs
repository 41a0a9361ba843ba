//! Images for people: detections over images, ground truth beside predictions, grids of classified images, charts.
//!
//! Everything works on [`RgbImage`], 8-bit RGB in rows. Nothing here fails on odd geometry: boxes outside the image, empty,
//! not finite or huge are clipped or left out.
//!
//! | file | holds |
//! |---|---|
//! | `image.rs` | [`RgbImage`]: pixels, integer enlargement, PNG and JPEG; [`encode_classes`]: masks of classes as PNG |
//! | `canvas.rs` | [`Canvas`]: anti-aliased rectangles, outlines and text on an image |
//! | `text.rs` | measuring and rasterizing text in DejaVu Sans Bold |
//! | `palette.rs` | [`class_color`]: one stable color per class |
//! | `mask.rs` | [`MaskRef`]: translucent masks with a contour |
//! | `instances.rs` | [`draw_instances`]: boxes, masks and labels of one image |
//! | `labels.rs` | placing label chips so that they do not cover each other |
//! | `chart.rs` | [`Chart`]: curves; [`Table`]: counts as colors |
//! | `layout.rs` | [`side_by_side`] and [`grid`] |

mod canvas;
mod chart;
mod image;
mod instances;
mod labels;
mod layout;
mod mask;
mod palette;
mod text;

pub use canvas::{Canvas, Rect};
pub use chart::{Chart, Series, Table};
pub use image::{RgbImage, encode_classes};
pub use instances::{DrawOptions, Instance, draw_instances};
pub use layout::{Tile, Verdict, grid, side_by_side};
pub use mask::MaskRef;
pub use palette::{Color, class_color, text_color_on};
