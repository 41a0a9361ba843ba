//! RetinaNet.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, PyramidConfig, Version, check_levels, check_thresholds};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::dense::Filter;
use pipe_vision::{BackboneOptions, ResNetKind, RetinaNet, RetinaNetOptions};

/// RetinaNet with a ResNet-FPN backbone: object detection (boxes and classes) in one stage.
///
/// Lin et al., "Focal Loss for Dense Object Detection" (2017); names, defaults, losses and state dict of torchvision's
/// `retinanet_resnet50_fpn` and `_v2`. In training it returns the losses `classification` and `bbox_regression`. Images are resized and
/// normalized inside the model; detections are in pixels of the images from the loader.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct RetinaNetConfig {
    /// What detectors with a pyramid have.
    #[serde(flatten)]
    pub pyramid: PyramidConfig,
    /// Which of torchvision's two variants.
    pub version: Version,
    /// Backbone layers whose feature maps feed the FPN, ascending.
    #[schemars(length(min = 1), inner(range(min = 1, max = 4)))]
    pub returned_layers: Vec<usize>,
    /// Anchor sizes in pixels, per FPN level, including the extra levels P6 and P7.
    pub anchor_sizes: Vec<Vec<f64>>,
    /// Aspect ratios (height / width) of the anchors, on every level.
    #[schemars(length(min = 1))]
    pub aspect_ratios: Vec<f64>,
    /// Minimum IoU with an object for an anchor to be foreground.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub fg_iou_thresh: f64,
    /// Maximum IoU with any object for an anchor to be background.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub bg_iou_thresh: f64,
    /// Score threshold of detections: only higher scores are kept.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score_thresh: f64,
    /// Detections kept per level before NMS.
    #[schemars(range(min = 1))]
    pub topk_candidates: i64,
    /// NMS threshold (IoU) of detections of the same class.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub nms_thresh: f64,
    /// Maximum number of detections per image.
    #[schemars(range(min = 1))]
    pub detections_per_img: i64,
}

impl Default for RetinaNetConfig {
    fn default() -> Self {
        let o = RetinaNetOptions::v1(91, BackboneOptions::scratch(ResNetKind::ResNet50));
        Self {
            pyramid: PyramidConfig::default(),
            version: Version::V1,
            returned_layers: o.backbone.returned_layers,
            anchor_sizes: o.anchor_sizes,
            aspect_ratios: o.aspect_ratios.into_iter().next().unwrap_or_default(),
            fg_iou_thresh: o.fg_iou_thresh,
            bg_iou_thresh: o.bg_iou_thresh,
            score_thresh: o.filter.score_thresh,
            topk_candidates: o.filter.topk_candidates,
            nms_thresh: o.filter.nms_thresh,
            detections_per_img: o.filter.detections_per_img,
        }
    }
}

impl RetinaNetConfig {
    fn options(&self) -> RetinaNetOptions {
        let (classes, backbone) = (self.pyramid.detector.num_classes, self.pyramid.backbone(&[]));
        let mut preset = match self.version {
            Version::V1 => RetinaNetOptions::v1(classes, backbone),
            Version::V2 => RetinaNetOptions::v2(classes, backbone),
        };
        preset.backbone.returned_layers = self.returned_layers.clone();
        self.pyramid.set_norm(&mut preset.backbone);
        RetinaNetOptions {
            transform: self.pyramid.transform(),
            anchor_sizes: self.anchor_sizes.clone(),
            aspect_ratios: vec![self.aspect_ratios.clone(); self.anchor_sizes.len()],
            fg_iou_thresh: self.fg_iou_thresh,
            bg_iou_thresh: self.bg_iou_thresh,
            filter: Filter {
                score_thresh: self.score_thresh,
                topk_candidates: self.topk_candidates,
                nms_thresh: self.nms_thresh,
                detections_per_img: self.detections_per_img,
            },
            ..preset
        }
    }
}

impl Config for RetinaNetConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "retinanet";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false

[model.detector]
type = "retinanet"
backbone = "resnet50"
num_classes = "dataset.train:num_classes"
"#;

    fn facts(&self) -> Facts {
        self.pyramid.facts(&self.options().backbone, &self.anchor_sizes)
    }

    fn contract(&self) -> Contract {
        detection::contract(false)
    }

    fn check(&self, problems: &mut Problems) {
        check_levels(
            &self.returned_layers,
            &self.anchor_sizes,
            (2, "one each for the extra levels P6 and P7"),
            problems,
        );
        if self.version == Version::V2 {
            self.pyramid.check_groups(32, "V2's heads have", problems);
        }
        let (low, high) = (self.bg_iou_thresh, self.fg_iou_thresh);
        check_thresholds([("bg_iou_thresh", low), ("fg_iou_thresh", high)], problems);
        self.pyramid.check("retinanet_resnet50_fpn", self.version, problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for RetinaNetConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.options();
        detection::build(&self.pyramid.detector, |device| RetinaNet::new(&options, device), ctx)
    }
}

pipe_core::register!(RetinaNetConfig);
