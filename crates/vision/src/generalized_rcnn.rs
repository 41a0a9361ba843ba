//! Detectors with a feature pyramid: torchvision's `GeneralizedRCNN`. `fasterrcnn_resnet50_fpn` and `_v2`, and with masks
//! `maskrcnn_resnet50_fpn` and `_v2`.

use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;
use tch::{Device, Kind, Tensor, no_grad};

use super::ImageSize;
use super::backbone::{OUT_CHANNELS, ResNetFpn};
use super::box_head::{BoxHead, BoxPredictor};
use super::checkpoint::{self, Classes};
use super::mask_head::{MaskHead, MaskPredictor};
use super::options::{BoxHeadOptions, MaskOptions, RcnnOptions};
use super::pooler::MultiScaleRoiAlign;
use super::roi_heads::{MaskBranch, RoiHeads};
use super::rpn::RegionProposals;
use super::transform::Transform;
use super::types::{Detections, Target};
use crate::nn::{LoadReport, ParameterStore, Scope, StateDict};

/// torchvision's order of a detector's parts; they are made in another.
const ORDER: [&str; 7] = [
    "backbone.body.",
    "backbone.fpn.",
    "rpn.",
    "roi_heads.box_head.",
    "roi_heads.box_predictor.",
    "roi_heads.mask_head.",
    "roi_heads.mask_predictor.",
];

