//! Mask R-CNN.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, Backbone, Lengths, Norm, Version, detector_config};
use super::weights::{self, named};
use pipe_core::facts::{Anchors, Facts, Normalization};
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, Property, Size2d};
use pipe_vision::nn::NormKind;
use pipe_vision::nn::norm::EPS;
use pipe_vision::{BackboneOptions, MaskOptions, RcnnOptions, ResNetKind};

detector_config! {
    /// Mask R-CNN with a ResNet-FPN backbone: instance segmentation (boxes, classes and masks).
    ///
    /// He et al., "Mask R-CNN" (2017); names, defaults, losses and state dict of torchvision's `maskrcnn_resnet50_fpn` and
    /// `_v2`. In training it returns the losses `loss_classifier`, `loss_box_reg`, `loss_mask`, `loss_objectness` and
    /// `loss_rpn_box_reg`. Images are resized and normalized inside the model; detections are in pixels of the images
    /// from the loader.
    MaskRcnnConfig {
        /// Channels of the convolutions of the mask head.
        #[schemars(length(min = 1), inner(range(min = 1)))]
        mask_layers: Vec<i64> = vec![256; 4],
        /// Dilation of the convolutions of the mask head.
        #[schemars(range(min = 1))]
        mask_dilation: i64 = 1,
        /// Channels of the hidden layer of the mask predictor.
        #[schemars(range(min = 1))]
        mask_hidden: i64 = 256,
    }
}

impl MaskRcnnConfig {
    fn options(&self) -> RcnnOptions {
        let preset = match self.version {
            Version::V1 => MaskOptions::v1(),
            Version::V2 => MaskOptions::v2(),
        };
        let masks = MaskOptions {
            layers: self.mask_layers.clone(),
            dilation: self.mask_dilation,
            hidden: self.mask_hidden,
            ..preset
        };
        RcnnOptions { masks: Some(masks), ..self.detector() }
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
        self.detector_facts()
    }

    fn contract(&self) -> Contract {
        detection::contract(true)
    }

    fn check(&self, problems: &mut Problems) {
        self.check_detector(problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for MaskRcnnConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        detection::build(self.options(), self.weights.as_ref(), self.weights_backbone.as_ref(), ctx)
    }
}

pipe_core::register!(MaskRcnnConfig);
