//! Models: losses in training, outputs in evaluation.
//!
//! - [`classification`]: shared parts of the classifiers
//! - [`detection`]: shared parts of the detectors
//! - [`weights`]: the files that `weights` means
//! - `ground_truth`: labels and boxes checked before they go to the device

pub mod classification;
pub mod detection;
pub mod ema;
pub mod faster_rcnn;
mod ground_truth;
pub mod loss;
pub mod mask_rcnn;
pub mod resnet;
pub mod sequential;
pub mod torchscript;
pub mod weights;
