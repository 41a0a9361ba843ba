//! The options of Faster and Mask R-CNN.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::config::{PyramidConfig, check_levels, check_thresholds};
use super::options::Version;
use pipe_core::Problems;
use pipe_core::facts::Facts;
use pipe_vision::rcnn::options::BoxHeadOptions;
use pipe_vision::{BackboneKind, BackboneOptions, RcnnOptions, ResNetKind};

/// What both have.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RcnnConfig {
    /// What detectors with a pyramid have.
    #[serde(flatten)]
    pub pyramid: PyramidConfig,
    /// Which of torchvision's two variants.
    pub version: Version,
    /// Backbone layers whose feature maps feed the FPN, ascending. Default: `[1, 2, 3, 4]` of a ResNet; of a MobileNetV3, whose stages
    /// count from 0, the last two.
    #[schemars(length(min = 1), inner(range(max = 5)))]
    pub returned_layers: Option<Vec<usize>>,

    /// Anchor sizes in pixels, per FPN level, including the extra pooled level. Default: `[[32], [64], [128], [256], [512]]`; with a
    /// MobileNetV3 all five on each of three levels.
    pub anchor_sizes: Option<Vec<Vec<f64>>>,
    /// Aspect ratios (height / width) of the anchors, on every level.
    #[schemars(length(min = 1))]
    pub aspect_ratios: Vec<f64>,
    /// Proposals kept per level before NMS, in training.
    #[schemars(range(min = 1))]
    pub rpn_pre_nms_top_n_train: i64,
    /// The same in evaluation.
    #[schemars(range(min = 1))]
    pub rpn_pre_nms_top_n_test: i64,
    /// Proposals kept per image after NMS, in training.
    #[schemars(range(min = 1))]
    pub rpn_post_nms_top_n_train: i64,
    /// The same in evaluation.
    #[schemars(range(min = 1))]
    pub rpn_post_nms_top_n_test: i64,
    /// NMS threshold (IoU) of proposals.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rpn_nms_thresh: f64,
    /// Minimum IoU with an object for an anchor to be foreground.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rpn_fg_iou_thresh: f64,
    /// Maximum IoU with any object for an anchor to be background.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rpn_bg_iou_thresh: f64,
    /// Anchors sampled per image for the loss.
    #[schemars(range(min = 1))]
    pub rpn_batch_size_per_image: i64,
    /// Maximum fraction of foreground among them.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rpn_positive_fraction: f64,
    /// Score threshold of proposals. Default: 0; with a MobileNetV3 0.05.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub rpn_score_thresh: Option<f64>,

    /// Width of the box head's fully connected layers.
    #[schemars(range(min = 1))]
    pub box_representation_size: i64,
    /// Score threshold of detections: only higher scores are kept.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub box_score_thresh: f64,
    /// NMS threshold (IoU) of detections of the same class.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub box_nms_thresh: f64,
    /// Maximum number of detections per image.
    #[schemars(range(min = 1))]
    pub box_detections_per_img: i64,
    /// Minimum IoU with an object for a proposal to be foreground.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub box_fg_iou_thresh: f64,
    /// Maximum IoU with any object for a proposal to be background.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub box_bg_iou_thresh: f64,
    /// Proposals sampled per image for the loss.
    #[schemars(range(min = 1))]
    pub box_batch_size_per_image: i64,
    /// Maximum fraction of foreground among them.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub box_positive_fraction: f64,
    /// Weights of the box regression targets: x, y, width, height.
    pub bbox_reg_weights: [f64; 4],
}

impl Default for RcnnConfig {
    fn default() -> Self {
        let o = RcnnOptions::v1(91, BackboneOptions::scratch(ResNetKind::ResNet50));
        Self {
            pyramid: PyramidConfig::default(),
            version: Version::V1,
            returned_layers: None,
            anchor_sizes: None,
            aspect_ratios: o.aspect_ratios.into_iter().next().unwrap_or_default(),
            rpn_pre_nms_top_n_train: o.rpn_pre_nms_top_n_train,
            rpn_pre_nms_top_n_test: o.rpn_pre_nms_top_n_test,
            rpn_post_nms_top_n_train: o.rpn_post_nms_top_n_train,
            rpn_post_nms_top_n_test: o.rpn_post_nms_top_n_test,
            rpn_nms_thresh: o.rpn_nms_thresh,
            rpn_fg_iou_thresh: o.rpn_fg_iou_thresh,
            rpn_bg_iou_thresh: o.rpn_bg_iou_thresh,
            rpn_batch_size_per_image: o.rpn_batch_size_per_image,
            rpn_positive_fraction: o.rpn_positive_fraction,
            rpn_score_thresh: None,
            box_representation_size: 1024,
            box_score_thresh: o.box_score_thresh,
            box_nms_thresh: o.box_nms_thresh,
            box_detections_per_img: o.box_detections_per_img,
            box_fg_iou_thresh: o.box_fg_iou_thresh,
            box_bg_iou_thresh: o.box_bg_iou_thresh,
            box_batch_size_per_image: o.box_batch_size_per_image,
            box_positive_fraction: o.box_positive_fraction,
            bbox_reg_weights: o.bbox_reg_weights,
        }
    }
}

