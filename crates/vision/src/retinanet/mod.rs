//! RetinaNet: Lin et al., "Focal Loss for Dense Object Detection" (2017). torchvision's `retinanet_resnet50_fpn` and `_v2`.

mod head;
mod options;

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use self::head::{ClassificationHead, RegressionHead};
pub use self::options::{BoxLoss, RetinaNetOptions};
use crate::anchors::AnchorGenerator;
use crate::backbone::BackboneWithFpn;
use crate::boxes::at_least_float;
use crate::coder::BoxCoder;
use crate::dense::{Assignment, DenseOutputs, Filter};
use crate::detector::{Detector, Features, Losses};
use crate::losses::{generalized_iou, sigmoid_focal};
use crate::matcher::{BETWEEN, Matcher};
use crate::nn::{LoadReport, ParameterStore, StateDict};
use crate::terms;
use crate::transform::{ImageBatch, Transform};
use crate::types::{Detections, Target};
use crate::{checkpoint, fpn};

/// Classes and boxes of the anchors of a feature pyramid, in one step.
#[derive(Debug)]
pub struct RetinaNet {
    store: ParameterStore,
    transform: Transform,
    backbone: BackboneWithFpn,
    classes: ClassificationHead,
    boxes: RegressionHead,
    anchors: AnchorGenerator,
    matcher: Matcher,
    coder: BoxCoder,
    filter: Filter,
    box_loss: BoxLoss,
    num_classes: i64,
}

impl RetinaNet {
    /// A model with fresh weights on `device`: after `tch::manual_seed`, torchvision's after `torch.manual_seed`.
    ///
    /// # Errors
    /// An option is out of its range, or the device is absent or out of memory.
    pub fn new(options: &RetinaNetOptions, device: Device) -> Result<Self> {
        let o = options;
        ensure!(
            o.num_classes >= 2,
            "num_classes includes the background: it must be at least 2, not {}",
            o.num_classes
        );
        let transform = Transform::new(&o.transform)?;
        let anchors = AnchorGenerator::new(&o.anchor_sizes, &o.aspect_ratios)?;
        o.backbone.check_anchors(anchors.levels())?;
        let store = ParameterStore::new();
        let backbone = BackboneWithFpn::new(&store.root().sub("backbone"), &o.backbone)?;
        let head = store.root().sub("head");
        let per_place = anchors.per_place();
        let classes = ClassificationHead::new(
            &head.sub("classification_head"),
            o.backbone.out_channels,
            per_place,
            o.num_classes,
            o.head_norm,
        )?;
        let boxes = RegressionHead::new(&head.sub("regression_head"), o.backbone.out_channels, per_place, o.head_norm)?;
        store.order_by(&BackboneWithFpn::ORDER);
        store.to(device)?;
        Ok(Self {
            store,
            transform,
            backbone,
            classes,
            boxes,
            anchors,
            matcher: Matcher { high: o.fg_iou_thresh, low: o.bg_iou_thresh, allow_low_quality: true },
            coder: BoxCoder::new([1.0; 4]),
            filter: o.filter,
            box_loss: o.box_loss,
            num_classes: o.num_classes,
        })
    }

    fn anchors(&self, batch: &ImageBatch, maps: &[Tensor]) -> Result<Tensor> {
        let (_, _, height, width) = batch.tensors.size4()?;
        self.anchors.anchors((height, width), maps)
    }

    /// The focal loss of all anchors but those between fore- and background, by each image's foreground.
    fn classification(&self, outputs: &DenseOutputs, assigned: &Assignment) -> Result<Tensor> {
        let loss = sigmoid_focal(&at_least_float(&outputs.logits)?, &assigned.one_hot(self.num_classes)?)?;
        let valid = assigned.matches.f_ne(BETWEEN)?;
        let of_anchors = loss.f_sum_dim_intlist([2i64].as_slice(), false, Kind::Float)?.f_mul(&valid)?;
        let of_images = of_anchors.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
        let shares = assigned.shares()?;
        terms::tell("classification", || {
            let each = of_anchors.f_mul(&shares.f_unsqueeze(1)?)? / shares.size()[0] as f64;
            Ok((each.f_flatten(0, 1)?, assigned.places()?))
        })?;
        Ok((of_images * shares).f_mean(Kind::Float)?)
    }

