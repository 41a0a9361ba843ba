//! SSD: Liu et al., "SSD: Single Shot MultiBox Detector" (2016). torchvision's `ssd300_vgg16`, the paper's SSD512, both on residual networks
//! too, and `ssdlite320_mobilenet_v3_large`.

mod default_boxes;
mod extractor;
mod further;
mod head;
mod lite;
mod options;
mod resnet;
mod vgg;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Reduction, Tensor};

use self::default_boxes::DefaultBoxes;
use self::extractor::Extractor;
use self::head::ScoringHead;
pub use self::options::{SsdNetwork, SsdOptions};
use crate::boxes::{at_least_float, iou};
use crate::coder::BoxCoder;
use crate::dense::{Assignment, Best, DenseOutputs, Filter};
use crate::detector::{Detector, Features, Losses};
use crate::matcher::Matcher;
use crate::nn::{LoadReport, ParameterStore, StateDict};
use crate::transform::{ImageBatch, Transform};
use crate::types::{Detections, Target};
use crate::{divisors, terms};

/// torchvision's order of the parts; they are made in another.
const ORDER: [&str; 5] =
    ["backbone.scale_weight", "backbone.features.", "backbone.body.", "backbone.extra.0.", "backbone.extra."];
/// The label that PyTorch's cross entropy leaves out by default.
const IGNORED: i64 = -100;

/// Classes and boxes of default boxes on maps of several sizes.
#[derive(Debug)]
pub struct Ssd {
    store: ParameterStore,
    transform: Transform,
    extractor: Box<dyn Extractor>,
    classes: ScoringHead,
    boxes: ScoringHead,
    defaults: DefaultBoxes,
    matcher: Matcher,
    coder: BoxCoder,
    /// Background in the loss for each foreground.
    negatives: f64,
    filter: Filter,
    num_classes: i64,
}

impl Ssd {
    /// A model with fresh weights on `device`: after `tch::manual_seed`, torchvision's after `torch.manual_seed`, where it has the model.
    ///
    /// # Errors
    /// An option is out of its range, or the device is absent or out of memory.
    pub fn new(options: &SsdOptions, device: Device) -> Result<Self> {
        let o = options;
        ensure!(
            o.num_classes >= 2,
            "num_classes includes the background: it must be at least 2, not {}",
            o.num_classes
        );
        ensure!(o.positive_fraction > 0.0, "positive_fraction must be above 0");
        let transform = Transform::new(&o.transform())?;
        let store = ParameterStore::new();
        let scope = store.root().sub("backbone");
        let extractor: Box<dyn Extractor> = match o.network {
            SsdNetwork::Vgg16 => Box::new(vgg::VggExtractor::new(&scope, o.size, o.trainable_layers)?),
            SsdNetwork::ResNet(kind) => {
                Box::new(resnet::ResNetExtractor::new(&scope, kind, o.size, o.trainable_layers)?)
            }
            SsdNetwork::MobileNetV3Large { reduced_tail } => {
                Box::new(lite::MobileNetExtractor::new(&scope, reduced_tail, o.trainable_layers)?)
            }
        };
        let channels = extractor.channels();
        let defaults = DefaultBoxes::new(&o.aspect_ratios, &o.scales, o.steps.clone())?;
        let per_place = defaults.per_place();
        ensure!(
            per_place.len() == channels.len(),
            "aspect_ratios are given for {} feature maps; the network has {}",
            per_place.len(),
            channels.len()
        );
        let head = store.root().sub("head");
        let lite = matches!(o.network, SsdNetwork::MobileNetV3Large { .. });
        let of = |name: &str, columns| ScoringHead::new(&head.sub(name), &channels, &per_place, columns, lite);
        let (classes, boxes) = (of("classification_head", o.num_classes)?, of("regression_head", 4)?);
        store.order_by(&ORDER);
        store.to(device)?;
        Ok(Self {
            store,
            transform,
            extractor,
            classes,
            boxes,
            defaults,
            matcher: Matcher { high: o.iou_thresh, low: o.iou_thresh, allow_low_quality: false },
            coder: BoxCoder::new([10.0, 10.0, 5.0, 5.0]),
            negatives: (1.0 - o.positive_fraction) / o.positive_fraction,
            filter: o.filter,
            num_classes: o.num_classes,
        })
    }

    /// The default boxes of a batch, `[A, 4]` in its pixels.
    ///
    /// # Errors
    /// The maps are others.
    pub fn default_boxes(&self, batch: &ImageBatch, features: &Features) -> Result<Tensor> {
        let (_, _, height, width) = batch.tensors.size4()?;
        self.defaults.boxes((height, width), &features.maps)
    }

    /// Of boxes `[G, 4]` the one that each default box belongs to, or a negative mark: as [`Matcher`], and every box gets its best default
    /// box, the later one where two share it. i64 `[A]`.
    fn matches(&self, boxes: &Tensor, defaults: &Tensor) -> Result<Tensor> {
        let quality = iou(boxes, defaults)?;
        let matches = self.matcher.matches(&quality)?;
        let (_, best) = quality.f_max_dim(1, false)?;
        let each = Tensor::f_arange(best.size()[0], (Kind::Int64, best.device()))?;
        let own = matches.f_full_like(-1)?.f_internal_scatter_reduce(0, &best, &each, "amax", true)?;
        Ok(matches.f_where_self(&own.f_lt(0)?, &own)?)
    }

