//! Detectors with a feature pyramid: torchvision's `GeneralizedRCNN`. `fasterrcnn_resnet50_fpn` and `_v2`, and with masks
//! `maskrcnn_resnet50_fpn` and `_v2`, with keypoints `keypointrcnn_resnet50_fpn`;
//! and `fasterrcnn_mobilenet_v3_large_fpn`.

pub mod box_head;
pub mod keypoint_branch;
pub mod keypoint_head;
pub mod mask_branch;
pub mod mask_head;
pub mod options;
pub mod pooler;
pub mod proposals;
pub mod roi_heads;
pub mod rpn;
pub mod samples;

use anyhow::{Result, ensure};
use tch::Device;

use self::box_head::{BoxHead, BoxPredictor};
use self::keypoint_branch::KeypointBranch;
use self::keypoint_head::{KeypointHead, KeypointPredictor};
use self::mask_branch::MaskBranch;
use self::mask_head::{MaskHead, MaskPredictor};
use self::options::{BoxHeadOptions, KeypointOptions, MaskOptions, RcnnOptions};
use self::pooler::MultiScaleRoiAlign;
use self::roi_heads::RoiHeads;
use self::rpn::RegionProposals;
use crate::backbone::BackboneWithFpn;
use crate::detector::{Detector, Features, Losses};
use crate::nn::{LoadReport, ParameterStore, Scope, StateDict};
use crate::transform::{ImageBatch, Transform};
use crate::types::{Detections, Target};
use crate::{checkpoint, fpn};

/// torchvision's order of a detector's parts; they are made in another.
const ORDER: [&str; 9] = [
    "backbone.body.",
    "backbone.fpn.",
    "rpn.",
    "roi_heads.box_head.",
    "roi_heads.box_predictor.",
    "roi_heads.mask_head.",
    "roi_heads.mask_predictor.",
    "roi_heads.keypoint_head.",
    "roi_heads.keypoint_predictor.",
];

/// Finds boxes and, where its options say so, the masks and keypoints within them.
#[derive(Debug)]
pub struct GeneralizedRcnn {
    store: ParameterStore,
    options: RcnnOptions,
    transform: Transform,
    backbone: BackboneWithFpn,
    rpn: RegionProposals,
    heads: RoiHeads,
}

impl GeneralizedRcnn {
    /// A model with fresh weights on `device`: after `tch::manual_seed`, torchvision's after `torch.manual_seed`.
    ///
    /// # Errors
    /// An option is out of its range, or the device is absent or out of memory.
    pub fn new(options: RcnnOptions, device: Device) -> Result<Self> {
        ensure!(
            options.num_classes >= 2,
            "num_classes includes the background: it must be at least 2, not {}",
            options.num_classes
        );
        let transform = Transform::new(&options.transform)?;
        let store = ParameterStore::new();
        let root = store.root();
        let backbone = BackboneWithFpn::new(&root.sub("backbone"), &options.backbone)?;
        let scope = root.sub("roi_heads");
        // torchvision's V2 makes RPN and box head before the masks' parts, V1 after; the box predictor is always last.
        let v2 = matches!(options.box_head, BoxHeadOptions::ConvFc { .. });
        let early = v2.then(|| rpn_and_head(&root, &options)).transpose()?;
        let (channels, classes) = (options.backbone.out_channels, options.num_classes);
        let mask = options.masks.as_ref().map(|masks| mask_branch(&scope, channels, masks, classes)).transpose()?;
        let keypoints = options.keypoints.as_ref();
        let keypoints = keypoints.map(|keypoints| keypoint_branch(&scope, channels, keypoints)).transpose()?;
        let (rpn, head) = match early {
            Some(made) => made,
            None => rpn_and_head(&root, &options)?,
        };
        let predictor = BoxPredictor::new(&scope.sub("box_predictor"), head.outputs(), options.num_classes)?;
        store.order_by(&ORDER);
        store.to(device)?;
        options.backbone.check_anchors(rpn.levels())?;
        let heads = RoiHeads::new(head, predictor, (mask, keypoints), &options);
        Ok(Self { store, options, transform, backbone, rpn, heads })
    }
}

impl Detector for GeneralizedRcnn {
    fn store(&self) -> &ParameterStore {
        &self.store
    }

    fn transform(&self) -> &Transform {
        &self.transform
    }

    fn num_classes(&self) -> i64 {
        self.options.num_classes
    }

    fn has_masks(&self) -> bool {
        self.options.masks.is_some()
    }

    fn keypoints(&self) -> Option<i64> {
        self.options.keypoints.as_ref().map(|keypoints| keypoints.count)
    }

    fn pastes_masks(&self) -> bool {
        self.options.masks.as_ref().is_some_and(|masks| masks.paste)
    }