    /// How far the boxes of the foreground are off, by each image's foreground.
    fn box_regression(&self, outputs: &DenseOutputs, assigned: &Assignment, anchors: &Tensor) -> Result<Tensor> {
        let offsets = at_least_float(&assigned.of_foreground(&outputs.offsets)?)?;
        let anchors = assigned.anchors(anchors)?;
        let loss = match self.box_loss {
            BoxLoss::L1 => {
                let wanted = self.coder.encode(&assigned.boxes, &anchors)?;
                (offsets - wanted).f_abs()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?
            }
            BoxLoss::Giou => {
                generalized_iou(&self.coder.decode(&offsets, &anchors)?.f_view([-1, 4])?, &assigned.boxes)?
            }
        };
        let images = assigned.matches.size()[0] as f64;
        let loss = loss * assigned.of_image(&assigned.shares()?)?;
        terms::tell("bbox_regression", || Ok((&loss / images, assigned.places_of_foreground()?)))?;
        Ok(loss.f_sum(Kind::Float)? / images)
    }
}

impl Detector for RetinaNet {
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
        let (logits, per_level) = self.classes.forward(&maps, train)?;
        let outputs = DenseOutputs { logits, offsets: self.boxes.forward(&maps, train)?, centerness: None, per_level };
        Ok(Features { maps, outputs: Some(outputs), ..Features::default() })
    }

    /// `classification`, `bbox_regression`.
    fn losses(&self, batch: &ImageBatch, features: &Features, targets: &[Target]) -> Result<Losses> {
        let outputs = features.dense()?;
        let anchors = self.anchors(batch, &features.maps)?;
        let assigned = Assignment::new(targets, &anchors, |boxes| self.matcher.of_boxes(boxes, &anchors))?;
        Ok(vec![
            ("classification", self.classification(outputs, &assigned)?),
            ("bbox_regression", self.box_regression(outputs, &assigned, &anchors)?),
        ])
    }

    fn detections(&self, batch: &ImageBatch, features: &Features) -> Result<Vec<Detections>> {
        let outputs = features.dense()?;
        let anchors = self.anchors(batch, &features.maps)?;
        let scores = at_least_float(&outputs.logits)?.f_sigmoid()?;
        let best = self.filter.best_of_levels(&scores, &outputs.per_level)?;
        let offsets = outputs.offsets.f_flatten(0, 1)?;
        self.filter.detections(&best, anchors.size()[0], &batch.sizes, |rows, anchor| {
            let decoded = self.coder.decode(&offsets.f_index_select(0, rows)?, &anchors.f_index_select(0, anchor)?)?;
            Ok(decoded.f_view([-1, 4])?)
        })
    }

    fn predictors(&self) -> &'static [&'static str] {
        &["head.classification_head.cls_logits."]
    }

    fn modern_name(&self, name: &str) -> String {
        modern_name(name)
    }

    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        checkpoint::load_backbone(&self.store, state)
    }
}

/// torchvision 0.13 put each convolution of the heads into a block with its ReLU; its `COCO_V1` file has the names from before.
fn modern_name(name: &str) -> String {
    let renamed = || {
        let (head, rest) = name.strip_prefix("head.")?.split_once(".conv.")?;
        let (place, leaf) = rest.split_once('.').filter(|(_, leaf)| !leaf.contains('.'))?;
        let place: usize = place.parse().ok()?;
        Some(format!("head.{head}.conv.{}.0.{leaf}", place / 2))
    };
    renamed().unwrap_or_else(|| fpn::modern_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_todays() {
        for (old, new) in [
            ("head.classification_head.conv.6.weight", "head.classification_head.conv.3.0.weight"),
            ("head.regression_head.conv.0.bias", "head.regression_head.conv.0.0.bias"),
            ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
            ("head.regression_head.bbox_reg.bias", "head.regression_head.bbox_reg.bias"),
        ] {
            assert_eq!(modern_name(old), new);
            assert_eq!(modern_name(new), new);
        }
    }
}
