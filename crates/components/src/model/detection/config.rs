//! The configuration that the detectors share.

/// Defines the configuration of a detector: the options that all have, then its own. The names and default values are
/// torchvision's.
macro_rules! detector_config {
    (
        $(#[$outer:meta])*
        $name:ident { $($(#[$meta:meta])* $field:ident: $ty:ty = $default:expr,)* }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name {
            /// Classes, with class 0 the background: usually `"dataset.NAME:num_classes"`.
            #[schemars(range(min = 2))]
            pub num_classes: i64,
            /// The network that sees the picture.
            pub backbone: Backbone,
            /// Which of torchvision's two designs.
            pub version: Version,
            /// The backbone's normalisation. Left out: `frozen` on trained weights, `batch` otherwise and in V2.
            pub norm: Option<Norm>,
            /// Added to the variance in frozen norms. torchvision's own `COCO_V1` detectors of V1 want 0.
            #[schemars(range(min = 0.0))]
            pub norm_eps: f64,
            /// Layers of the backbone that are trained, counted from the last. Left out: 3 on trained weights, otherwise 5, all.
            #[schemars(range(max = 5))]
            pub trainable_backbone_layers: Option<usize>,
            /// Layers whose maps go into the pyramid, ascending.
            #[schemars(length(min = 1), inner(range(min = 1, max = 4)))]
            pub returned_layers: Vec<usize>,
            /// A detector's weights, `.pth` or `.safetensors`, torchvision's or those of a checkpoint. Layers that depend on
            /// the number of classes start anew where that differs.
            pub weights: Option<PathValue>,
            /// A classifier's weights for the backbone, `.pth` or `.safetensors`.
            pub weights_backbone: Option<PathValue>,

            /// The length that the picture's short side is resized to; of several, training draws one and evaluation takes
            /// the last.
            pub min_size: Lengths,
            /// The long side is at most this many pixels.
            #[schemars(range(min = 1))]
            pub max_size: i64,
            /// Resize to exactly this size instead.
            pub fixed_size: Option<Size2d>,
            /// Take pictures in training as they come: the data is resized already.
            pub skip_resize: bool,
            /// Mean of each channel, of pixels from 0 to 1.
            pub image_mean: [f64; 3],
            /// Standard deviation of each channel.
            pub image_std: [f64; 3],

            /// Sides of the anchors in pixels, for each level of the pyramid, the halved last included.
            pub anchor_sizes: Vec<Vec<f64>>,
            /// Height / width of the anchors, on every level.
            #[schemars(length(min = 1))]
            pub aspect_ratios: Vec<f64>,
            /// Proposals kept of each level before non-maximum suppression, in training.
            #[schemars(range(min = 1))]
            pub rpn_pre_nms_top_n_train: i64,
            /// The same in evaluation.
            #[schemars(range(min = 1))]
            pub rpn_pre_nms_top_n_test: i64,
            /// Proposals kept of each picture after non-maximum suppression, in training.
            #[schemars(range(min = 1))]
            pub rpn_post_nms_top_n_train: i64,
            /// The same in evaluation.
            #[schemars(range(min = 1))]
            pub rpn_post_nms_top_n_test: i64,
            /// Overlap (IoU) above which the worse of two proposals goes.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub rpn_nms_thresh: f64,
            /// Overlap with an object from which an anchor is foreground.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub rpn_fg_iou_thresh: f64,
            /// Overlap below which an anchor is background.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub rpn_bg_iou_thresh: f64,
            /// Anchors of a picture in the loss.
            #[schemars(range(min = 1))]
            pub rpn_batch_size_per_image: i64,
            /// Largest share of foreground among them.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub rpn_positive_fraction: f64,
            /// Proposals below this are dropped.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub rpn_score_thresh: f64,

            /// Width of the box head's fully connected layers.
            #[schemars(range(min = 1))]
            pub box_representation_size: i64,
            /// Detections at or below this are dropped.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub box_score_thresh: f64,
            /// Overlap above which the worse of two detections of a class goes.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub box_nms_thresh: f64,
            /// Detections kept of a picture.
            #[schemars(range(min = 1))]
            pub box_detections_per_img: i64,
            /// Overlap with an object from which a proposal is foreground.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub box_fg_iou_thresh: f64,
            /// Overlap below which a proposal is background.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub box_bg_iou_thresh: f64,
            /// Proposals of a picture in the loss.
            #[schemars(range(min = 1))]
            pub box_batch_size_per_image: i64,
            /// Largest share of foreground among them.
            #[schemars(range(min = 0.0, max = 1.0))]
            pub box_positive_fraction: f64,
            /// Factors of the offsets of a box: x, y, width, height.
            pub bbox_reg_weights: [f64; 4],
            $($(#[$meta])* pub $field: $ty,)*
        }

        impl Default for $name {
            fn default() -> Self {
                let o = FasterRcnnOptions::v1(91, BackboneOptions::scratch(ResNetKind::ResNet50));
                Self {
                    num_classes: o.num_classes,
                    backbone: Backbone(o.backbone.kind),
                    version: Version::V1,
                    norm: None,
                    norm_eps: EPS,
                    trainable_backbone_layers: None,
                    returned_layers: o.backbone.returned_layers,
                    weights: None,
                    weights_backbone: None,
                    min_size: Lengths::Many(o.min_size),
                    max_size: o.max_size,
                    fixed_size: None,
                    skip_resize: o.skip_resize,
                    image_mean: o.image_mean,
                    image_std: o.image_std,
                    anchor_sizes: o.anchor_sizes,
                    aspect_ratios: o.aspect_ratios.into_iter().next().unwrap_or_default(),
                    rpn_pre_nms_top_n_train: o.rpn_pre_nms_top_n_train,
                    rpn_pre_nms_top_n_test: o.rpn_pre_nms_top_n_test,
                    rpn_post_nms_top_n_train: o.rpn_post_nms_top_n_train,
                    rpn_post_nms_top_n_test: o.rpn_post_nms_top_n_test,
                    rpn_nms_thresh: o.rpn_nms_thresh,
                    rpn_fg_iou_thresh: o.rpn_fg_iou_thresh,
                    rpn_bg_iou_thresh: o.rpn_bg_iou_thresh,
                    rpn_batch_size_per_image: o.rpn_batch_size_per_image,
                    rpn_positive_fraction: o.rpn_positive_fraction,
                    rpn_score_thresh: o.rpn_score_thresh,
                    box_representation_size: 1024,
                    box_score_thresh: o.box_score_thresh,
                    box_nms_thresh: o.box_nms_thresh,
                    box_detections_per_img: o.box_detections_per_img,
                    box_fg_iou_thresh: o.box_fg_iou_thresh,
                    box_bg_iou_thresh: o.box_bg_iou_thresh,
                    box_batch_size_per_image: o.box_batch_size_per_image,
                    box_positive_fraction: o.box_positive_fraction,
                    bbox_reg_weights: o.bbox_reg_weights,
                    $($field: $default,)*
                }
            }
        }

        impl $name {
            /// The options that every detector has, in the terms of [`pipe_vision`].
            fn detector(&self) -> FasterRcnnOptions {
                let backbone = detection::backbone(
                    self.backbone,
                    self.weights.is_some() || self.weights_backbone.is_some(),
                    &self.returned_layers,
                    self.trainable_backbone_layers,
                );
                let preset = match self.version {
                    Version::V1 => FasterRcnnOptions::v1(self.num_classes, backbone),
                    Version::V2 => FasterRcnnOptions::v2(self.num_classes, backbone),
                };
                let norm = detection::norm(self.norm, self.norm_eps, preset.backbone.norm);
                FasterRcnnOptions {
                    backbone: BackboneOptions { norm, ..preset.backbone },
                    min_size: self.min_size.to_vec(),
                    max_size: self.max_size,
                    fixed_size: self.fixed_size.map(|size| (size.height.into(), size.width.into())),
                    skip_resize: self.skip_resize,
                    image_mean: self.image_mean,
                    image_std: self.image_std,
                    anchor_sizes: self.anchor_sizes.clone(),
                    aspect_ratios: vec![self.aspect_ratios.clone(); self.anchor_sizes.len()],
                    rpn_pre_nms_top_n_train: self.rpn_pre_nms_top_n_train,
                    rpn_pre_nms_top_n_test: self.rpn_pre_nms_top_n_test,
                    rpn_post_nms_top_n_train: self.rpn_post_nms_top_n_train,
                    rpn_post_nms_top_n_test: self.rpn_post_nms_top_n_test,
                    rpn_nms_thresh: self.rpn_nms_thresh,
                    rpn_fg_iou_thresh: self.rpn_fg_iou_thresh,
                    rpn_bg_iou_thresh: self.rpn_bg_iou_thresh,
                    rpn_batch_size_per_image: self.rpn_batch_size_per_image,
                    rpn_positive_fraction: self.rpn_positive_fraction,
                    rpn_score_thresh: self.rpn_score_thresh,
                    box_head: detection::box_head(preset.box_head, self.box_representation_size),
                    box_score_thresh: self.box_score_thresh,
                    box_nms_thresh: self.box_nms_thresh,
                    box_detections_per_img: self.box_detections_per_img,
                    box_fg_iou_thresh: self.box_fg_iou_thresh,
                    box_bg_iou_thresh: self.box_bg_iou_thresh,
                    box_batch_size_per_image: self.box_batch_size_per_image,
                    box_positive_fraction: self.box_positive_fraction,
                    bbox_reg_weights: self.bbox_reg_weights,
                    ..preset
                }
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

pub(in crate::model) use detector_config;
