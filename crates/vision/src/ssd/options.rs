//! The settings of an SSD.

use crate::dense::Filter;
use crate::resnet::ResNetKind;
use crate::transform::TransformOptions;

/// The network that an SSD stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SsdNetwork {
    /// As in the paper.
    Vgg16,
    /// A residual network up to its third layer, which does not stride.
    ResNet(ResNetKind),
    /// MobileNetV3, with the heads of SSDlite: Sandler et al., "MobileNetV2" (2018), section 6.2.
    MobileNetV3Large {
        /// Whether the last layers have half as many channels: Howard et al., "Searching for MobileNetV3" (2019), section 6.3.
        reduced_tail: bool,
    },
}

/// The settings of a [`super::Ssd`], with torchvision's names.
#[derive(Debug, Clone, PartialEq)]
pub struct SsdOptions {
    /// Classes including the background, which is class 0.
    pub num_classes: i64,
    /// The network.
    pub network: SsdNetwork,
    /// Images are resized to squares of this side, in pixels.
    pub size: i64,
    /// Mean of each channel; pixels are in 0 to 1.
    pub image_mean: [f64; 3],
    /// Standard deviation of each channel.
    pub image_std: [f64; 3],
    /// Stages of the network that are trained, counted from the last.
    pub trainable_layers: usize,
    /// For each feature map the width / height of its boxes beside 1; each also stands for its inverse.
    pub aspect_ratios: Vec<Vec<f64>>,
    /// The size of each feature map's boxes, and one more, as a part of the image's.
    pub scales: Vec<f64>,
    /// The distance of each feature map's boxes, in pixels; that of its places where not given.
    pub steps: Option<Vec<f64>>,
    /// Overlap from which a default box is foreground.
    pub iou_thresh: f64,
    /// The share of foreground in the loss.
    pub positive_fraction: f64,
    /// Which detections stay.
    pub filter: Filter,
}

impl SsdOptions {
    /// As `ssd300_vgg16`, of any size and network; for 512 the default boxes are those that the paper's authors have for COCO.
    pub fn new(num_classes: i64, network: SsdNetwork, size: i64) -> Self {
        let (scales, steps) = match size {
            300 => (vec![0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05], Some(vec![8.0, 16.0, 32.0, 64.0, 100.0, 300.0])),
            512 => {
                let scales = vec![0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06];
                (scales, Some(vec![8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]))
            }
            _ => (spread(0.15, 0.9, sides(size).len()), None),
        };
        let maps = scales.len() - 1;
        let ratios = |map| if map == 0 || map + 2 >= maps { vec![2.0] } else { vec![2.0, 3.0] };
        let transform = TransformOptions::default();
        // torchvision's VGG was trained on other numbers: those of Caffe.
        let vgg = network == SsdNetwork::Vgg16;
        Self {
            num_classes,
            network,
            size,
            image_mean: if vgg { [0.48235, 0.45882, 0.40784] } else { transform.image_mean },
            image_std: if vgg { [1.0 / 255.0; 3] } else { transform.image_std },
            trainable_layers: 5,
            aspect_ratios: (0..maps).map(ratios).collect(),
            scales,
            steps,
            iou_thresh: 0.5,
            positive_fraction: 0.25,
            filter: Filter { score_thresh: 0.01, nms_thresh: 0.45, detections_per_img: 200, topk_candidates: 400 },
        }
    }

    /// As `ssdlite320_mobilenet_v3_large`.
    pub fn lite(num_classes: i64, reduced_tail: bool) -> Self {
        Self {
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
            trainable_layers: 6,
            aspect_ratios: vec![vec![2.0, 3.0]; 6],
            scales: spread(0.2, 0.95, 6),
            steps: None,
            filter: Filter { score_thresh: 0.001, nms_thresh: 0.55, detections_per_img: 300, topk_candidates: 300 },
            ..Self::new(num_classes, SsdNetwork::MobileNetV3Large { reduced_tail }, 320)
        }
    }

    /// How images become a batch.
    pub(super) fn transform(&self) -> TransformOptions {
        TransformOptions {
            min_size: vec![self.size],
            max_size: self.size,
            fixed_size: Some((self.size, self.size)),
            size_divisible: 1,
            image_mean: self.image_mean,
            image_std: self.image_std,
            ..TransformOptions::default()
        }
    }
}

/// The scales of `maps` feature maps, evenly from the first to the last, and 1.
pub(super) fn spread(first: f64, last: f64, maps: usize) -> Vec<f64> {
    let steps = maps.saturating_sub(1).max(1) as f64;
    (0..maps).map(|map| first + (last - first) * map as f64 / steps).chain([1.0]).collect()
}

/// The sides of the feature maps of a residual network, for images of this side: from an eighth down to 1.
pub(super) fn sides(size: i64) -> Vec<i64> {
    let mut sides = vec![(size + 7) / 8];
    while let Some(side) = sides.last().copied().filter(|side| *side > 1) {
        sides.push(if is_cropped(side) { side - 2 } else { (side + 1) / 2 });
    }
    sides
}

/// Whether the map above one of this side has its border cut off, as the last of SSD300, and is not half as large.
pub(super) fn is_cropped(side: i64) -> bool {
    matches!(side, 3 | 5)
}