/// Finds boxes and, where its options say so, the masks within them.
#[derive(Debug)]
pub struct GeneralizedRcnn {
    store: ParameterStore,
    options: RcnnOptions,
    transform: Transform,
    backbone: ResNetFpn,
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
        let transform = Transform::new(&options)?;
        let store = ParameterStore::new();
        let root = store.root();
        let backbone = ResNetFpn::new(&root.sub("backbone"), &options.backbone)?;
        let scope = root.sub("roi_heads");
        // torchvision's V2 makes RPN and box head before the masks' parts, V1 after; the box predictor is always last.
        let v2 = matches!(options.box_head, BoxHeadOptions::ConvFc { .. });
        let early = v2.then(|| rpn_and_head(&root, &options)).transpose()?;
        let mask = options.masks.as_ref().map(|masks| mask_branch(&scope, masks, options.num_classes)).transpose()?;
        let (rpn, head) = match early {
            Some(made) => made,
            None => rpn_and_head(&root, &options)?,
        };
        let predictor = BoxPredictor::new(&scope.sub("box_predictor"), head.outputs(), options.num_classes)?;
        store.order_by(&ORDER);
        store.to(device)?;
        ensure!(
            rpn.levels() == options.backbone.returned_layers.len() + 1,
            "anchor_sizes are given for {} levels; the FPN has {} (one for each of returned_layers, and the extra pooled level)",
            rpn.levels(),
            options.backbone.returned_layers.len() + 1
        );
        let heads = RoiHeads::new(head, predictor, mask, &options);
        Ok(Self { store, options, transform, backbone, rpn, heads })
    }

    /// The parameters and buffers, under torchvision's names.
    pub fn store(&self) -> &ParameterStore {
        &self.store
    }

    /// Classes, background included.
    pub fn num_classes(&self) -> i64 {
        self.options.num_classes
    }

    /// Whether it finds masks, and learns from them.
    pub fn has_masks(&self) -> bool {
        self.options.masks.is_some()
    }

    /// Scalar losses with gradients, by name, in torchvision's order: `loss_classifier`, `loss_box_reg`, `loss_mask` (with
    /// masks), `loss_objectness`, `loss_rpn_box_reg`. `images`: `[3, H, W]`, floats from 0 to 1, of any sizes and on any
    /// device.
    ///
    /// The values of the ground truth are not looked at, which on a GPU would wait for the device: what [`Target`] says of
    /// them is up to the caller.
    ///
    /// # Errors
    /// An image or its ground truth is not of the shape that [`Target`] says; the message gives its place in the batch.
    pub fn forward_train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>> {
        ensure!(images.len() == targets.len(), "{} images but {} targets", images.len(), targets.len());
        for (index, (image, target)) in images.iter().zip(targets).enumerate() {
            self.check_shapes(image, target).with_context(|| format!("ground truth of image {index} of the batch"))?;
        }
        let batch = self.transform.batch(images, true, self.store.device())?;
        let targets = self.transform.targets(targets, &batch)?;
        let maps = self.backbone.forward(&batch.tensors, true)?;
        let (proposals, [objectness, rpn_box_reg]) = self.rpn.train(&batch, &maps, &targets)?;
        let losses = self.heads.train(&maps[..maps.len() - 1], &proposals, &batch.sizes, &targets)?;
        let rpn = [("loss_objectness", objectness), ("loss_rpn_box_reg", rpn_box_reg)];
        Ok(losses.into_iter().chain(rpn).map(|(name, loss)| (name.to_owned(), loss)).collect())
    }

    /// What is found in each image, without gradients. `images`: as for [`Self::forward_train`].
    ///
    /// # Errors
    /// An image is not as it should be, or memory is short.
    pub fn forward_eval(&self, images: &[Tensor]) -> Result<Vec<Detections>> {
        no_grad(|| {
            let batch = self.transform.batch(images, false, self.store.device())?;
            let maps = self.backbone.forward(&batch.tensors, false)?;
            let proposals = self.rpn.propose(&batch, &maps)?;
            let found = self.heads.detect(&maps[..maps.len() - 1], &proposals, &batch.sizes)?;
            let paste = self.options.masks.as_ref().is_some_and(|masks| masks.paste);
            self.transform.restore(found, &batch, paste)
        })
    }

    /// The size to which a batch of images is padded at most.
    pub fn padded(&self, images: &[ImageSize]) -> ImageSize {
        self.transform.padded(images)
    }

    /// Whether from now on training needs as much memory as it can with the images at hand: of the sizes from which one is drawn each
    /// image gets the largest, and the heads get as much foreground as there can be.
    pub fn take_largest(&self, on: bool) {
        self.transform.take_largest(on);
        self.heads.take_largest(on);
    }

    /// Loads a detector's weights, also under torchvision's first names.
    ///
    /// # Errors
    /// The weights do not match; with [`Classes::MayDiffer`] the layers that depend on their number need not.
    pub fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport> {
        checkpoint::load_detector(&self.store, state, classes)
    }

    /// Loads a classifier's weights into the backbone.
    ///
    /// # Errors
    /// The weights do not match.
    pub fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        checkpoint::load_backbone(&self.store, state)
    }

    /// Whether an image's ground truth is of the shapes and types that [`Target`] says; values are not looked at.
    ///
    /// # Errors
    /// It is not: what is, and what should be.
    pub fn check_shapes(&self, image: &Tensor, target: &Target) -> Result<()> {
        let boxes = target.boxes.size();
        ensure!(boxes.len() == 2 && boxes[1] == 4, "boxes have shape {boxes:?}; they must be [N, 4]");
        let count = boxes[0];
        let labels = (target.labels.size(), target.labels.kind());
        ensure!(
            labels == (vec![count], Kind::Int64),
            "labels are {labels:?}; they must be int64 of shape [{count}], one for each box"
        );
        if self.has_masks() {
            let size = image.size();
            let wanted = [&[count], &size[size.len().saturating_sub(2)..]].concat();
            let masks = target.masks.as_ref().context("there are no masks, but this model is trained on masks")?;
            ensure!(
                masks.size() == wanted || count == 0,
                "masks have shape {:?}; they must be {wanted:?}, one of the image's size for each box",
                masks.size()
            );
        }
        Ok(())
    }
}

fn rpn_and_head(root: &Scope, options: &RcnnOptions) -> Result<(RegionProposals, BoxHead)> {
    let rpn = RegionProposals::new(&root.sub("rpn"), OUT_CHANNELS, options)?;
    Ok((rpn, RoiHeads::box_head(&root.sub("roi_heads"), options)?))
}

fn mask_branch(scope: &Scope, options: &MaskOptions, num_classes: i64) -> Result<MaskBranch> {
    let head = MaskHead::new(&scope.sub("mask_head"), OUT_CHANNELS, options)?;
    let predictor = MaskPredictor::new(&scope.sub("mask_predictor"), head.outputs(), options.hidden, num_classes)?;
    let pooler = MultiScaleRoiAlign { output_size: options.pool_size, sampling_ratio: options.sampling_ratio };
    Ok(MaskBranch { pooler, head, predictor })
}
