//! `model.deeplabv3`: DeepLabV3 for semantic segmentation.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::segmentation::{self, SegmentationConfig};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::HeadKind;

/// DeepLabV3 with a dilated ResNet backbone: a class for each pixel. torchvision's `deeplabv3_resnet50` and `deeplabv3_resnet101`,
/// compatible with its weights and parameter names.
///
/// Chen et al., "Rethinking Atrous Convolution for Semantic Image Segmentation", 2017. A batch has at least two images in training.
///
/// Normalize the images with ImageNet's mean and standard deviation for torchvision's weights. Losses: `cross_entropy`, over the pixels
/// whose label is not 255, and half that of the auxiliary classifier, `aux_cross_entropy`; torchvision's references train this
/// classifier at ten times the learning rate (`groups = [{ match = "aux_classifier.*", lr_scale = 10.0 }]`). Images of one batch have one
/// size in training; in evaluation they may differ.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DeepLabV3Config(pub SegmentationConfig);

impl Config for DeepLabV3Config {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "deeplabv3";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "deeplabv3"
backbone = "resnet50"
weights = "torchvision:deeplabv3_resnet50"
num_classes = 21
"#;

    fn facts(&self) -> Facts {
        self.0.facts()
    }

    fn contract(&self) -> Contract {
        segmentation::contract()
    }

    fn check(&self, problems: &mut Problems) {
        self.0.check(HeadKind::DeepLabV3, problems);
    }

    fn properties() -> &'static [Property] {
        segmentation::PROPERTIES
    }
}

impl Component for DeepLabV3Config {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        self.0.build(HeadKind::DeepLabV3, ctx)
    }
}

pipe_core::register!(DeepLabV3Config);