    /// The cross entropy of the foreground and of the background that is mistaken most: section 2.2, hard negative mining.
    fn classification(&self, outputs: &DenseOutputs, assigned: &Assignment) -> Result<Tensor> {
        let (images, anchors) = assigned.matches.size2()?;
        let labels = Tensor::f_zeros([images * anchors], (Kind::Int64, assigned.matches.device()))?;
        let labels = labels.f_index_copy(0, &assigned.foreground, &assigned.labels)?;
        let logits = at_least_float(&outputs.logits.f_flatten(0, 1)?)?;
        let loss = logits.f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::None, IGNORED, 0.0)?;
        let loss = loss.f_view([images, anchors])?;
        let foreground = assigned.matches.f_ge(0)?;
        let mistaken = loss.f_detach()?.f_masked_fill(&foreground, f64::NEG_INFINITY)?;
        let rank = mistaken.f_argsort(1, true)?.f_argsort(1, false)?;
        let wanted = foreground.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)? * self.negatives;
        let background = rank.f_lt_tensor(&wanted)?;
        // Both, as in torchvision, where an image has not enough background.
        let weight = foreground.f_to_kind(Kind::Float)?.f_add(&background)?;
        let loss = loss * weight;
        terms::tell("classification", || {
            Ok((loss.f_flatten(0, 1)? / assigned.count().max(1) as f64, assigned.places()?))
        })?;
        Ok(loss.f_sum(Kind::Float)?)
    }

    fn box_regression(&self, outputs: &DenseOutputs, assigned: &Assignment, defaults: &Tensor) -> Result<Tensor> {
        let offsets = at_least_float(&assigned.of_foreground(&outputs.offsets)?)?;
        let wanted = self.coder.encode(&assigned.boxes, &assigned.anchors(defaults)?)?;
        terms::tell("bbox_regression", || {
            let each = offsets.f_smooth_l1_loss(&wanted, Reduction::None, 1.0)?;
            let each = each.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
            Ok((each / assigned.count().max(1) as f64, assigned.places_of_foreground()?))
        })?;
        Ok(offsets.f_smooth_l1_loss(&wanted, Reduction::Sum, 1.0)?)
    }

    /// The best of each class.
    fn best_of_classes(&self, scores: &Tensor) -> Result<Best> {
        let (images, anchors, classes) = scores.size3()?;
        let kept = self.filter.topk_candidates.min(anchors);
        let (scores, anchors) = scores.f_narrow(2, 1, classes - 1)?.f_transpose(1, 2)?.f_topk(kept, 2, true, true)?;
        let labels = Tensor::f_arange_start(1, classes, (Kind::Int64, scores.device()))?.f_view([1, -1, 1])?;
        let labels = labels.f_expand([images, classes - 1, kept], false)?;
        Ok(Best { scores: scores.f_flatten(1, 2)?, anchors: anchors.f_flatten(1, 2)?, labels: labels.f_flatten(1, 2)? })
    }
}

impl Detector for Ssd {
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
        let maps = self.extractor.forward(&batch.tensors, train)?;
        let (offsets, _) = self.boxes.forward(&maps, train)?;
        let (logits, per_level) = self.classes.forward(&maps, train)?;
        Ok(Features {
            maps,
            outputs: Some(DenseOutputs { logits, offsets, centerness: None, per_level }),
            ..Features::default()
        })
    }

    /// `bbox_regression`, `classification`.
    fn losses(&self, batch: &ImageBatch, features: &Features, targets: &[Target]) -> Result<Losses> {
        let outputs = features.dense()?;
        let defaults = self.default_boxes(batch, features)?;
        let assigned = Assignment::new(targets, &defaults, |boxes| self.matches(boxes, &defaults))?;
        divisors::tell_count(&["bbox_regression", "classification"], assigned.count())?;
        let count = assigned.count().max(1) as f64;
        Ok(vec![
            ("bbox_regression", self.box_regression(outputs, &assigned, &defaults)? / count),
            ("classification", self.classification(outputs, &assigned)? / count),
        ])
    }

    fn detections(&self, batch: &ImageBatch, features: &Features) -> Result<Vec<Detections>> {
        let outputs = features.dense()?;
        let defaults = self.default_boxes(batch, features)?;
        let best = self.best_of_classes(&at_least_float(&outputs.logits)?.f_softmax(-1, None)?)?;
        let offsets = outputs.offsets.f_flatten(0, 1)?;
        self.filter.detections(&best, defaults.size()[0], &batch.sizes, |rows, default| {
            let decoded =
                self.coder.decode(&offsets.f_index_select(0, rows)?, &defaults.f_index_select(0, default)?)?;
            Ok(decoded.f_view([-1, 4])?)
        })
    }

    fn predictors(&self) -> &'static [&'static str] {
        &["head.classification_head."]
    }

    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        self.extractor.load(&self.store, state)
    }
}
