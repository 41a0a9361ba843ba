//! Vision models and the functions on boxes and masks that they are made of, equal to torchvision's in names and numbers.
//!
//! Boxes are `[N, 4]` float tensors of `x1, y1, x2, y2` in pixels; sizes are `(height, width)` in pixels.
//!
//! - functions: [`boxes`], [`coder`], [`matcher`], [`sampler`], [`anchors`], [`masks`], [`ops`];
//! - networks: [`resnet`], [`fpn`], [`backbone`] (the two together), [`conv_block`];
//! - detection: [`transform`] (images in, detections out), [`rpn`] and [`proposals`], [`pooler`], [`box_head`],
//!   [`mask_head`], [`roi_heads`] with its [`samples`];
//! - models: [`detector`] (what both share), [`faster_rcnn`], [`mask_rcnn`], their [`options`], [`checkpoint`] (loading
//!   torchvision's files, old ones too).

pub mod anchors;
pub mod backbone;
pub mod box_head;
pub mod boxes;
// pending: checkpoint
pub mod coder;
pub mod conv_block;
// pending: detector
// pending: faster_rcnn
pub mod fpn;
pub mod mask_head;
// pending: mask_rcnn
// pending: masks
pub mod matcher;
pub mod ops;
pub mod options;
pub mod pooler;
// pending: proposals
pub mod resnet;
// pending: roi_heads
// pending: rpn
pub mod sampler;
// pending: samples
// pending: transform

pub use options::{BackboneOptions, FasterRcnnOptions, MaskRcnnOptions};
pub use resnet::{ResNet, ResNetKind};

/// Height and width in pixels.
pub type ImageSize = (i64, i64);
