//! Datasets: indexed samples.

pub mod coco;
pub mod image_folder;
pub mod mnist;
#[cfg(test)]
pub(crate) mod testing;
