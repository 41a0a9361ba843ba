//! SSD.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, DetectorConfig, Version};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::dense::Filter;
use pipe_vision::{ResNetKind, Ssd, SsdNetwork, SsdOptions};

/// SSD with a VGG or ResNet backbone: object detection (boxes and classes) in one stage, on images of a fixed size.
///
/// Liu et al., "SSD: Single Shot MultiBox Detector" (2016); names, defaults, losses and state dict of torchvision's `ssd300_vgg16`. In
/// training it returns the losses `bbox_regression` and `classification`. Images are resized and normalized inside the model; detections
/// are in pixels of the images from the loader.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct SsdConfig {
    /// What every detector has.
    #[serde(flatten)]
    pub detector: DetectorConfig,
    /// The backbone network. A ResNet is taken up to its third layer, which does not stride, and gets further blocks as VGG does.
    pub backbone: Backbone,
    /// Side of the square that images are resized to, in pixels. With `vgg16` 300 or 512.
    #[schemars(range(min = 32, max = 2048))]
    pub size: i64,
    /// Number of trainable stages of the backbone, counted from the last. Default: 4 with pretrained weights, otherwise all 5.
    #[schemars(range(max = 5))]
    pub trainable_backbone_layers: Option<usize>,
    /// Mean of each channel, for pixels in 0..1. Default: that of the backbone's pretrained weights.
    pub image_mean: Option<[f64; 3]>,
    /// Standard deviation of each channel, for pixels in 0..1. Default: that of the backbone's pretrained weights.
    pub image_std: Option<[f64; 3]>,
    /// Aspect ratios of the default boxes of each feature map, beside 1; each also stands for its inverse. Default: the paper's.
    pub aspect_ratios: Option<Vec<Vec<f64>>>,
    /// Sizes of the default boxes of each feature map, and one more, as a part of the image's. Default: the paper's for COCO with the
    /// sizes 300 and 512, otherwise evenly from 0.15 to 0.9, and 1.
    pub scales: Option<Vec<f64>>,
    /// Minimum IoU with an object for a default box to be foreground.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub iou_thresh: f64,
    /// Fraction of foreground in the loss; of the background, the boxes that are mistaken most enter it.
    #[schemars(range(min = 0.01, max = 1.0))]
    pub positive_fraction: f64,
    /// Score threshold of detections: only higher scores are kept.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub score_thresh: f64,
    /// Detections kept per class before NMS.
    #[schemars(range(min = 1))]
    pub topk_candidates: i64,
    /// NMS threshold (IoU) of detections of the same class.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub nms_thresh: f64,
    /// Maximum number of detections per image.
    #[schemars(range(min = 1))]
    pub detections_per_img: i64,
}

/// The network that an SSD stands on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // torchvision's names.
pub enum Backbone {
    #[default]
    Vgg16,
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
}

impl Backbone {
    fn network(self) -> SsdNetwork {
        match self {
            Backbone::Vgg16 => SsdNetwork::Vgg16,
            Backbone::ResNet18 => SsdNetwork::ResNet(ResNetKind::ResNet18),
            Backbone::ResNet34 => SsdNetwork::ResNet(ResNetKind::ResNet34),
            Backbone::ResNet50 => SsdNetwork::ResNet(ResNetKind::ResNet50),
            Backbone::ResNet101 => SsdNetwork::ResNet(ResNetKind::ResNet101),
            Backbone::ResNet152 => SsdNetwork::ResNet(ResNetKind::ResNet152),
        }
    }

    fn name(self) -> String {
        match self.network() {
            SsdNetwork::ResNet(kind) => kind.to_string(),
            _ => "vgg16".to_owned(),
        }
    }
}

impl Default for SsdConfig {
    fn default() -> Self {
        let o = SsdOptions::new(91, SsdNetwork::Vgg16, 300);
        Self {
            detector: DetectorConfig::default(),
            backbone: Backbone::Vgg16,
            size: o.size,
            trainable_backbone_layers: None,
            image_mean: None,
            image_std: None,
            aspect_ratios: None,
            scales: None,
            iou_thresh: o.iou_thresh,
            positive_fraction: o.positive_fraction,
            score_thresh: o.filter.score_thresh,
            topk_candidates: o.filter.topk_candidates,
            nms_thresh: o.filter.nms_thresh,
            detections_per_img: o.filter.detections_per_img,
        }
    }
}

impl SsdConfig {
    fn options(&self) -> SsdOptions {
        let preset = SsdOptions::new(self.detector.num_classes, self.backbone.network(), self.size);
        let trainable = if self.detector.is_trained() { 4 } else { 5 };
        SsdOptions {
            trainable_layers: self.trainable_backbone_layers.unwrap_or(trainable),
            image_mean: self.image_mean.unwrap_or(preset.image_mean),
            image_std: self.image_std.unwrap_or(preset.image_std),
            aspect_ratios: self.aspect_ratios.clone().unwrap_or(preset.aspect_ratios),
            scales: self.scales.clone().unwrap_or(preset.scales),
            iou_thresh: self.iou_thresh,
            positive_fraction: self.positive_fraction,
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

impl Config for SsdConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "ssd";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false

[model.detector]
type = "ssd"
backbone = "vgg16"
size = 300
num_classes = "dataset.train:num_classes"
"#;

    fn facts(&self) -> Facts {
        let options = self.options();
        self.detector.facts([options.image_mean, options.image_std], self.backbone != Backbone::Vgg16)
    }

    fn contract(&self) -> Contract {
        detection::contract(false)
    }

    fn check(&self, problems: &mut Problems) {
        if self.backbone == Backbone::Vgg16 && !matches!(self.size, 300 | 512) {
            problems.at("size", "with `vgg16` the size is 300 or 512", "set one of them, or a ResNet as `backbone`");
        }
        if self.image_std.is_some_and(|std| std.iter().any(|std| *std <= 0.0)) {
            problems.at("image_std", "pixels are divided by it", "use numbers above 0");
        }
        let maps = SsdOptions::new(2, self.backbone.network(), self.size).aspect_ratios.len();
        let (ratios, scales) = (self.aspect_ratios.as_ref().map(Vec::len), self.scales.as_ref().map(Vec::len));
        if ratios.is_some_and(|count| count != maps) {
            let help = "give a list for each; it may be empty: `[[2.0], [2.0, 3.0], …]`";
            problems.at("aspect_ratios", format!("there are {maps} feature maps"), help);
        }
        if scales.is_some_and(|count| count != maps + 1) {
            problems.at("scales", format!("there are {maps} feature maps"), format!("give {} numbers", maps + 1));
        }
        let mut numbers = self.aspect_ratios.iter().flatten().flatten().chain(self.scales.iter().flatten());
        if numbers.any(|number| *number <= 0.0) {
            let option = if self.scales.is_some() { "scales" } else { "aspect_ratios" };
            problems.at(option, "a default box has a width and a height", "use numbers above 0");
        }
        self.detector.check("ssd300_vgg16", Version::V1, &self.backbone.name(), problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for SsdConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.options();
        detection::build(&self.detector, |device| Ssd::new(&options, device), ctx)
    }
}

pipe_core::register!(SsdConfig);
