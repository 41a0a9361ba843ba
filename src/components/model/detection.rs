//! What the detection models share: their options, weights from files, batches in and detections out.

use std::borrow::Cow;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tch::{Device, Tensor};

use super::{Model, ModelOutput};
use crate::data::batch::to_float;
use crate::data::{Batch, BatchField, Detections, fields};
use crate::document::PathValue;
use crate::nn::{LoadReport, NormKind, ParameterStore, StateDict};
use crate::registry::{Contract, Problems};
use crate::run::{BuildContext, Instance, State, Stateful};
use crate::vision::checkpoint::Classes;
use crate::vision::options::BoxHeadOptions;
use crate::vision::{self, BackboneOptions, FasterRcnn, MaskRcnn, ResNetKind, Target};
use crate::weights;

/// Groups of a group norm, as is customary.
const NORM_GROUPS: i64 = 32;

/// A residual network by torchvision's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backbone(pub ResNetKind);

impl Serialize for Backbone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Backbone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        ResNetKind::from_str(&name).map(Backbone).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Backbone {
    fn schema_name() -> Cow<'static, str> {
        "backbone".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ResNetKind::ALL.map(|(_, name)| name) })
    }
}

/// Which of torchvision's two designs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// As in the papers.
    #[default]
    V1,
    /// Batch norms throughout, two convolutions in the RPN, four convolutions in the box head (Li et al. 2021).
    V2,
}

/// The normalisation of a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Norm {
    /// Batch norm with fixed statistics, for small batches on trained weights.
    Frozen,
    /// Batch norm.
    Batch,
    /// Group norm with 32 groups, whatever the batch size.
    Group,
}

/// One length or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Lengths {
    /// One.
    One(#[schemars(range(min = 1))] i64),
    /// Several.
    Many(#[schemars(length(min = 1), inner(range(min = 1)))] Vec<i64>),
}

impl Lengths {
    /// As a list.
    pub fn to_vec(&self) -> Vec<i64> {
        match self {
            Lengths::One(length) => vec![*length],
            Lengths::Many(lengths) => lengths.clone(),
        }
    }
}

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
            /// The options that every detector has, in the terms of [`crate::vision`].
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

pub(super) use detector_config;

/// The backbone's options; `trained` when it starts from trained weights.
pub(super) fn backbone(kind: Backbone, trained: bool, returned: &[usize], layers: Option<usize>) -> BackboneOptions {
    let preset = if trained { BackboneOptions::pretrained(kind.0) } else { BackboneOptions::scratch(kind.0) };
    let trainable_layers = layers.unwrap_or(preset.trainable_layers);
    BackboneOptions { returned_layers: returned.to_vec(), trainable_layers, ..preset }
}

/// The normalisation asked for, else that of the design.
pub(super) fn norm(asked: Option<Norm>, eps: f64, preset: NormKind) -> NormKind {
    match (asked, preset) {
        (Some(Norm::Frozen), _) | (None, NormKind::Frozen { .. }) => NormKind::Frozen { eps },
        (Some(Norm::Batch), _) => NormKind::Batch,
        (Some(Norm::Group), _) => NormKind::Group { groups: NORM_GROUPS },
        (None, other) => other,
    }
}

/// The box head of the design, of another width.
pub(super) fn box_head(preset: BoxHeadOptions, size: i64) -> BoxHeadOptions {
    match preset {
        BoxHeadOptions::TwoMlp { .. } => BoxHeadOptions::TwoMlp { representation_size: size },
        BoxHeadOptions::ConvFc { conv_layers, fc_layers, norm } => {
            BoxHeadOptions::ConvFc { conv_layers, fc_layers: vec![size; fc_layers.len()], norm }
        }
    }
}

/// Levels of the pyramid have anchors, one for one.
pub(super) fn check_levels(returned: &[usize], anchors: &[Vec<f64>], problems: &mut Problems) {
    if !returned.is_sorted_by(|a, b| a < b) {
        problems.at("returned_layers", "the layers must ascend", "such as `returned_layers = [2, 3, 4]`");
    }
    let levels = returned.len() + 1;
    if anchors.len() != levels {
        let message = format!("there are anchors for {} levels, but the pyramid has {levels}", anchors.len());
        let help = "give one list for each of `returned_layers`, and one for the last level halved";
        problems.at("anchor_sizes", message, help);
    }
    if anchors.iter().any(|sizes| sizes.len() != anchors[0].len()) {
        problems.at(
            "anchor_sizes",
            "every level needs as many sides as the others",
            "such as `[[16, 24], [32, 48], …]`",
        );
    }
    if anchors.iter().any(|sizes| sizes.is_empty() || sizes.iter().any(|size| *size <= 0.0)) {
        problems.at("anchor_sizes", "every level needs at least one side above 0", "such as `[[32], [64], …]`");
    }
}

/// The fields that a detector reads and writes. Ground truth is read in training only, so it is not needed to detect; but a
/// pipeline says for both at once what its data holds.
pub(super) fn contract(masks: bool) -> Contract {
    let contract = Contract::default().needs([fields::IMAGE, fields::BOXES, fields::LABELS]).adds([fields::DETECTIONS]);
    if masks { contract.needs([fields::MASKS]).adds([fields::DETECTION_MASKS]) } else { contract }
}

/// A detector of [`crate::vision`].
pub(super) trait Detector {
    /// Whether it finds masks.
    const MASKS: bool;
    fn store(&self) -> &ParameterStore;
    fn train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>>;
    fn detect(&self, images: &[Tensor]) -> Result<Vec<vision::Detections>>;
    fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport>;
    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport>;
}

macro_rules! detector {
    ($model:ty, $masks:literal) => {
        impl Detector for $model {
            const MASKS: bool = $masks;

            fn store(&self) -> &ParameterStore {
                self.store()
            }

            fn train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>> {
                self.forward_train(images, targets)
            }

            fn detect(&self, images: &[Tensor]) -> Result<Vec<vision::Detections>> {
                self.forward_eval(images)
            }

            fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport> {
                self.load(state, classes)
            }

            fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
                self.load_backbone(state)
            }
        }
    };
}

