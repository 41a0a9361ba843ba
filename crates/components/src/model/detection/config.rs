//! The options that detectors share. A detector's own struct flattens one of these.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::{Lengths, Norm, Version};
use crate::model::choice::Choice;
use crate::model::weights::{self, named};
use pipe_core::facts::{Anchors, Facts, Normalization};
use pipe_core::{PathValue, Problems, Size2d};
use pipe_vision::nn::NormKind;
use pipe_vision::nn::norm::EPS;
use pipe_vision::{BackboneKind, BackboneOptions, ResNetKind, TransformOptions};

/// Groups of group norm, the usual number.
const NORM_GROUPS: i64 = 32;

/// What every detector has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DetectorConfig {
    /// Number of classes including the background (class 0): usually `"dataset.NAME:num_classes"`.
    #[schemars(range(min = 2))]
    pub num_classes: i64,
    /// Detector weights: a `.pth` or `.safetensors` file, a run's folder (its best checkpoint), or torchvision's by name, such as
    /// `torchvision:maskrcnn_resnet50_fpn.coco_v1`. Layers that depend on the number of classes are reinitialized if it differs.
    #[schemars(extend("x-reload" = "hot"))]
    pub weights: Option<PathValue>,
    /// Whether an edit of `weights` in a run at work also takes the state of the optimizer (momentum, averages of gradients) and of
    /// averages of this model from the checkpoint that the weights lie in. It means nothing at the beginning of a run.
    #[schemars(extend("x-reload" = "hot"))]
    pub optimizer_state: bool,
    /// Pretrained classifier weights for the backbone: a file, or torchvision's by name, such as `torchvision:resnet50.imagenet1k_v1`.
    pub weights_backbone: Option<PathValue>,
}

impl Default for DetectorConfig {
    fn default() -> Self {
        Self { num_classes: 91, weights: None, optimizer_state: false, weights_backbone: None }
    }
}

impl DetectorConfig {
    /// Whether it starts from trained weights.
    pub fn is_trained(&self) -> bool {
        self.weights.is_some() || self.weights_backbone.is_some()
    }

    /// What these options mean.
    pub fn facts(&self, statistics: [[f64; 3]; 2], batch_norm: bool) -> Facts {
        let [mean, std] = statistics.map(|values| values.to_vec());
        let of_backbone = self.weights_backbone.as_ref().map(|_| "weights_backbone");
        Facts {
            weights: self.weights.as_ref().map(|_| "weights").or(of_backbone),
            normalizes: Some(Normalization { mean, std }),
            batch_norm,
            classes: Some((self.num_classes.unsigned_abs(), "num_classes")),
            ..Facts::default()
        }
    }

    /// Finds weights of other models. `model`: torchvision's name of a model like this one, without its variant's `_v2`.
    pub fn check(&self, model: &str, version: Version, backbone: &str, problems: &mut Problems) {
        if self.weights.is_some() && self.weights_backbone.is_some() {
            let help = "keep one of them: a detector's weights include its backbone's";
            problems.at("weights_backbone", "`weights` would overwrite these", help);
        }
        let wanted = format!("{model}{}", if version == Version::V2 { "_v2" } else { "" });
        weights::check("weights", self.weights.as_ref(), problems, |named| match named.is_detector() {
            false if named.is_segmentation() => Some("its weights are for `model.fcn` and `model.deeplabv3`".into()),
            false => Some("a classifier's weights are for `weights_backbone`".into()),
            // Weights for other sizes of images.
            true => (named.model.replace("_320", "") != wanted)
                .then(|| format!("this one is a {wanted}: `torchvision:{wanted}`")),
        });
        weights::check("weights_backbone", self.weights_backbone.as_ref(), problems, |named| {
            (named.model != backbone).then(|| format!("the backbone is {backbone}: `torchvision:{backbone}`"))
        });
    }
}

