//! Vision models and the functions on boxes and masks that they are made of, equal to torchvision's in names and numbers.
//!
//! Boxes are `[N, 4]` float tensors of `x1, y1, x2, y2` in pixels; sizes are `(height, width)` in pixels.
//!
//! - [`nn`]: layers and parameters by name; [`weights`]: weight files
//! - functions: [`boxes`], [`coder`], [`matcher`], [`sampler`], [`anchors`], [`masks`], [`keypoints`], [`losses`] and their
//!   [`terms`], [`divisors`], [`ops`];
//! - networks: [`resnet`], [`vgg`], [`mobilenet_v3`], [`fpn`], [`backbone`] (one of them with a pyramid) and its [`options`], [`conv_block`];
//! - detection: [`detector`] (what all have in common), [`types`] (ground truth and detections), [`transform`] (images in, detections out),
//!   [`suppress`] (NMS of a batch), [`dense`] (detectors without proposals), [`checkpoint`] (loading torchvision's files, old ones too);
//! - the detectors, a folder each: [`rcnn`] (Faster R-CNN, with masks Mask R-CNN, with keypoints Keypoint R-CNN), [`retinanet`], [`fcos`],
//!   [`ssd`] (also SSDlite);
//! - [`segmentation`]: a class for each pixel (FCN, DeepLabV3).

pub mod anchors;
pub mod backbone;
pub mod boxes;
pub mod checkpoint;
pub mod coder;
pub mod conv_block;
pub mod dense;
pub mod detector;
pub mod divisors;
pub mod fcos;
pub mod fpn;
pub mod keypoints;
pub mod losses;
pub mod masks;
pub mod matcher;
pub mod mobilenet_v3;
pub mod nn;
pub mod ops;
pub mod options;
pub mod rcnn;
pub mod resnet;
pub mod retinanet;
pub mod sampler;
pub mod segmentation;
pub mod ssd;
pub mod suppress;
pub mod terms;
pub mod transform;
pub mod types;
pub mod vgg;
pub mod weights;

pub use detector::Detector;
pub use fcos::{Fcos, FcosOptions};
pub use mobilenet_v3::{MobileNetV3, MobileNetV3Kind};
pub use options::{BackboneKind, BackboneOptions};
pub use rcnn::GeneralizedRcnn;
pub use rcnn::options::{KeypointOptions, MaskOptions, RcnnOptions};
pub use resnet::{ResNet, ResNetKind};
pub use retinanet::{RetinaNet, RetinaNetOptions};
pub use segmentation::{HeadKind, SegmentationNet, SegmentationOptions};
pub use ssd::{Ssd, SsdNetwork, SsdOptions};
pub use transform::TransformOptions;
pub use types::{Detections, Target};
pub use vgg::{Vgg, VggKind};

/// Height and width in pixels.
pub type ImageSize = (i64, i64);
