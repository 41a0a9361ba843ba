//! The settings of a RetinaNet.

use crate::dense::Filter;
use crate::fpn::LastLevels;
use crate::nn::NormKind;
use crate::options::BackboneOptions;
use crate::transform::TransformOptions;

/// How far a box is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BoxLoss {
    /// The absolute difference of the offsets.
    L1,
    /// One less the generalized overlap of the boxes.
    Giou,
}

/// The settings of a [`super::RetinaNet`], with torchvision's names. Sizes in pixels, overlaps (IoU) and scores from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct RetinaNetOptions {
    /// Classes including the background, which is class 0.
    pub num_classes: i64,
    /// The network and its pyramid.
    pub backbone: BackboneOptions,
    /// How images become a batch.
    pub transform: TransformOptions,
    /// For each level of the pyramid: sides of the anchors.
    pub anchor_sizes: Vec<Vec<f64>>,
    /// For each level: height / width.
    pub aspect_ratios: Vec<Vec<f64>>,
    /// Normalisation of the heads' convolutions.
    pub head_norm: Option<NormKind>,
    /// The loss of the boxes.
    pub box_loss: BoxLoss,
    /// Overlap from which an anchor is foreground.
    pub fg_iou_thresh: f64,
    /// Overlap below which it is background.
    pub bg_iou_thresh: f64,
    /// Which detections stay.
    pub filter: Filter,
}

impl RetinaNetOptions {
    /// As `retinanet_resnet50_fpn`. The pyramid begins at layer 2, as `P2` has too many anchors.
    pub fn v1(num_classes: i64, backbone: BackboneOptions) -> Self {
        // In whole pixels, as in torchvision.
        let sizes =
            |side: f64| vec![side, (side * 2f64.powf(1.0 / 3.0)).floor(), (side * 2f64.powf(2.0 / 3.0)).floor()];
        Self {
            num_classes,
            backbone: BackboneOptions { returned_layers: vec![2, 3, 4], last_levels: LastLevels::P6P7, ..backbone },
            transform: TransformOptions::default(),
            anchor_sizes: [32.0, 64.0, 128.0, 256.0, 512.0].map(sizes).to_vec(),
            aspect_ratios: vec![vec![0.5, 1.0, 2.0]; 5],
            head_norm: None,
            box_loss: BoxLoss::L1,
            fg_iou_thresh: 0.5,
            bg_iou_thresh: 0.4,
            filter: Filter { score_thresh: 0.05, nms_thresh: 0.5, detections_per_img: 300, topk_candidates: 1000 },
        }
    }

    /// As `retinanet_resnet50_fpn_v2`: batch norms in the network, group norms in the heads, GIoU.
    pub fn v2(num_classes: i64, backbone: BackboneOptions) -> Self {
        let v1 = Self::v1(num_classes, BackboneOptions { norm: NormKind::Batch, ..backbone });
        Self {
            backbone: BackboneOptions { last_levels: LastLevels::P6P7OfBody, ..v1.backbone },
            head_norm: Some(NormKind::Group { groups: 32 }),
            box_loss: BoxLoss::Giou,
            ..v1
        }
    }
}