detector!(FasterRcnn, false);
detector!(MaskRcnn, true);

/// Builds the node of a detector: made on the CPU so that its first weights follow from the seed alone, filled from files,
/// then moved.
pub(super) fn build<D: Detector + 'static>(
    make: impl FnOnce(Device) -> Result<D>,
    weights: Option<&PathValue>,
    backbone: Option<&PathValue>,
    ctx: &BuildContext<'_>,
) -> Result<Instance> {
    let detector = make(Device::Cpu)?;
    let wanted = ctx.run.initial_weights.get();
    if let Some(path) = weights.and_then(PathValue::path).filter(|_| wanted) {
        let report = load_detector(&detector, path)?;
        tracing::info!("{}: {}: {report}", ctx.node, path.display());
    }
    if let Some(path) = backbone.and_then(PathValue::path).filter(|_| wanted) {
        let tensors = weights::read(path)?.tensors;
        let report = detector.load_backbone(&tensors);
        let report = report.with_context(|| format!("loading {} into the backbone", path.display()))?;
        tracing::info!("{}: {} into the backbone: {report}", ctx.node, path.display());
    }
    detector.store().to(ctx.run.device)?;
    let (trainable, all) = detector.store().parameter_count();
    tracing::info!("{}: {trainable} of {all} parameters are trained", ctx.node);
    Ok(Instance::model(DetectionModel { detector, training: false }))
}

fn load_detector(detector: &impl Detector, path: &Path) -> Result<LoadReport> {
    let tensors = weights::read(path)?.tensors;
    let has = |prefix: &str| tensors.keys().any(|name| name.starts_with(prefix));
    if !has("roi_heads.") && has("layer1.") {
        bail!("{} holds a classifier's weights, not a detector's: give it as `weights_backbone`", path.display());
    }
    detector.load(&tensors, Classes::MayDiffer).with_context(|| format!("loading {}", path.display()))
}

/// A detector as the node of a pipeline.
struct DetectionModel<D> {
    detector: D,
    training: bool,
}

