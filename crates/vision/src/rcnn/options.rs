//! The settings of the R-CNNs.

use crate::nn::NormKind;
use crate::options::{BackboneKind, BackboneOptions};
use crate::transform::TransformOptions;

/// How the features of a box become what its class and corners are read from.
#[derive(Debug, Clone, PartialEq)]
pub enum BoxHeadOptions {
    /// Two fully connected layers (`TwoMLPHead`), as in V1.
    TwoMlp {
        /// Width of both.
        representation_size: i64,
    },
    /// Convolutions, then fully connected layers (`FastRCNNConvFCHead`), as in V2.
    ConvFc {
        /// Channels of each convolution.
        conv_layers: Vec<i64>,
        /// Width of each fully connected layer; at least one.
        fc_layers: Vec<i64>,
        /// Normalisation of the convolutions.
        norm: Option<NormKind>,
    },
}

/// The settings of a [`super::GeneralizedRcnn`]. Sizes in pixels, overlaps (IoU), scores and fractions from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // Documented in groups; the names are torchvision's.
pub struct RcnnOptions {
    /// Classes including the background, which is class 0.
    pub num_classes: i64,
    pub backbone: BackboneOptions,

    pub transform: TransformOptions,

    /// For each level of the pyramid, the halved last included: sides of the anchors.
    pub anchor_sizes: Vec<Vec<f64>>,
    /// For each level: height / width.
    pub aspect_ratios: Vec<Vec<f64>>,
    /// Convolutions before the RPN's two outputs.
    pub rpn_conv_depth: usize,
    /// Proposals kept in each level before, and in each image after, non-maximum suppression.
    pub rpn_pre_nms_top_n_train: i64,
    pub rpn_pre_nms_top_n_test: i64,
    pub rpn_post_nms_top_n_train: i64,
    pub rpn_post_nms_top_n_test: i64,
    pub rpn_nms_thresh: f64,
    /// Overlap from which an anchor is foreground, and below which it is background.
    pub rpn_fg_iou_thresh: f64,
    pub rpn_bg_iou_thresh: f64,
    /// Anchors in an image's loss, and the largest share of foreground.
    pub rpn_batch_size_per_image: i64,
    pub rpn_positive_fraction: f64,
    /// Proposals below this are dropped.
    pub rpn_score_thresh: f64,

    pub box_head: BoxHeadOptions,
    /// Bins on a side of a box's features, and samples in a bin on a side.
    pub box_pool_size: i64,
    pub box_sampling_ratio: i64,
    /// Detections at or below this are dropped.
    pub box_score_thresh: f64,
    pub box_nms_thresh: f64,
    /// Detections kept in an image.
    pub box_detections_per_img: i64,
    /// Overlap from which a proposal is foreground, and below which it is background.
    pub box_fg_iou_thresh: f64,
    pub box_bg_iou_thresh: f64,
    /// Proposals in an image's loss, and the largest share of foreground.
    pub box_batch_size_per_image: i64,
    pub box_positive_fraction: f64,
    /// Factors of the box offsets.
    pub bbox_reg_weights: [f64; 4],

    /// The masks' part, in a Mask R-CNN.
    pub masks: Option<MaskOptions>,
    /// The keypoints' part, in a Keypoint R-CNN.
    pub keypoints: Option<KeypointOptions>,
}

