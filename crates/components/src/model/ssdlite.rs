//! SSDlite.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::detection::{self, DetectorConfig, Version};
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Property};
use pipe_vision::dense::Filter;
use pipe_vision::{Ssd, SsdOptions};

/// SSDlite with a MobileNetV3 backbone: object detection (boxes and classes) for small devices.
///
/// Sandler et al., "MobileNetV2" (2018), and Howard et al., "Searching for MobileNetV3" (2019); names, defaults, losses and state dict of
/// torchvision's `ssdlite320_mobilenet_v3_large`. In training it returns the losses `bbox_regression` and `classification`. Images are
/// resized and normalized inside the model; detections are in pixels of the images from the loader.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct SsdLiteConfig {
    /// What every detector has.
    #[serde(flatten)]
    pub detector: DetectorConfig,
    /// Whether the last layers of the backbone have half as many channels. Default: without `weights_backbone`, as in torchvision.
    pub reduced_tail: Option<bool>,
    /// Side of the square that images are resized to, in pixels.
    #[schemars(range(min = 32, max = 2048))]
    pub size: i64,
    /// Number of trainable stages of the backbone, of 6, counted from the last.
    #[schemars(range(max = 6))]
    pub trainable_backbone_layers: usize,
    /// Mean of each channel, for pixels in 0..1.
    pub image_mean: [f64; 3],
    /// Standard deviation of each channel, for pixels in 0..1.
    pub image_std: [f64; 3],
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

impl Default for SsdLiteConfig {
    fn default() -> Self {
        let o = SsdOptions::lite(91, true);
        Self {
            detector: DetectorConfig::default(),
            reduced_tail: None,
            size: o.size,
            trainable_backbone_layers: o.trainable_layers,
            image_mean: o.image_mean,
            image_std: o.image_std,
            iou_thresh: o.iou_thresh,
            positive_fraction: o.positive_fraction,
            score_thresh: o.filter.score_thresh,
            topk_candidates: o.filter.topk_candidates,
            nms_thresh: o.filter.nms_thresh,
            detections_per_img: o.filter.detections_per_img,
        }
    }
}

impl SsdLiteConfig {
    fn options(&self) -> SsdOptions {
        let reduced = self.reduced_tail.unwrap_or(self.detector.weights_backbone.is_none());
        SsdOptions {
            size: self.size,
            trainable_layers: self.trainable_backbone_layers,
            image_mean: self.image_mean,
            image_std: self.image_std,
            iou_thresh: self.iou_thresh,
            positive_fraction: self.positive_fraction,
            filter: Filter {
                score_thresh: self.score_thresh,
                topk_candidates: self.topk_candidates,
                nms_thresh: self.nms_thresh,
                detections_per_img: self.detections_per_img,
            },
            ..SsdOptions::lite(self.detector.num_classes, reduced)
        }
    }
}

impl Config for SsdLiteConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "ssdlite";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false

[model.detector]
type = "ssdlite"
num_classes = "dataset.train:num_classes"
"#;

    fn facts(&self) -> Facts {
        self.detector.facts([self.image_mean, self.image_std], true)
    }

    fn contract(&self) -> Contract {
        detection::contract(false)
    }

    fn check(&self, problems: &mut Problems) {
        if self.image_std.iter().any(|std| *std <= 0.0) {
            problems.at("image_std", "pixels are divided by it", "use numbers above 0");
        }
        self.detector.check("ssdlite320_mobilenet_v3_large", Version::V1, "mobilenet_v3_large", problems);
    }

    fn properties() -> &'static [Property] {
        detection::PROPERTIES
    }
}

impl Component for SsdLiteConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let options = self.options();
        detection::build(&self.detector, |device| Ssd::new(&options, device), ctx)
    }
}

pipe_core::register!(SsdLiteConfig);
