//! The configuration that the detectors share.

/// Defines the configuration of a detector: the options that all have, then its own. Names and default values are
/// torchvision's, which `o` holds. An option without a default value here is one of the same name there.
macro_rules! detector_config {
    ($(#[$outer:meta])* $name:ident { $($own:tt)* }) => {
        $crate::model::detection::define_config! {
            $(#[$outer])*
            $name from o:

            /// Classes, with class 0 the background: usually `"dataset.NAME:num_classes"`.
            #[schemars(range(min = 2))]
            num_classes: i64 = o.num_classes,
            /// The network that sees the picture.
            backbone: Backbone = Backbone(o.backbone.kind),
            /// Which of torchvision's two designs.
            version: Version = Version::V1,
            /// The backbone's normalisation. Left out: `frozen` on trained weights, `batch` otherwise and in V2.
            norm: Option<Norm> = None,
            /// Added to the variance in frozen norms. torchvision's own `COCO_V1` detectors of V1 want 0.
            #[schemars(range(min = 0.0))]
            norm_eps: f64 = EPS,
            /// Layers of the backbone that are trained, counted from the last. Left out: 3 on trained weights, otherwise 5, all.
            #[schemars(range(max = 5))]
            trainable_backbone_layers: Option<usize> = None,
            /// Layers whose maps go into the pyramid, ascending.
            #[schemars(length(min = 1), inner(range(min = 1, max = 4)))]
            returned_layers: Vec<usize> = o.backbone.returned_layers,
            /// A detector's weights, `.pth` or `.safetensors`, torchvision's or those of a checkpoint. Layers that depend on
            /// the number of classes start anew where that differs.
            weights: Option<PathValue> = None,
            /// A classifier's weights for the backbone, `.pth` or `.safetensors`.
            weights_backbone: Option<PathValue> = None,

            /// The length that the picture's short side is resized to; of several, training draws one and evaluation takes
            /// the last.
            min_size: Lengths = Lengths::Many(o.min_size),
            /// The long side is at most this many pixels.
            #[schemars(range(min = 1))]
            max_size: i64,
            /// Resize to exactly this size instead.
            fixed_size: Option<Size2d> = None,
            /// Take pictures in training as they come: the data is resized already.
            skip_resize: bool,
            /// Mean of each channel, of pixels from 0 to 1.
            image_mean: [f64; 3],
            /// Standard deviation of each channel.
            image_std: [f64; 3],

            /// Sides of the anchors in pixels, for each level of the pyramid, the halved last included.
            anchor_sizes: Vec<Vec<f64>> = o.anchor_sizes,
            /// Height / width of the anchors, on every level.
            #[schemars(length(min = 1))]
            aspect_ratios: Vec<f64> = o.aspect_ratios.into_iter().next().unwrap_or_default(),
            /// Proposals kept of each level before non-maximum suppression, in training.
            #[schemars(range(min = 1))]
            rpn_pre_nms_top_n_train: i64,
            /// The same in evaluation.
            #[schemars(range(min = 1))]
            rpn_pre_nms_top_n_test: i64,
            /// Proposals kept of each picture after non-maximum suppression, in training.
            #[schemars(range(min = 1))]
            rpn_post_nms_top_n_train: i64,
            /// The same in evaluation.
            #[schemars(range(min = 1))]
            rpn_post_nms_top_n_test: i64,
            /// Overlap (IoU) above which the worse of two proposals goes.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_nms_thresh: f64,
            /// Overlap with an object from which an anchor is foreground.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_fg_iou_thresh: f64,
            /// Overlap below which an anchor is background.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_bg_iou_thresh: f64,
            /// Anchors of a picture in the loss.
            #[schemars(range(min = 1))]
            rpn_batch_size_per_image: i64,
            /// Largest share of foreground among them.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_positive_fraction: f64,
            /// Proposals below this are dropped.
            #[schemars(range(min = 0.0, max = 1.0))]
            rpn_score_thresh: f64,

            /// Width of the box head's fully connected layers.
            #[schemars(range(min = 1))]
            box_representation_size: i64 = 1024,
            /// Detections at or below this are dropped.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_score_thresh: f64,
            /// Overlap above which the worse of two detections of a class goes.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_nms_thresh: f64,
            /// Detections kept of a picture.
            #[schemars(range(min = 1))]
            box_detections_per_img: i64,
            /// Overlap with an object from which a proposal is foreground.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_fg_iou_thresh: f64,
            /// Overlap below which a proposal is background.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_bg_iou_thresh: f64,
            /// Proposals of a picture in the loss.
            #[schemars(range(min = 1))]
            box_batch_size_per_image: i64,
            /// Largest share of foreground among them.
            #[schemars(range(min = 0.0, max = 1.0))]
            box_positive_fraction: f64,
            /// Factors of the offsets of a box: x, y, width, height.
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
                let norm = detection::norm(self.norm, self.norm_eps, preset.backbone.norm);
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

            fn check_detector(&self, problems: &mut Problems) {
                detection::check_levels(&self.returned_layers, &self.anchor_sizes, problems);
                if self.rpn_bg_iou_thresh > self.rpn_fg_iou_thresh {
                    let help = "set it to at most `rpn_fg_iou_thresh`";
                    problems.at("rpn_bg_iou_thresh", "background would begin above foreground", help);
                }
                if self.box_bg_iou_thresh > self.box_fg_iou_thresh {
                    let help = "set it to at most `box_fg_iou_thresh`";
                    problems.at("box_bg_iou_thresh", "background would begin above foreground", help);
                }
                if self.image_std.iter().any(|std| *std <= 0.0) {
                    problems.at("image_std", "pixels are divided by it", "use numbers above 0");
                }
                if self.weights.is_some() && self.weights_backbone.is_some() {
                    let help = "keep one of them: a detector's weights hold its backbone's";
                    problems.at("weights_backbone", "`weights` would overwrite these", help);
                }
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
