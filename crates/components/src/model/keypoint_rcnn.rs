//! Keypoint R-CNN.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, RcnnConfig, Version};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_data::fields;
use pipe_vision::{GeneralizedRcnn, KeypointOptions, RcnnOptions};

/// Keypoint R-CNN with a ResNet-FPN or MobileNetV3-FPN backbone: object detection with the keypoints of each object (boxes, classes and keypoints).
///
/// He et al., "Mask R-CNN" (2017), section 5; names, defaults (but for `num_classes`: COCO's persons and the background are 2), losses and
/// state dict of torchvision's `keypointrcnn_resnet50_fpn`. In training it returns the losses `loss_classifier`, `loss_box_reg`,
/// `loss_keypoint`, `loss_objectness` and `loss_rpn_box_reg`. Images are resized and normalized inside the model; detections are in pixels
/// of the images from the loader.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct KeypointRcnnConfig {
    /// What all R-CNNs have.
    #[serde(flatten)]
    pub rcnn: RcnnConfig,
    /// Number of keypoints of an object: usually `"dataset.NAME:num_keypoints"`.
    #[schemars(range(min = 1))]
    pub num_keypoints: i64,
    /// Channels of the convolutions of the keypoint head.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub keypoint_layers: Vec<i64>,
}

impl Default for KeypointRcnnConfig {
    fn default() -> Self {
        let o = KeypointOptions::default();
        Self { rcnn: RcnnConfig::default(), num_keypoints: o.count, keypoint_layers: o.layers }
    }
}

impl KeypointRcnnConfig {
    fn options(&self) -> RcnnOptions {
        let (count, layers) = (self.num_keypoints, self.keypoint_layers.clone());
        let keypoints = Some(KeypointOptions { count, layers, ..KeypointOptions::default() });
        let mut options = RcnnOptions { keypoints, ..self.rcnn.options() };
        if self.rcnn.pyramid.min_size.is_none() {
            options.transform.min_size = KeypointOptions::MIN_SIZE.to_vec();
        }
        options
    }
}

impl Config for KeypointRcnnConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "keypoint_rcnn";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false
keypoints = true

[model.keypoints]
type = "keypoint_rcnn"
backbone = "resnet50"
num_classes = "dataset.train:num_classes"
num_keypoints = "dataset.train:num_keypoints"
"#;

    fn facts(&self) -> Facts {
        self.rcnn.facts()
    }

    fn contract(&self) -> Contract {
        detection::contract(false).needs([fields::KEYPOINTS]).adds([fields::DETECTION_KEYPOINTS])
    }

    fn check(&self, problems: &mut Problems) {
        if self.rcnn.version == Version::V2 {
            problems.at("version", "there is one variant of Keypoint R-CNN", "remove it");
        }
        self.rcnn.check("keypointrcnn_resnet50_fpn", problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for KeypointRcnnConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.options();
        detection::build(&self.rcnn.pyramid.detector, |device| GeneralizedRcnn::new(options, device), ctx)
    }
}

pipe_core::register!(KeypointRcnnConfig);
