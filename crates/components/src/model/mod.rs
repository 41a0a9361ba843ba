//! Models: losses in training, outputs in evaluation.
//!
//! - [`choice`]: networks by name
//! - [`classification`]: shared parts of the classifiers
//! - [`detection`]: shared parts of the detectors
//! - [`segmentation`]: shared parts of the networks that classify pixels
//! - [`weights`]: the files that `weights` means
//! - `ground_truth`: labels and boxes checked before they go to the device

pub mod choice;
pub mod classification;
pub mod deeplabv3;
pub mod detection;
pub mod ema;
pub mod faster_rcnn;
pub mod fcn;
pub mod fcos;
mod ground_truth;
pub mod keypoint_rcnn;
pub mod loss;
pub mod mask_rcnn;
pub mod mobilenet_v3;
pub mod resnet;
pub mod retinanet;
pub mod segmentation;
pub mod sequential;
pub mod ssd;
pub mod ssdlite;
pub mod torchscript;
pub mod vgg;
pub mod weights;