impl RcnnConfig {
    /// In the terms of [`pipe_vision`].
    pub fn options(&self) -> RcnnOptions {
        let usual = self.pyramid.backbone.0.usual_maps();
        let backbone = self.pyramid.backbone(self.returned_layers.as_ref().unwrap_or(&usual));
        let classes = self.pyramid.detector.num_classes;
        let mut preset = match self.version {
            Version::V1 => RcnnOptions::v1(classes, backbone),
            Version::V2 => RcnnOptions::v2(classes, backbone),
        };
        self.pyramid.set_norm(&mut preset.backbone);
        let anchor_sizes = self.anchor_sizes.clone().unwrap_or_else(|| preset.anchor_sizes.clone());
        RcnnOptions {
            transform: self.pyramid.transform(),
            aspect_ratios: vec![self.aspect_ratios.clone(); anchor_sizes.len()],
            anchor_sizes,
            rpn_pre_nms_top_n_train: self.rpn_pre_nms_top_n_train,
            rpn_pre_nms_top_n_test: self.rpn_pre_nms_top_n_test,
            rpn_post_nms_top_n_train: self.rpn_post_nms_top_n_train,
            rpn_post_nms_top_n_test: self.rpn_post_nms_top_n_test,
            rpn_nms_thresh: self.rpn_nms_thresh,
            rpn_fg_iou_thresh: self.rpn_fg_iou_thresh,
            rpn_bg_iou_thresh: self.rpn_bg_iou_thresh,
            rpn_batch_size_per_image: self.rpn_batch_size_per_image,
            rpn_positive_fraction: self.rpn_positive_fraction,
            rpn_score_thresh: self.rpn_score_thresh.unwrap_or(preset.rpn_score_thresh),
            box_head: box_head(preset.box_head, self.box_representation_size),
            box_score_thresh: self.box_score_thresh,
            box_nms_thresh: self.box_nms_thresh,
            box_detections_per_img: self.box_detections_per_img,
            box_fg_iou_thresh: self.box_fg_iou_thresh,
            box_bg_iou_thresh: self.box_bg_iou_thresh,
            box_batch_size_per_image: self.box_batch_size_per_image,
            box_positive_fraction: self.box_positive_fraction,
            bbox_reg_weights: self.bbox_reg_weights,
            ..preset
        }
    }

    /// What these options mean.
    pub fn facts(&self) -> Facts {
        let options = self.options();
        self.pyramid.facts(&options.backbone, &options.anchor_sizes)
    }

    /// `model`: torchvision's name of its first variant.
    pub fn check(&self, model: &str, problems: &mut Problems) {
        let (kind, options) = (self.pyramid.backbone.0, self.options());
        let (returned, maps) = (&options.backbone.returned_layers, kind.maps());
        if let Some(layer) = returned.iter().find(|layer| !maps.contains(layer)) {
            let help = format!("numbers from {} to {}", maps.start(), maps.end());
            problems.at("returned_layers", format!("{kind} has no layer {layer} for an FPN"), help);
        }
        check_levels(returned, &options.anchor_sizes, (1, "one for the extra pooled level"), problems);
        let (low, high) = (self.rpn_bg_iou_thresh, self.rpn_fg_iou_thresh);
        check_thresholds([("rpn_bg_iou_thresh", low), ("rpn_fg_iou_thresh", high)], problems);
        let (low, high) = (self.box_bg_iou_thresh, self.box_fg_iou_thresh);
        check_thresholds([("box_bg_iou_thresh", low), ("box_fg_iou_thresh", high)], problems);
        let model = match kind {
            BackboneKind::ResNet(_) => model.to_owned(),
            BackboneKind::MobileNetV3(kind) => model.replace("resnet50", &kind.to_string()),
        };
        self.pyramid.check(&model, self.version, problems);
    }
}

/// The box head of the variant, with another width.
fn box_head(preset: BoxHeadOptions, size: i64) -> BoxHeadOptions {
    match preset {
        BoxHeadOptions::TwoMlp { .. } => BoxHeadOptions::TwoMlp { representation_size: size },
        BoxHeadOptions::ConvFc { conv_layers, fc_layers, norm } => {
            BoxHeadOptions::ConvFc { conv_layers, fc_layers: vec![size; fc_layers.len()], norm }
        }
    }
}
