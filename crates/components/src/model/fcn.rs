//! `model.fcn`: FCN for semantic segmentation.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::segmentation::{self, SegmentationConfig};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::HeadKind;

/// FCN with a dilated ResNet backbone: a class for each pixel. torchvision's `fcn_resnet50` and `fcn_resnet101`, compatible with its weights
/// and parameter names.
///
/// Long et al., "Fully Convolutional Networks for Semantic Segmentation", 2015.
///
/// Normalize the images with ImageNet's mean and standard deviation for torchvision's weights. Losses: `cross_entropy`, over the pixels
/// whose label is not 255, and half that of the auxiliary classifier, `aux_cross_entropy`; torchvision's references train this
/// classifier at ten times the learning rate (`groups = [{ match = "aux_classifier.*", lr_scale = 10.0 }]`). Images of one batch have one
/// size in training; in evaluation they may differ.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct FcnConfig(pub SegmentationConfig);

impl Config for FcnConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "fcn";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "fcn"
backbone = "resnet50"
weights = "torchvision:fcn_resnet50"
num_classes = 21
"#;

    fn facts(&self) -> Facts {
        self.0.facts()
    }

    fn contract(&self) -> Contract {
        segmentation::contract()
    }

    fn check(&self, problems: &mut Problems) {
        self.0.check(HeadKind::Fcn, problems);
    }

    fn properties() -> &'static [Property] {
        segmentation::PROPERTIES
    }
}

impl Component for FcnConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        self.0.build(HeadKind::Fcn, ctx)
    }
}

pipe_core::register!(FcnConfig);
