//! What [`super::FasterRcnn`] and [`super::MaskRcnn`] share: torchvision's `GeneralizedRCNN`.

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use tch::{Device, Kind, Tensor, no_grad};

use super::backbone::{OUT_CHANNELS, ResNetFpn};
use super::box_head::BoxPredictor;
use super::mask_head::{MaskHead, MaskPredictor};
use super::options::{BoxHeadOptions, FasterRcnnOptions, MaskRcnnOptions};
use super::pooler::MultiScaleRoiAlign;
use super::roi_heads::{MaskBranch, RoiHeads};
use super::rpn::RegionProposals;
use super::transform::Transform;
use crate::nn::{ParameterStore, Scope};

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

/// The ground truth of one image with N objects; N may be 0.
#[derive(Debug)]
pub struct Target {
    /// `[N, 4]`, corners in pixels, of positive width and height.
    pub boxes: Tensor,
    /// i64 `[N]`, from 1 to the number of classes less one.
    pub labels: Tensor,
    /// `[N, H, W]` of the image's size, 1 inside and 0 outside (u8 or bool).
    pub masks: Option<Tensor>,
}

/// What was found in one image, best first.
#[derive(Debug)]
pub struct Detections {
    /// `[N, 4]`, corners in pixels of the image as given.
    pub boxes: Tensor,
    /// i64 `[N]`.
    pub labels: Tensor,
    /// `[N]`, 0 to 1.
    pub scores: Tensor,
    /// Probabilities: `[N, 1, H, W]`, or `[N, 1, 28, 28]` within the boxes where pasting is off.
    pub masks: Option<Tensor>,
}

/// A layer made anew for another number of classes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The parameter.
    pub name: String,
    /// Its shape before and now.
    pub shapes: (Vec<i64>, Vec<i64>),
}

/// A detector; its mask part is optional.
#[derive(Debug)]
pub(super) struct Detector {
    pub(super) store: ParameterStore,
    options: FasterRcnnOptions,
    masks: Option<MaskRcnnOptions>,
    transform: Transform,
    backbone: ResNetFpn,
    rpn: RegionProposals,
    heads: RoiHeads,
}