impl RcnnOptions {
    /// As `fasterrcnn_resnet50_fpn`; with [`MaskOptions::v1`], as `maskrcnn_resnet50_fpn`; with [`KeypointOptions::default`] and
    /// [`KeypointOptions::MIN_SIZE`], as `keypointrcnn_resnet50_fpn`.
    ///
    /// On a MobileNetV3 as `fasterrcnn_mobilenet_v3_large_fpn`.
    pub fn v1(num_classes: i64, backbone: BackboneOptions) -> Self {
        let sizes = [32.0, 64.0, 128.0, 256.0, 512.0];
        let (anchor_sizes, rpn_score_thresh) = match backbone.kind {
            BackboneKind::ResNet(_) => (sizes.map(|size| vec![size]).to_vec(), 0.0),
            BackboneKind::MobileNetV3(_) => (vec![sizes.to_vec(); 3], 0.05),
        };
        Self {
            num_classes,
            backbone,
            transform: TransformOptions::default(),
            aspect_ratios: vec![vec![0.5, 1.0, 2.0]; anchor_sizes.len()],
            anchor_sizes,
            rpn_conv_depth: 1,
            rpn_pre_nms_top_n_train: 2000,
            rpn_pre_nms_top_n_test: 1000,
            rpn_post_nms_top_n_train: 2000,
            rpn_post_nms_top_n_test: 1000,
            rpn_nms_thresh: 0.7,
            rpn_fg_iou_thresh: 0.7,
            rpn_bg_iou_thresh: 0.3,
            rpn_batch_size_per_image: 256,
            rpn_positive_fraction: 0.5,
            rpn_score_thresh,
            box_head: BoxHeadOptions::TwoMlp { representation_size: 1024 },
            box_pool_size: 7,
            box_sampling_ratio: 2,
            box_score_thresh: 0.05,
            box_nms_thresh: 0.5,
            box_detections_per_img: 100,
            box_fg_iou_thresh: 0.5,
            box_bg_iou_thresh: 0.5,
            box_batch_size_per_image: 512,
            box_positive_fraction: 0.25,
            bbox_reg_weights: [10.0, 10.0, 5.0, 5.0],
            masks: None,
            keypoints: None,
        }
    }

    /// As `fasterrcnn_resnet50_fpn_v2`: batch norms throughout, a deeper RPN, a convolutional box head. With
    /// [`MaskOptions::v2`], as `maskrcnn_resnet50_fpn_v2`.
    pub fn v2(num_classes: i64, backbone: BackboneOptions) -> Self {
        let backbone = BackboneOptions { norm: NormKind::Batch, fpn_norm: Some(NormKind::Batch), ..backbone };
        let box_head =
            BoxHeadOptions::ConvFc { conv_layers: vec![256; 4], fc_layers: vec![1024], norm: Some(NormKind::Batch) };
        Self { rpn_conv_depth: 2, box_head, ..Self::v1(num_classes, backbone) }
    }
}

/// The settings of a Mask R-CNN's masks.
#[derive(Debug, Clone, PartialEq)]
pub struct MaskOptions {
    /// Channels of each convolution of the mask head.
    pub layers: Vec<i64>,
    /// Their dilation.
    pub dilation: i64,
    /// Their normalisation; none in V1, batch in V2.
    pub norm: Option<NormKind>,
    /// Channels of the mask predictor's hidden layer.
    pub hidden: i64,
    /// Bins on a side of a box's features for its mask; masks come out twice as large.
    pub pool_size: i64,
    /// Samples in a bin on a side.
    pub sampling_ratio: i64,
    /// Whether detections carry masks of the image's size (`[N, 1, H, W]`), or as predicted within their boxes
    /// (`[N, 1, 28, 28]`), which takes far less memory; [`crate::masks::paste`] turns the latter into the former.
    pub paste: bool,
}

impl MaskOptions {
    /// As `maskrcnn_resnet50_fpn`.
    pub fn v1() -> Self {
        Self {
            layers: vec![256; 4],
            dilation: 1,
            norm: None,
            hidden: 256,
            pool_size: 14,
            sampling_ratio: 2,
            paste: true,
        }
    }

    /// As `maskrcnn_resnet50_fpn_v2`.
    pub fn v2() -> Self {
        Self { norm: Some(NormKind::Batch), ..Self::v1() }
    }
}

/// The settings of a Keypoint R-CNN's keypoints.
#[derive(Debug, Clone, PartialEq)]
pub struct KeypointOptions {
    /// Keypoints of an object.
    pub count: i64,
    /// Channels of each convolution of the keypoint head.
    pub layers: Vec<i64>,
    /// Bins on a side of a box's features for its keypoints; heatmaps come out four times as large.
    pub pool_size: i64,
    /// Samples in a bin on a side.
    pub sampling_ratio: i64,
}

impl KeypointOptions {
    /// The lengths from which torchvision draws that of the shorter side while training such a detector.
    pub const MIN_SIZE: [i64; 6] = [640, 672, 704, 736, 768, 800];
}

impl Default for KeypointOptions {
    /// As `keypointrcnn_resnet50_fpn`: those of COCO's persons.
    fn default() -> Self {
        Self { count: 17, layers: vec![512; 8], pool_size: 14, sampling_ratio: 2 }
    }
}
