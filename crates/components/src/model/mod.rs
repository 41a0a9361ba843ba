//! Models: losses in training, outputs in evaluation.
//!
//! - [`classification`]: what the classifiers share
//! - [`detection`]: what the detectors share

pub mod classification;
pub mod detection;
pub mod ema;
pub mod faster_rcnn;
pub mod mask_rcnn;
pub mod resnet;
pub mod sequential;
pub mod torchscript;