impl Detector {
    /// A detector with fresh weights, drawn in torchvision's order.
    pub(super) fn new(options: FasterRcnnOptions, masks: Option<MaskRcnnOptions>, device: Device) -> Result<Self> {
        ensure!(
            options.num_classes >= 2,
            "num_classes counts the background: it must be at least 2, not {}",
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
        let mask = masks.as_ref().map(|masks| mask_branch(&scope, masks)).transpose()?;
        let (rpn, head) = match early {
            Some(made) => made,
            None => rpn_and_head(&root, &options)?,
        };
        let predictor = BoxPredictor::new(&scope.sub("box_predictor"), head.outputs(), options.num_classes)?;
        store.order_by(&ORDER);
        store.to(device)?;
        ensure!(
            rpn.levels() == options.backbone.returned_layers.len() + 1,
            "anchor_sizes are given for {} levels; the pyramid has {} (one for each of returned_layers, and the halved last)",
            rpn.levels(),
            options.backbone.returned_layers.len() + 1
        );
        let heads = RoiHeads::new(head, predictor, mask, &options);
        Ok(Self { store, options, masks, transform, backbone, rpn, heads })
    }

    pub(super) fn num_classes(&self) -> i64 {
        self.options.num_classes
    }

    /// Losses by name, in torchvision's order.
    pub(super) fn train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>> {
        ensure!(images.len() == targets.len(), "{} images but {} targets", images.len(), targets.len());
        for (index, (image, target)) in images.iter().zip(targets).enumerate() {
            self.check(image, target).with_context(|| format!("ground truth of image {index} of the batch"))?;
        }
        let batch = self.transform.batch(images, true, self.store.device())?;
        let targets = self.transform.targets(targets, &batch)?;
        let maps = self.backbone.forward(&batch.tensors, true)?;
        let (proposals, [objectness, rpn_box_reg]) = self.rpn.train(&batch, &maps, &targets)?;
        let losses = self.heads.train(&maps[..maps.len() - 1], &proposals, &batch.sizes, &targets)?;
        let rpn = [("loss_objectness", objectness), ("loss_rpn_box_reg", rpn_box_reg)];
        Ok(losses.into_iter().chain(rpn).map(|(name, loss)| (name.to_owned(), loss)).collect())
    }

    /// Detections of each image, without gradients.
    pub(super) fn detect(&self, images: &[Tensor]) -> Result<Vec<Detections>> {
        no_grad(|| {
            let batch = self.transform.batch(images, false, self.store.device())?;
            let maps = self.backbone.forward(&batch.tensors, false)?;
            let proposals = self.rpn.propose(&batch, &maps)?;
            let found = self.heads.detect(&maps[..maps.len() - 1], &proposals, &batch.sizes)?;
            let paste = self.masks.as_ref().is_some_and(|masks| masks.paste_masks);
            self.transform.restore(found, &batch, paste)
        })
    }

    /// Makes the layers that depend on the number of classes anew, drawn afresh.
    pub(super) fn replace_predictors(&mut self, num_classes: i64) -> Result<Vec<Replaced>> {
        ensure!(num_classes >= 2, "num_classes counts the background: it must be at least 2, not {num_classes}");
        let before = self.store.state_dict();
        let device = self.store.device();
        self.store.to(Device::Cpu)?;
        let scope = self.store.root().sub("roi_heads");
        if let (Some(branch), Some(masks)) = (&mut self.heads.mask, &self.masks) {
            self.store.remove("roi_heads.mask_predictor.");
            let inputs = branch.head.outputs();
            branch.predictor =
                MaskPredictor::new(&scope.sub("mask_predictor"), inputs, masks.mask_hidden, num_classes)?;
        }
        let inputs = before.get("roi_heads.box_predictor.cls_score.weight").map_or(0, |weight| weight.size()[1]);
        self.store.remove("roi_heads.box_predictor.");
        self.heads.predictor = BoxPredictor::new(&scope.sub("box_predictor"), inputs, num_classes)?;
        self.store.order_by(&ORDER);
        self.store.to(device)?;
        self.options.num_classes = num_classes;
        let now = self.store.state_dict();
        let replaced = now.iter().filter(|(name, _)| name.contains("_predictor."));
        let shape = |name: &String| before.get(name).map(Tensor::size).unwrap_or_default();
        Ok(replaced
            .map(|(name, tensor)| Replaced { name: name.clone(), shapes: (shape(name), tensor.size()) })
            .collect())
    }

    /// Refuses ground truth that would give senseless losses, or fail deep inside a GPU kernel.
    fn check(&self, image: &Tensor, target: &Target) -> Result<()> {
        let boxes = target.boxes.size();
        ensure!(boxes.len() == 2 && boxes[1] == 4, "boxes have shape {boxes:?}; they must be [N, 4]");
        let count = boxes[0];
        let labels = (target.labels.size(), target.labels.kind());
        ensure!(
            labels == (vec![count], Kind::Int64),
            "labels are {labels:?}; they must be int64 of shape [{count}], one for each box"
        );
        if self.masks.is_some() {
            let size = image.size();
            let wanted = [&[count], &size[size.len().saturating_sub(2)..]].concat();
            let masks = target.masks.as_ref().context("there are no masks, and this model learns from masks")?;
            ensure!(
                masks.size() == wanted || count == 0,
                "masks have shape {:?}; they must be {wanted:?}, one of the image's size for each box",
                masks.size()
            );
        }
        let values: Vec<f32> = target.boxes.f_to_kind(Kind::Float)?.f_flatten(0, -1)?.try_into()?;
        for (index, corners) in values.chunks_exact(4).enumerate() {
            // Written so that NaN fails as well.
            let sound = corners.iter().all(|v| v.is_finite()) && corners[2] > corners[0] && corners[3] > corners[1];
            ensure!(sound, "box {index} {corners:?} (x1, y1, x2, y2) must have a positive width and height");
        }
        let labels = Vec::<i64>::try_from(&target.labels)?;
        let last = self.options.num_classes - 1;
        match labels.iter().position(|label| !(1..=last).contains(label)) {
            Some(index) => {
                bail!("label {index} is {}; labels go from 1 to {last} (0 is the background)", labels[index])
            }
            None => Ok(()),
        }
    }
}

fn rpn_and_head(root: &Scope, options: &FasterRcnnOptions) -> Result<(RegionProposals, super::box_head::BoxHead)> {
    let rpn = RegionProposals::new(&root.sub("rpn"), OUT_CHANNELS, options)?;
    Ok((rpn, RoiHeads::box_head(&root.sub("roi_heads"), options)?))
}

fn mask_branch(scope: &Scope, options: &MaskRcnnOptions) -> Result<MaskBranch> {
    let head = MaskHead::new(&scope.sub("mask_head"), OUT_CHANNELS, options)?;
    let classes = options.detector.num_classes;
    let predictor = MaskPredictor::new(&scope.sub("mask_predictor"), head.outputs(), options.mask_hidden, classes)?;
    let pooler =
        MultiScaleRoiAlign { output_size: options.mask_pool_size, sampling_ratio: options.mask_sampling_ratio };
    Ok(MaskBranch { pooler, head, predictor })
}