    fn features(&self, batch: &ImageBatch, train: bool) -> Result<Features> {
        let maps = self.backbone.forward(&batch.tensors, train)?;
        let anchors = Some(self.rpn.outputs(&maps)?);
        Ok(Features { maps, outputs: None, anchors, train })
    }

    /// `loss_classifier`, `loss_box_reg`, `loss_mask` (with masks), `loss_keypoint` (with keypoints), `loss_objectness`, `loss_rpn_box_reg`.
    fn losses(&self, batch: &ImageBatch, features: &Features, targets: &[Target]) -> Result<Losses> {
        let maps = &features.maps;
        let (proposals, [objectness, rpn_box_reg]) = self.rpn.train(batch, features, targets)?;
        let maps = pooler::as_pooled(&maps[..maps.len() - 1])?;
        let mut losses = self.heads.train((&maps, features.train), &proposals, &batch.sizes, targets)?;
        losses.extend([("loss_objectness", objectness), ("loss_rpn_box_reg", rpn_box_reg)]);
        Ok(losses)
    }

    fn detections(&self, batch: &ImageBatch, features: &Features) -> Result<Vec<Detections>> {
        let maps = &features.maps;
        let proposals = self.rpn.propose(batch, features)?;
        self.heads.detect(&pooler::as_pooled(&maps[..maps.len() - 1])?, &proposals, &batch.sizes)
    }

    fn predictors(&self) -> &'static [&'static str] {
        &["roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.", "roi_heads.keypoint_predictor."]
    }

    fn modern_name(&self, name: &str) -> String {
        modern_name(name)
    }

    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        checkpoint::load_backbone(&self.store, state)
    }

    /// The heads, too, get as much foreground as there can be.
    fn take_largest(&self, on: bool) {
        self.transform.take_largest(on);
        self.heads.take_largest(on);
    }
}

/// torchvision renamed layers of the pyramid, the RPN and the mask head in 0.13; its `COCO_V1` files still have the old names.
fn modern_name(name: &str) -> String {
    let renamed = || {
        if let Some(leaf) = name.strip_prefix("rpn.head.conv.").filter(|leaf| !leaf.contains('.')) {
            return Some(format!("rpn.head.conv.0.0.{leaf}"));
        }
        let (number, leaf) = name.strip_prefix("roi_heads.mask_head.mask_fcn")?.split_once('.')?;
        let number: usize = number.parse().ok()?;
        Some(format!("roi_heads.mask_head.{}.0.{leaf}", number.checked_sub(1)?))
    };
    renamed().unwrap_or_else(|| fpn::modern_name(name))
}

fn rpn_and_head(root: &Scope, options: &RcnnOptions) -> Result<(RegionProposals, BoxHead)> {
    let rpn = RegionProposals::new(&root.sub("rpn"), options.backbone.out_channels, options)?;
    Ok((rpn, RoiHeads::box_head(&root.sub("roi_heads"), options)?))
}

fn mask_branch(scope: &Scope, channels: i64, options: &MaskOptions, num_classes: i64) -> Result<MaskBranch> {
    let head = MaskHead::new(&scope.sub("mask_head"), channels, options)?;
    let predictor = MaskPredictor::new(&scope.sub("mask_predictor"), head.outputs(), options.hidden, num_classes)?;
    let pooler = MultiScaleRoiAlign { output_size: options.pool_size, sampling_ratio: options.sampling_ratio };
    Ok(MaskBranch { pooler, head, predictor })
}

fn keypoint_branch(scope: &Scope, channels: i64, options: &KeypointOptions) -> Result<KeypointBranch> {
    let head = KeypointHead::new(&scope.sub("keypoint_head"), channels, options)?;
    let predictor = KeypointPredictor::new(&scope.sub("keypoint_predictor"), head.outputs(), options.count)?;
    let pooler = MultiScaleRoiAlign { output_size: options.pool_size, sampling_ratio: options.sampling_ratio };
    Ok(KeypointBranch { pooler, head, predictor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_names_become_todays() {
        for (old, new) in [
            ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"),
            ("roi_heads.mask_head.mask_fcn4.bias", "roi_heads.mask_head.3.0.bias"),
            ("backbone.fpn.inner_blocks.2.weight", "backbone.fpn.inner_blocks.2.0.weight"),
            ("backbone.fpn.layer_blocks.0.bias", "backbone.fpn.layer_blocks.0.0.bias"),
        ] {
            assert_eq!(modern_name(old), new);
            assert_eq!(modern_name(new), new);
        }
        for same in ["backbone.body.layer1.0.bn1.weight", "backbone.fpn.extra_blocks.p6.weight"] {
            assert_eq!(modern_name(same), same);
        }
    }
}
