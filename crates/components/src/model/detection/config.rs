//! The configuration that the detectors share.

/// Defines the configuration of a detector: the options that all have, then its own. Names and default values are
/// torchvision's, which `o` holds. An option without a default value here is one of the same name there.
macro_rules! detector_config {
    ($(#[$outer:meta])* $name:ident { $($own:tt)* }) => {
        $crate::model::detection::define_config! {
            $(#[$outer])*
            $name from o:

            /// Number of classes including the background (class 0): usually `"dataset.NAME:num_classes"`.
            #[schemars(range(min = 2))]
            num_classes: i64 = o.num_classes,
            /// The backbone network.
            backbone: Backbone = Backbone(o.backbone.kind),
            /// Which of torchvision's two variants.
            version: Version = Version::V1,
            /// Normalization layers of the backbone. Default: `frozen` with pretrained weights, `batch` otherwise and in V2.
            norm: Option<Norm> = None,
            /// Epsilon of frozen batch norm. Default: 0 with torchvision's `coco_v1` weights of V1, which need that, otherwise 1e-5.
            #[schemars(inner(range(min = 0.0)))]
            norm_eps: Option<f64> = None,
            /// Number of trainable backbone layers, counted from the last. Default: 3 with pretrained weights, otherwise all 5.
            #[schemars(range(max = 5))]
            trainable_backbone_layers: Option<usize> = None,
            /// Backbone layers whose feature maps feed the FPN, ascending.
            #[schemars(length(min = 1), inner(range(min = 1, max = 4)))]
            returned_layers: Vec<usize> = o.backbone.returned_layers,
            /// Detector weights: a `.pth` or `.safetensors` file, a run's folder (its best checkpoint), or torchvision's by name,
            /// such as `torchvision:maskrcnn_resnet50_fpn.coco_v1`. Layers that depend on the number of classes are
            /// reinitialized if it differs.
            weights: Option<PathValue> = None,
            /// Pretrained classifier weights for the backbone: a file, or torchvision's by name, such as
            /// `torchvision:resnet50.imagenet1k_v1`.
            weights_backbone: Option<PathValue> = None,

            /// Length of the image's shorter side after resizing; of several, training picks one at random and evaluation uses
            /// the last.
            min_size: Lengths = Lengths::Many(o.min_size),
            /// Maximum length of the longer side after resizing, in pixels.
            #[schemars(range(min = 1))]
            max_size: i64,
            /// Resize to exactly this size instead: `[height, width]`.
            fixed_size: Option<Size2d> = None,
            /// Do not resize in training: the data is already resized.
            skip_resize: bool,
            /// Mean of each channel, for pixels in 0..1.
            image_mean: [f64; 3],
            /// Standard deviation of each channel, for pixels in 0..1.
            image_std: [f64; 3],

            /// Anchor sizes in pixels, per FPN level, including the extra pooled level.
            anchor_sizes: Vec<Vec<f64>> = o.anchor_sizes,
            /// Aspect ratios (height / width) of the anchors, on every level.
            #[schemars(length(min = 1))]
            aspect_ratios: Vec<f64> = o.aspect_ratios.into_iter().next().unwrap_or_default(),
            /// Proposals kept per level before NMS, in training.
            #[schemars(range(min = 1))]
            rpn_pre_nms_top_n_train: i64,
            /// The same in evaluation.
            #[schemars(range(min = 1))]
            rpn_pre_nms_top_n_test: i64,
            /// Proposals kept per image after NMS, in training.
            #[schemars(range(min = 1))]
            rpn_post_nms_top_n_train: i64,
            /// The same in evaluation.
            #[schemars(range(min = 1))]
            rpn_post_nms_top_n_test: i64,
            /// NMS threshold (IoU) of proposals.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_nms_thresh: f64,
            /// Minimum IoU with an object for an anchor to be foreground.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_fg_iou_thresh: f64,
            /// Maximum IoU with any object for an anchor to be background.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_bg_iou_thresh: f64,
            /// Anchors sampled per image for the loss.
            #[schemars(range(min = 1))]
            rpn_batch_size_per_image: i64,
            /// Maximum fraction of foreground among them.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_positive_fraction: f64,
            /// Score threshold of proposals.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_score_thresh: f64,

            /// Width of the box head's fully connected layers.
            #[schemars(range(min = 1))]
            box_representation_size: i64 = 1024,
            /// Score threshold of detections: only higher scores are kept.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_score_thresh: f64,
            /// NMS threshold (IoU) of detections of the same class.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_nms_thresh: f64,
            /// Maximum number of detections per image.
            #[schemars(range(min = 1))]
            box_detections_per_img: i64,
            /// Minimum IoU with an object for a proposal to be foreground.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_fg_iou_thresh: f64,
            /// Maximum IoU with any object for a proposal to be background.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_bg_iou_thresh: f64,
            /// Proposals sampled per image for the loss.
            #[schemars(range(min = 1))]
            box_batch_size_per_image: i64,
            /// Maximum fraction of foreground among them.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_positive_fraction: f64,
            /// Weights of the box regression targets: x, y, width, height.
            bbox_reg_weights: [f64; 4],

            $($own)*
        }
    };
}

/// What [`detector_config`] makes of the whole list.
macro_rules! define_config {
    (
        $(#[$outer:meta])*
        $name:ident from $o:ident:
        $($(#[$meta:meta])* $field:ident: $ty:ty $(= $default:expr)?,)*
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            $($(#[$meta])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                let $o = RcnnOptions::v1(91, BackboneOptions::scratch(ResNetKind::ResNet50));
                Self { $($field: detection::default_value!($o.$field $(= $default)?),)* }
            }
        }

        impl $name {
            /// The options that every detector has, in the terms of [`pipe_vision`].
            fn detector(&self) -> RcnnOptions {
                let backbone = detection::backbone(
                    self.backbone,
                    self.weights.is_some() || self.weights_backbone.is_some(),
                    &self.returned_layers,
                    self.trainable_backbone_layers,
                );
                let preset = match self.version {
                    Version::V1 => RcnnOptions::v1(self.num_classes, backbone),
                    Version::V2 => RcnnOptions::v2(self.num_classes, backbone),
                };
                let eps = self.norm_eps.or_else(|| named(self.weights.as_ref())?.frozen_eps()).unwrap_or(EPS);
                let norm = detection::norm(self.norm, eps, preset.backbone.norm);
                let config = self;
                let mut options = RcnnOptions {
                    backbone: BackboneOptions { norm, ..preset.backbone },
                    min_size: self.min_size.to_vec(),
                    fixed_size: self.fixed_size.map(|size| (size.height.into(), size.width.into())),
                    anchor_sizes: self.anchor_sizes.clone(),
                    aspect_ratios: vec![self.aspect_ratios.clone(); self.anchor_sizes.len()],
                    box_head: detection::box_head(preset.box_head, self.box_representation_size),
                    ..preset
                };
                $(detection::same_option!(options, config, $field $(= $default)?);)*
                options
            }

            /// What the options that every detector has mean.
            fn detector_facts(&self) -> Facts {
                let options = self.detector();
                let sizes: Vec<f64> = self.anchor_sizes.iter().flatten().copied().collect();
                let anchors = Anchors {
                    sides: [sizes.iter().copied().fold(f64::MAX, f64::min), sizes.iter().copied().fold(0.0, f64::max)],
                    // Of several lengths the largest, in which objects are largest.
                    resize: (!self.skip_resize)
                        .then(|| [options.min_size.iter().copied().max().unwrap_or(0) as f64, self.max_size as f64]),
                };
                let (of_detector, of_backbone) = (self.weights.as_ref(), self.weights_backbone.as_ref());
                Facts {
                    weights: of_detector.map(|_| "weights").or(of_backbone.map(|_| "weights_backbone")),
                    normalizes: Some(Normalization { mean: self.image_mean.to_vec(), std: self.image_std.to_vec() }),
                    batch_norm: options.backbone.norm == NormKind::Batch
                        || options.backbone.fpn_norm == Some(NormKind::Batch),
                    classes: Some((self.num_classes.unsigned_abs(), "num_classes")),
                    anchors: (self.fixed_size.is_none() && !sizes.is_empty()).then_some(anchors),
                    ..Facts::default()
                }
            }

            fn check_detector(&self, problems: &mut Problems) {
                detection::check_levels(&self.returned_layers, &self.anchor_sizes, problems);
                if self.rpn_bg_iou_thresh > self.rpn_fg_iou_thresh {
                    let help = "set it to at most `rpn_fg_iou_thresh`";
                    problems.at("rpn_bg_iou_thresh", "the background threshold is above the foreground threshold", help);
                }
                if self.box_bg_iou_thresh > self.box_fg_iou_thresh {
                    let help = "set it to at most `box_fg_iou_thresh`";
                    problems.at("box_bg_iou_thresh", "the background threshold is above the foreground threshold", help);
                }
                if self.image_std.iter().any(|std| *std <= 0.0) {
                    problems.at("image_std", "pixels are divided by it", "use numbers above 0");
                }
                if self.weights.is_some() && self.weights_backbone.is_some() {
                    let help = "keep one of them: a detector's weights include its backbone's";
                    problems.at("weights_backbone", "`weights` would overwrite these", help);
                }
                let version = if self.version == Version::V2 { "_v2" } else { "" };
                weights::check("weights", self.weights.as_ref(), problems, |named| match named.is_detector() {
                    false if named.is_segmentation() => Some("its weights are for `model.fcn` and `model.deeplabv3`".into()),
                    false => Some("a classifier's weights are for `weights_backbone`".into()),
                    true if named.model.ends_with("_v2") == (self.version == Version::V2) => None,
                    true => Some(format!("this one is `version = \"{}\"`: `torchvision:maskrcnn_resnet50_fpn{version}`", if self.version == Version::V2 { "v2" } else { "v1" })),
                });
                let backbone = self.backbone.0.to_string();
                weights::check("weights_backbone", self.weights_backbone.as_ref(), problems, |named| {
                    (named.model != backbone).then(|| format!("the backbone is {backbone}: `torchvision:{backbone}`"))
                });
            }
        }
    };
}

/// An option's default value: the one given, else that of the option of the same name in `pipe_vision`.
macro_rules! default_value {
    ($o:ident.$field:ident) => {
        $o.$field
    };
    ($o:ident.$field:ident = $default:expr) => {
        $default
    };
}

/// Hands over an option that has the same name in `pipe_vision`: one without a default value of its own.
macro_rules! same_option {
    ($to:ident, $from:ident, $field:ident) => {
        $to.$field = $from.$field;
    };
    ($to:ident, $from:ident, $field:ident = $default:expr) => {};
}

pub(in crate::model) use {default_value, define_config, detector_config, same_option};
