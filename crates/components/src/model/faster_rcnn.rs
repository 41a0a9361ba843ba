//! Faster R-CNN.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, RcnnConfig};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::GeneralizedRcnn;

/// Faster R-CNN with a ResNet-FPN or MobileNetV3-FPN backbone: object detection (boxes and classes).
///
/// Ren et al., "Faster R-CNN" (2015); names, defaults, losses and state dict of torchvision's
/// `fasterrcnn_resnet50_fpn` and `_v2`, and of `fasterrcnn_mobilenet_v3_large_fpn` (its `_320_fpn` has `min_size = 320`, `max_size = 640`, and
/// 150 for `rpn_pre_nms_top_n_test` and `rpn_post_nms_top_n_test`). In training it returns the losses `loss_classifier`, `loss_box_reg`, `loss_objectness`
/// and `loss_rpn_box_reg`. Images are resized and normalized inside the model; detections are in pixels of the
/// images from the loader.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct FasterRcnnConfig {
    /// What both R-CNNs have.
    #[serde(flatten)]
    pub rcnn: RcnnConfig,
}

impl Config for FasterRcnnConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "faster_rcnn";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false

[model.detector]
type = "faster_rcnn"
backbone = "resnet50"
num_classes = "dataset.train:num_classes"
"#;

    fn facts(&self) -> Facts {
        self.rcnn.facts()
    }

    fn contract(&self) -> Contract {
        detection::contract(false)
    }

    fn check(&self, problems: &mut Problems) {
        self.rcnn.check("fasterrcnn_resnet50_fpn", problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for FasterRcnnConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.rcnn.options();
        detection::build(&self.rcnn.pyramid.detector, |device| GeneralizedRcnn::new(options, device), ctx)
    }
}

pipe_core::register!(FasterRcnnConfig);