/// What detectors on a network with a feature pyramid have.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct PyramidConfig {
    /// What every detector has.
    #[serde(flatten)]
    pub detector: DetectorConfig,
    /// The backbone network.
    pub backbone: Choice<BackboneKind>,
    /// Normalization layers of the backbone. Default: `frozen` with pretrained weights, `batch` otherwise and in V2.
    pub norm: Option<Norm>,
    /// Epsilon of frozen batch norm. Default: 0 with those of torchvision's `coco_v1` weights that need it, otherwise 1e-5.
    #[schemars(inner(range(min = 0.0)))]
    pub norm_eps: Option<f64>,
    /// Number of trainable backbone layers, counted from the last. Default: 3 with pretrained weights, otherwise all: 5 of a ResNet, 6 of a
    /// MobileNetV3.
    #[schemars(range(max = 6))]
    pub trainable_backbone_layers: Option<usize>,
    /// Channels of the FPN's feature maps, and so of the heads; other than 256 for networks smaller than torchvision's.
    #[schemars(range(min = 1))]
    pub out_channels: i64,
    /// Length of the image's shorter side after resizing; of several, training picks one at random and evaluation uses the last.
    /// Default: 800, and of `keypoint_rcnn` 640, 672, 704, 736, 768, 800.
    pub min_size: Option<Lengths>,
    /// Maximum length of the longer side after resizing, in pixels.
    #[schemars(range(min = 1))]
    pub max_size: i64,
    /// Resize to exactly this size instead: `[height, width]`.
    pub fixed_size: Option<Size2d>,
    /// Do not resize in training: the data is already resized.
    pub skip_resize: bool,
    /// Mean of each channel, for pixels in 0..1.
    pub image_mean: [f64; 3],
    /// Standard deviation of each channel, for pixels in 0..1.
    pub image_std: [f64; 3],
}

impl Default for PyramidConfig {
    fn default() -> Self {
        let o = TransformOptions::default();
        Self {
            detector: DetectorConfig::default(),
            backbone: Choice(ResNetKind::ResNet50.into()),
            norm: None,
            norm_eps: None,
            trainable_backbone_layers: None,
            out_channels: BackboneOptions::scratch(ResNetKind::ResNet50).out_channels,
            min_size: None,
            max_size: o.max_size,
            fixed_size: None,
            skip_resize: o.skip_resize,
            image_mean: o.image_mean,
            image_std: o.image_std,
        }
    }
}

impl PyramidConfig {
    /// The backbone before a variant has its say; see [`Self::set_norm`].
    pub fn backbone(&self, returned: &[usize]) -> BackboneOptions {
        let kind = self.backbone.0;
        let trained = self.detector.is_trained();
        let preset = if trained { BackboneOptions::pretrained(kind) } else { BackboneOptions::scratch(kind) };
        let trainable_layers = self.trainable_backbone_layers.unwrap_or(preset.trainable_layers);
        let returned_layers = returned.to_vec();
        BackboneOptions { returned_layers, trainable_layers, out_channels: self.out_channels, ..preset }
    }

    /// Group norm divides the channels evenly; `whose` has it.
    pub fn check_groups(&self, groups: i64, whose: &str, problems: &mut Problems) {
        if self.out_channels % groups != 0 {
            let message = format!(
                "{whose} group norm of {groups} groups, which {} channels cannot be divided into",
                self.out_channels
            );
            problems.at("out_channels", message, format!("a multiple of {groups}, such as {}", 4 * groups));
        }
    }

    /// Sets the normalization that was asked for, or else leaves the variant's.
    pub fn set_norm(&self, options: &mut BackboneOptions) {
        let of_weights = || named(self.detector.weights.as_ref())?.frozen_eps();
        let eps = self.norm_eps.or_else(of_weights).unwrap_or(EPS);
        options.norm = match (self.norm, options.norm) {
            (Some(Norm::Frozen), _) | (None, NormKind::Frozen { .. }) => NormKind::Frozen { eps },
            (Some(Norm::Batch), _) => NormKind::Batch,
            (Some(Norm::Group), _) => NormKind::Group { groups: NORM_GROUPS },
            (None, other) => other,
        };
    }