impl<D: Detector> DetectionModel<D> {
    fn targets(batch: &Batch) -> Result<Vec<Target>> {
        let (boxes, labels) = (batch.list(fields::BOXES)?, batch.list(fields::LABELS)?);
        let masks = if D::MASKS { batch.list(fields::MASKS)?.into_iter().map(Some).collect() } else { Vec::new() };
        let masks = masks.into_iter().chain(std::iter::repeat_with(|| None));
        let targets = boxes.into_iter().zip(labels).zip(masks);
        Ok(targets.map(|((boxes, labels), masks)| Target { boxes, labels, masks }).collect())
    }
}

impl<D: Detector> Model for DetectionModel<D> {
    fn set_training(&mut self, training: bool) {
        self.training = training;
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        let images: Vec<Tensor> = batch.list(fields::IMAGE)?.iter().map(to_float).collect();
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        let place = || format!("the batch is {}", batch.sources().join(", "));
        if self.training {
            output.losses = self.detector.train(&images, &Self::targets(batch)?).with_context(place)?;
            return Ok(output);
        }
        let found = self.detector.detect(&images).with_context(place)?.into_iter().map(|found| Detections {
            boxes: found.boxes,
            labels: found.labels,
            scores: found.scores,
            masks: found.masks,
        });
        output.outputs.set(fields::DETECTIONS, BatchField::Detections(found.collect()));
        Ok(output)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        self.detector.store().trainable()
    }
}

