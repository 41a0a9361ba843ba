//! Datasets: indexed samples.
//!
//! - [`annotated`]: images with objects, whatever format their annotations come in; [`split`]: parts of what comes in one piece
//! - `files`: images in folders

pub mod annotated;
pub mod coco;
pub mod concat;
mod files;
#[cfg(test)]
mod formats;
pub mod image_folder;
pub mod mnist;
pub mod numpy;
pub mod segmentation;
pub mod split;
#[cfg(test)]
pub(crate) mod testing;
pub mod voc;
pub mod yolo;
