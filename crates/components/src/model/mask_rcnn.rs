//! Mask R-CNN.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, RcnnConfig, Version};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::{GeneralizedRcnn, MaskOptions, RcnnOptions};

/// Mask R-CNN with a ResNet-FPN or MobileNetV3-FPN backbone: instance segmentation (boxes, classes and masks).
///
/// He et al., "Mask R-CNN" (2017); names, defaults, losses and state dict of torchvision's `maskrcnn_resnet50_fpn` and
/// `_v2`. In training it returns the losses `loss_classifier`, `loss_box_reg`, `loss_mask`, `loss_objectness` and
/// `loss_rpn_box_reg`. Images are resized and normalized inside the model; detections are in pixels of the images
/// from the loader.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct MaskRcnnConfig {
    /// What both R-CNNs have.
    #[serde(flatten)]
    pub rcnn: RcnnConfig,
    /// Channels of the convolutions of the mask head.
    #[schemars(length(min = 1), inner(range(min = 1)))]
    pub mask_layers: Vec<i64>,
    /// Dilation of the convolutions of the mask head.
    #[schemars(range(min = 1))]
    pub mask_dilation: i64,
    /// Channels of the hidden layer of the mask predictor.
    #[schemars(range(min = 1))]
    pub mask_hidden: i64,
}

impl Default for MaskRcnnConfig {
    fn default() -> Self {
        let o = MaskOptions::v1();
        Self { rcnn: RcnnConfig::default(), mask_layers: o.layers, mask_dilation: o.dilation, mask_hidden: o.hidden }
    }
}

impl MaskRcnnConfig {
    fn options(&self) -> RcnnOptions {
        let preset = match self.rcnn.version {
            Version::V1 => MaskOptions::v1(),
            Version::V2 => MaskOptions::v2(),
        };
        let masks = MaskOptions {
            layers: self.mask_layers.clone(),
            dilation: self.mask_dilation,
            hidden: self.mask_hidden,
            ..preset
        };
        RcnnOptions { masks: Some(masks), ..self.rcnn.options() }
    }
}

impl Config for MaskRcnnConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "mask_rcnn";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"

[model.maskrcnn]
type = "mask_rcnn"
backbone = "resnet50"
num_classes = "dataset.train:num_classes"
mask_hidden = 256
"#;

    fn facts(&self) -> Facts {
        self.rcnn.facts()
    }

    fn contract(&self) -> Contract {
        detection::contract(true)
    }

    fn check(&self, problems: &mut Problems) {
        self.rcnn.check("maskrcnn_resnet50_fpn", problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for MaskRcnnConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.options();
        detection::build(&self.rcnn.pyramid.detector, |device| GeneralizedRcnn::new(options, device), ctx)
    }
}

pipe_core::register!(MaskRcnnConfig);