impl<D: Detector> Stateful for DetectionModel<D> {
    fn state(&self) -> Result<State> {
        Ok(State { tensors: self.detector.store().state_dict(), ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.detector.load(&state.tensors, Classes::Same)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};
    use tch::{Kind, no_grad};

    use super::*;
    use crate::components::metric::coco_ap::CocoApConfig;
    use crate::registry::Component;
    use crate::run::Shared;
    use crate::testing::{TestRun, stored};

    fn table(kind: &str, more: Value) -> Value {
        let mut table = json!({
            "type": kind, "num_classes": 4, "backbone": "resnet18", "min_size": 64, "max_size": 64,
            "returned_layers": [3, 4], "anchor_sizes": [[16], [32], [64]], "box_representation_size": 32,
            "rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 5,
        });
        if kind == "mask_rcnn" {
            table["mask_layers"] = json!([8]);
            table["mask_hidden"] = json!(8);
        }
        table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        table
    }

    fn model(table: Value) -> Result<Shared<dyn Model>> {
        tch::manual_seed(1);
        match TestRun::new().try_build("model.net", table)? {
            Instance::Model(model) => Ok(model),
            _ => panic!("no model"),
        }
    }

    fn batch() -> Batch {
        let mut batch = Batch::new(2);
        let image = |side| Tensor::full([3, side, 64], 100, (Kind::Uint8, Device::Cpu));
        batch.set(fields::IMAGE, BatchField::List(vec![image(64), image(48)]));
        let boxes = Tensor::from_slice2(&[[4f32, 4.0, 30.0, 30.0]]);
        let masks = Tensor::zeros([1, 64, 64], (Kind::Uint8, Device::Cpu));
        let _ = masks.narrow(1, 4, 26).narrow(2, 4, 26).fill_(1);
        let empty = Tensor::zeros([0, 4], (Kind::Float, Device::Cpu));
        let no_masks = Tensor::zeros([0, 48, 64], (Kind::Uint8, Device::Cpu));
        batch.set(fields::BOXES, BatchField::List(vec![boxes, empty]));
        let labels = vec![Tensor::from_slice(&[2i64]), Tensor::zeros([0], (Kind::Int64, Device::Cpu))];
        batch.set(fields::LABELS, BatchField::List(labels));
        batch.set(fields::MASKS, BatchField::List(vec![masks, no_masks]));
        batch
    }

    #[test]
    fn training_gives_losses_and_evaluation_detections() {
        for (kind, losses) in [("faster_rcnn", 4), ("mask_rcnn", 5)] {
            let model = model(table(kind, json!({}))).unwrap();
            model.borrow_mut().set_training(true);
            let output = model.borrow_mut().forward(&batch()).unwrap();
            assert_eq!(output.losses.len(), losses, "{kind}");
            assert!(output.losses.values().all(|loss| f64::try_from(loss).unwrap().is_finite()));
            model.borrow_mut().set_training(false);
            let output = no_grad(|| model.borrow_mut().forward(&batch())).unwrap();
            let Some(BatchField::Detections(found)) = output.outputs.get(fields::DETECTIONS) else { panic!("{kind}") };
            assert_eq!(found.len(), 2);
            let masks = found[1].masks.as_ref().map(|masks| masks.size()[1..].to_vec());
            assert_eq!(masks, (kind == "mask_rcnn").then(|| vec![1, 48, 64]));
        }
    }

    #[test]
    fn ground_truth_that_is_missing_is_named() {
        let model = model(table("mask_rcnn", json!({}))).unwrap();
        model.borrow_mut().set_training(true);
        let mut without = batch();
        without.set(fields::MASKS, BatchField::Text(vec!["a".into(), "b".into()]));
        let error = format!("{:#}", model.borrow_mut().forward(&without).unwrap_err());
        assert!(error.contains("`masks`"), "{error}");
    }

    #[test]
    fn weights_of_other_classes_leave_only_the_predictors_anew() {
        let first = model(table("mask_rcnn", json!({}))).unwrap();
        let state = stored(&first.borrow().state().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("weights.safetensors");
        weights::write(&file, &state.tensors, &BTreeMap::new()).unwrap();
        let other = table("mask_rcnn", json!({ "num_classes": 7, "weights": file, "norm": "batch" }));
        let second = model(other).unwrap().borrow().state().unwrap();
        let name = "backbone.body.layer4.0.conv1.weight";
        assert_eq!(second.tensors[name], state.tensors[name]);
        assert_eq!(second.tensors["roi_heads.box_predictor.cls_score.weight"].size(), [7, 32]);

        let backbone = second.tensors.iter().filter_map(|(name, tensor)| {
            Some((name.strip_prefix("backbone.body.")?.to_owned(), tensor.shallow_clone()))
        });
        weights::write(&file, &backbone.collect(), &BTreeMap::new()).unwrap();
        let loaded = model(table("mask_rcnn", json!({ "weights_backbone": file, "norm": "batch" }))).unwrap();
        assert_eq!(loaded.borrow().state().unwrap().tensors[name], state.tensors[name]);
        let error = model(table("mask_rcnn", json!({ "weights": file }))).err().unwrap();
        assert!(format!("{error:#}").contains("`weights_backbone`"), "{error:#}");
    }

    #[test]
    fn a_state_goes_back_into_the_model() {
        let (first, second) = (model(table("faster_rcnn", json!({}))), model(table("faster_rcnn", json!({}))));
        let (first, second) = (first.unwrap(), second.unwrap());
        let mut state = stored(&first.borrow().state().unwrap());
        state.tensors.values_mut().for_each(|tensor| *tensor = tensor.ones_like());
        second.borrow_mut().load_state(&state).unwrap();
        let name = "rpn.head.bbox_pred.weight";
        assert_eq!(second.borrow().state().unwrap().tensors[name], state.tensors[name]);
        state.tensors.shift_remove(name);
        let error = format!("{:#}", first.borrow_mut().load_state(&state).unwrap_err());
        assert!(error.contains("rpn.head.bbox_pred"), "{error}");
    }

    #[test]
    fn options_are_torchvisions_and_mistakes_are_found() {
        let error = |more| model(table("mask_rcnn", more)).err().unwrap().to_string();
        assert!(error(json!({ "anchor_sizes": [[16], [32]] })).contains("anchors for 2 levels"));
        assert!(error(json!({ "anchor_sizes": [[16], [32], [64, 128]] })).contains("as many sides"));
        assert!(error(json!({ "rpn_bg_iou_thresh": 0.9 })).contains("background would begin above"));
        assert!(error(json!({ "backbone": "vgg" })).contains("vgg"));
        assert!(error(json!({ "weights": "a", "weights_backbone": "b" })).contains("would overwrite"));
        assert_eq!(contract(true).adds.len(), 2);
        // What the metric needs of a model is what the model says it adds.
        let metric: CocoApConfig =
            serde_json::from_value(json!({ "dataset": "dataset.a", "iou_types": ["segm"] })).unwrap();
        assert!(contract(true).adds.is_subset(&metric.contract().needs));
    }
}
