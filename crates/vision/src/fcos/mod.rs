//! FCOS: Tian et al., "FCOS: A Simple and Strong Anchor-free Object Detector" (2020). torchvision's `fcos_resnet50_fpn`.

mod coder;
mod head;
mod places;

use anyhow::{Context, Result, ensure};
use tch::{Device, Kind, Reduction, Tensor};

use self::head::{ClassificationHead, RegressionHead};
use self::places::Places;
use crate::backbone::BackboneWithFpn;
use crate::boxes::at_least_float;
use crate::checkpoint;
use crate::dense::{Assignment, DenseOutputs, Filter};
use crate::detector::{Detector, Features, Losses};
use crate::fpn::{self, LastLevels};
use crate::losses::{generalized_iou, sigmoid_focal};
use crate::nn::{LoadReport, ParameterStore, StateDict};
use crate::options::BackboneOptions;
use crate::transform::{ImageBatch, Transform, TransformOptions};
use crate::types::{Detections, Target};
use crate::{divisors, terms};

/// The settings of an [`Fcos`], with torchvision's names.
#[derive(Debug, Clone, PartialEq)]
pub struct FcosOptions {
    /// Classes including the background, which is class 0.
    pub num_classes: i64,
    /// The network and its pyramid.
    pub backbone: BackboneOptions,
    /// How images become a batch.
    pub transform: TransformOptions,
    /// How far from an object's centre a place learns of it, in strides of its map.
    pub center_sampling_radius: f64,
    /// Which detections stay.
    pub filter: Filter,
}

impl FcosOptions {
    /// As `fcos_resnet50_fpn`.
    pub fn new(num_classes: i64, backbone: BackboneOptions) -> Self {
        Self {
            num_classes,
            backbone: BackboneOptions { returned_layers: vec![2, 3, 4], last_levels: LastLevels::P6P7, ..backbone },
            transform: TransformOptions::default(),
            center_sampling_radius: 1.5,
            filter: Filter { score_thresh: 0.2, nms_thresh: 0.6, detections_per_img: 100, topk_candidates: 1000 },
        }
    }
}

/// Classes and boxes of the places of a feature pyramid, without anchors of several shapes.
#[derive(Debug)]
pub struct Fcos {
    store: ParameterStore,
    transform: Transform,
    backbone: BackboneWithFpn,
    classes: ClassificationHead,
    boxes: RegressionHead,
    places: Places,
    filter: Filter,
    num_classes: i64,
}

impl Fcos {
    /// A model with fresh weights on `device`: after `tch::manual_seed`, torchvision's after `torch.manual_seed`.
    ///
    /// # Errors
    /// An option is out of its range, or the device is absent or out of memory.
    pub fn new(options: &FcosOptions, device: Device) -> Result<Self> {
        let o = options;
        ensure!(
            o.num_classes >= 2,
            "num_classes includes the background: it must be at least 2, not {}",
            o.num_classes
        );
        let transform = Transform::new(&o.transform)?;
        let store = ParameterStore::new();
        let backbone = BackboneWithFpn::new(&store.root().sub("backbone"), &o.backbone)?;
        let head = store.root().sub("head");
        let classes =
            ClassificationHead::new(&head.sub("classification_head"), o.backbone.out_channels, o.num_classes)?;
        let boxes = RegressionHead::new(&head.sub("regression_head"), o.backbone.out_channels)?;
        store.order_by(&BackboneWithFpn::ORDER);
        store.to(device)?;
        let places = Places::new(&o.backbone.strides(), o.center_sampling_radius)?;
        Ok(Self { store, transform, backbone, classes, boxes, places, filter: o.filter, num_classes: o.num_classes })
    }

