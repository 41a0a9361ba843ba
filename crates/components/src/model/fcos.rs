//! FCOS.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, PyramidConfig, Version, check_returned};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::dense::Filter;
use pipe_vision::{BackboneOptions, Fcos, FcosOptions, ResNetKind};

/// FCOS with a ResNet-FPN backbone: object detection (boxes and classes) in one stage and without anchors.
///
/// Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector" (2020); names, defaults, losses and state dict of torchvision's
/// `fcos_resnet50_fpn`. In training it returns the losses `classification`, `bbox_regression` and `bbox_ctrness`. Images are resized and
/// normalized inside the model; detections are in pixels of the images from the loader.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct FcosConfig {
    /// What detectors with a pyramid have.
    #[serde(flatten)]
    pub pyramid: PyramidConfig,
    /// Backbone layers whose feature maps feed the FPN, ascending; two extra levels come on top. A level learns of the objects whose
    /// farthest side lies 4 to 8 of its strides away, the first also of smaller ones, the last of larger ones.
    #[schemars(length(min = 1), inner(range(min = 1, max = 4)))]
    pub returned_layers: Vec<usize>,
    /// How far from an object's centre places learn of it, in strides of their level.
    #[schemars(range(min = 0.1))]
    pub center_sampling_radius: f64,
    /// Score threshold of detections: only higher scores are kept. A score is the geometric mean of class and centerness.
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

impl Default for FcosConfig {
    fn default() -> Self {
        let o = FcosOptions::new(91, BackboneOptions::scratch(ResNetKind::ResNet50));
        Self {
            pyramid: PyramidConfig::default(),
            returned_layers: o.backbone.returned_layers,
            center_sampling_radius: o.center_sampling_radius,
            score_thresh: o.filter.score_thresh,
            topk_candidates: o.filter.topk_candidates,
            nms_thresh: o.filter.nms_thresh,
            detections_per_img: o.filter.detections_per_img,
        }
    }
}

impl FcosConfig {
    fn options(&self) -> FcosOptions {
        let mut preset = FcosOptions::new(self.pyramid.detector.num_classes, self.pyramid.backbone(&[]));
        preset.backbone.returned_layers = self.returned_layers.clone();
        self.pyramid.set_norm(&mut preset.backbone);
        FcosOptions {
            transform: self.pyramid.transform(),
            center_sampling_radius: self.center_sampling_radius,
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

impl Config for FcosConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "fcos";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false

[model.detector]
type = "fcos"
backbone = "resnet50"
num_classes = "dataset.train:num_classes"
"#;

    fn facts(&self) -> Facts {
        self.pyramid.facts(&self.options().backbone, &[])
    }

    fn contract(&self) -> Contract {
        detection::contract(false)
    }

    fn check(&self, problems: &mut Problems) {
        check_returned(&self.returned_layers, problems);
        self.pyramid.check_groups(32, "the heads have", problems);
        self.pyramid.check("fcos_resnet50_fpn", Version::V1, problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for FcosConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.options();
        detection::build(&self.pyramid.detector, |device| Fcos::new(&options, device), ctx)
    }
}

pipe_core::register!(FcosConfig);