    /// How images become a batch.
    pub fn transform(&self) -> TransformOptions {
        let usual = TransformOptions::default();
        TransformOptions {
            min_size: self.min_size.as_ref().map_or(usual.min_size, Lengths::to_vec),
            max_size: self.max_size,
            fixed_size: self.fixed_size.map(|size| (size.height.into(), size.width.into())),
            skip_resize: self.skip_resize,
            image_mean: self.image_mean,
            image_std: self.image_std,
            ..usual
        }
    }

    /// What these options mean. `anchors`: the sides of the anchors, where there are any.
    pub fn facts(&self, backbone: &BackboneOptions, anchors: &[Vec<f64>]) -> Facts {
        let batch_norm = backbone.norm == NormKind::Batch || backbone.fpn_norm == Some(NormKind::Batch);
        let sizes: Vec<f64> = anchors.iter().flatten().copied().collect();
        let longest = self.transform().min_size.into_iter().max().unwrap_or(0);
        let anchors = Anchors {
            sides: [sizes.iter().copied().fold(f64::MAX, f64::min), sizes.iter().copied().fold(0.0, f64::max)],
            // Of several lengths the largest, in which objects are largest.
            resize: (!self.skip_resize).then_some([longest as f64, self.max_size as f64]),
        };
        let known = self.fixed_size.is_none() && !sizes.is_empty();
        Facts {
            anchors: known.then_some(anchors),
            ..self.detector.facts([self.image_mean, self.image_std], batch_norm)
        }
    }

    /// `model`: as in [`DetectorConfig::check`].
    pub fn check(&self, model: &str, version: Version, problems: &mut Problems) {
        if self.image_std.iter().any(|std| *std <= 0.0) {
            problems.at("image_std", "pixels are divided by it", "use numbers above 0");
        }
        let layers = self.backbone.0.layers();
        if self.trainable_backbone_layers.is_some_and(|trainable| trainable > layers) {
            let help = format!("at most {layers}");
            problems.at("trainable_backbone_layers", format!("{} has {layers} layers", self.backbone.0), help);
        }
        self.detector.check(model, version, &self.backbone.0.to_string(), problems);
    }
}

/// The layers of the network are in order, and each map of its pyramid has anchors. `extra` says which maps come on top.
pub fn check_levels(returned: &[usize], anchors: &[Vec<f64>], extra: (usize, &str), problems: &mut Problems) {
    check_returned(returned, problems);
    let levels = returned.len() + extra.0;
    if anchors.len() != levels {
        let message = format!("there are anchors for {} levels, but the FPN has {levels}", anchors.len());
        problems.at("anchor_sizes", message, format!("give one list for each of `returned_layers`, and {}", extra.1));
    }
    if anchors.iter().any(|sizes| sizes.len() != anchors[0].len()) {
        problems.at("anchor_sizes", "every level needs the same number of sizes", "such as `[[16, 24], [32, 48], …]`");
    }
    if anchors.iter().any(|sizes| sizes.is_empty() || sizes.iter().any(|size| *size <= 0.0)) {
        problems.at("anchor_sizes", "every level needs at least one size above 0", "such as `[[32], [64], …]`");
    }
}

/// The layers of the network are in order.
pub fn check_returned(returned: &[usize], problems: &mut Problems) {
    if !returned.is_sorted_by(|a, b| a < b) {
        let help = "such as `returned_layers = [2, 3, 4]`";
        problems.at("returned_layers", "the layers must be in ascending order", help);
    }
}

/// A background threshold lies below its foreground threshold.
pub fn check_thresholds([low, high]: [(&str, f64); 2], problems: &mut Problems) {
    if low.1 > high.1 {
        let help = format!("set it to at most `{}`", high.0);
        problems.at(low.0, "the background threshold is above the foreground threshold", help);
    }
}