    /// The losses of classes, boxes and centerness; all by the foreground of the batch.
    fn each_loss(&self, outputs: &DenseOutputs, assigned: &Assignment, squares: &Tensor) -> Result<[Tensor; 3]> {
        let classes = sigmoid_focal(&at_least_float(&outputs.logits)?, &assigned.one_hot(self.num_classes)?)?;
        let squares = assigned.anchors(squares)?;
        let offsets = at_least_float(&assigned.of_foreground(&outputs.offsets)?)?;
        let boxes = generalized_iou(&coder::decode(&offsets, &squares)?, &assigned.boxes)?;
        let centerness = outputs.centerness.as_ref().context("these outputs have no centerness")?;
        let logits = at_least_float(&assigned.of_foreground(centerness)?)?;
        let wanted = coder::centerness(&assigned.boxes, &squares)?;
        let centerness = logits.f_binary_cross_entropy_with_logits::<Tensor>(&wanted, None, None, Reduction::Sum)?;
        divisors::tell_count(&["classification", "bbox_regression", "bbox_ctrness"], assigned.count())?;
        let count = assigned.count().max(1) as f64;
        terms::tell("classification", || {
            let each = classes.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Float)?;
            Ok((each.f_flatten(0, 1)? / count, assigned.places()?))
        })?;
        terms::tell("bbox_regression", || Ok((&boxes / count, assigned.places_of_foreground()?)))?;
        terms::tell("bbox_ctrness", || {
            let each = logits.f_binary_cross_entropy_with_logits::<Tensor>(&wanted, None, None, Reduction::None)?;
            Ok((each / count, assigned.places_of_foreground()?))
        })?;
        Ok([classes.f_sum(Kind::Float)?, boxes.f_sum(Kind::Float)?, centerness].map(|loss| loss / count))
    }
}

impl Detector for Fcos {
    fn store(&self) -> &ParameterStore {
        &self.store
    }

    fn transform(&self) -> &Transform {
        &self.transform
    }

    fn num_classes(&self) -> i64 {
        self.num_classes
    }

    fn features(&self, batch: &ImageBatch, train: bool) -> Result<Features> {
        let maps = self.backbone.forward(&batch.tensors, train)?;
        let (logits, per_level) = self.classes.forward(&maps)?;
        let (offsets, centerness) = self.boxes.forward(&maps)?;
        Ok(Features {
            maps,
            outputs: Some(DenseOutputs { logits, offsets, centerness: Some(centerness), per_level }),
            ..Features::default()
        })
    }

    /// `classification`, `bbox_regression`, `bbox_ctrness`.
    fn losses(&self, batch: &ImageBatch, features: &Features, targets: &[Target]) -> Result<Losses> {
        let outputs = features.dense()?;
        let squares = self.places.squares(batch, &features.maps)?;
        let ranges = self.places.ranges(&squares, &outputs.per_level)?;
        let assigned = Assignment::new(targets, &squares, |boxes| self.places.matches(boxes, &squares, &ranges))?;
        let losses = self.each_loss(outputs, &assigned, &squares)?;
        Ok(["classification", "bbox_regression", "bbox_ctrness"].into_iter().zip(losses).collect())
    }

    /// A score is the geometric mean of class and centerness.
    fn detections(&self, batch: &ImageBatch, features: &Features) -> Result<Vec<Detections>> {
        let outputs = features.dense()?;
        let squares = self.places.squares(batch, &features.maps)?;
        let mut scores = at_least_float(&outputs.logits)?.f_sigmoid()?;
        if let Some(centerness) = &outputs.centerness {
            scores = scores.f_mul(&at_least_float(centerness)?.f_sigmoid()?.f_unsqueeze(2)?)?.f_sqrt_()?;
        }
        let best = self.filter.best_of_levels(&scores, &outputs.per_level)?;
        let offsets = outputs.offsets.f_flatten(0, 1)?;
        self.filter.detections(&best, squares.size()[0], &batch.sizes, |rows, square| {
            let offsets = at_least_float(&offsets.f_index_select(0, rows)?)?;
            coder::decode(&offsets, &squares.f_index_select(0, square)?)
        })
    }

    fn predictors(&self) -> &'static [&'static str] {
        &["head.classification_head.cls_logits."]
    }

    fn modern_name(&self, name: &str) -> String {
        fpn::modern_name(name)
    }

    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        checkpoint::load_backbone(&self.store, state)
    }
}
