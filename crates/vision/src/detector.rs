//! What all detectors have in common.
//!
//! A detector works in three parts, so that losses and detections can come from one pass through the network: features of a batch, losses
//! from features, detections from features.

use std::fmt::Debug;

use anyhow::{Context, Result, ensure};
use indexmap::IndexMap;
use tch::{Kind, Tensor, no_grad};

use super::ImageSize;
use super::checkpoint::{Classes, with_layers_of};
use super::dense::DenseOutputs;
use super::sampler::with_keys;
use super::transform::{ImageBatch, Transform};
use super::types::{Detections, Target};
use crate::nn::{LoadOptions, LoadReport, ParameterStore, StateDict};

/// Losses by torchvision's names, in its order.
pub type Losses = Vec<(&'static str, Tensor)>;

/// What a network that proposes boxes says of every anchor, all levels together.
#[derive(Debug)]
pub struct AnchorOutputs {
    /// Logits, `[N, A]`.
    pub objectness: Tensor,
    /// Box offsets, `[N, A, 4]`.
    pub offsets: Tensor,
    /// Anchors in each level; their sum is A.
    pub per_level: Vec<i64>,
}

/// What a network makes of a batch, before it is known what for.
#[derive(Debug, Default)]
pub struct Features {
    /// Feature maps `[N, C, H, W]`, large first.
    pub maps: Vec<Tensor>,
    /// What the heads of a one-stage detector make of them; none where proposals come first.
    pub outputs: Option<DenseOutputs>,
    /// What the RPN makes of them, where proposals come first.
    pub anchors: Option<AnchorOutputs>,
    /// Whether norms of heads behind it take the statistics of the batch.
    pub train: bool,
}

impl Features {
    /// The outputs of a one-stage detector.
    ///
    /// # Errors
    /// There are none.
    pub fn dense(&self) -> Result<&DenseOutputs> {
        self.outputs.as_ref().context("these features have no outputs of heads")
    }

    /// The outputs of the RPN.
    ///
    /// # Errors
    /// There are none.
    pub fn anchors(&self) -> Result<&AnchorOutputs> {
        self.anchors.as_ref().context("these features have no outputs of an RPN")
    }
}

/// A network that finds objects in images.
pub trait Detector: Debug {
    /// The parameters and buffers, under torchvision's names.
    fn store(&self) -> &ParameterStore;

    /// What happens to images before it.
    fn transform(&self) -> &Transform;

    /// Classes, background included.
    fn num_classes(&self) -> i64;

    /// Whether it finds masks, and learns from them.
    fn has_masks(&self) -> bool {
        false
    }

    /// How many keypoints of an object it finds, and learns from; none where it does not.
    fn keypoints(&self) -> Option<i64> {
        None
    }

    /// Whether masks are pasted into images of the size as given.
    fn pastes_masks(&self) -> bool {
        false
    }

    /// What the network makes of a batch; with `train`, norms take the statistics of the batch.
    ///
    /// # Errors
    /// Memory is short.
    fn features(&self, batch: &ImageBatch, train: bool) -> Result<Features>;

    /// Scalar losses with gradients. `targets`: in the pixels of the batch's images.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    fn losses(&self, batch: &ImageBatch, features: &Features, targets: &[Target]) -> Result<Losses>;

    /// What is found in each image, in the pixels of the batch's images.
    ///
    /// # Errors
    /// The shapes are others, or memory is short.
    fn detections(&self, batch: &ImageBatch, features: &Features) -> Result<Vec<Detections>>;

    /// The layers, by the beginning of their names, whose shape depends on the number of classes or keypoints.
    fn predictors(&self) -> &'static [&'static str];

    /// Today's name of a tensor of older weights.
    fn modern_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Loads a classifier's weights into the backbone.
    ///
    /// # Errors
    /// The weights do not match.
    fn load_backbone(&self, state: &StateDict) -> Result<LoadReport>;

    /// Whether from now on training needs as much memory as it can with the images at hand: of the sizes from which one is drawn each
    /// image gets the largest, and so with whatever else is up to chance or weights.
    fn take_largest(&self, on: bool) {
        self.transform().take_largest(on);
    }

    /// The size to which a batch of images is padded at most.
    fn padded(&self, images: &[ImageSize]) -> ImageSize {
        self.transform().padded(images)
    }

    /// Scalar losses with gradients, by name, in torchvision's order. `images`: `[3, H, W]`, floats from 0 to 1, of any sizes and on any
    /// device.
    ///
    /// The values of the ground truth are not looked at, which on a GPU would wait for the device: what [`Target`] says of them is up to
    /// the caller.
    ///
    /// # Errors
    /// An image or its ground truth is not of the shape that [`Target`] says; the message gives its place in the batch.
    fn forward_train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>> {
        self.check_all(images, targets)?;
        let batch = self.transform().batch(images, true, self.store().device())?;
        // First what a GPU has to work on for long; the host prepares the ground truth meanwhile.
        let features = self.features(&batch, true)?;
        let targets = self.transform().targets(targets, &batch)?;
        Ok(named(self.losses(&batch, &features, &targets)?))
    }

    /// What is found in each image, in its pixels, without gradients. `images`: as for [`Self::forward_train`].
    ///
    /// # Errors
    /// An image is not as it should be, or memory is short.
    fn forward_eval(&self, images: &[Tensor]) -> Result<Vec<Detections>> {
        no_grad(|| {
            let batch = self.transform().batch(images, false, self.store().device())?;
            let found = self.detections(&batch, &self.features(&batch, false)?)?;
            self.transform().restore(found, &batch, self.pastes_masks())
        })
    }

    /// As [`Self::forward_eval`], and the losses of the same pass: those of training, but with norms as in evaluation, with images of the
    /// size that evaluation takes, and with samples drawn as `keys`, one for each image, have it. Nothing of the model changes, nor does
    /// the state of a random generator.
    ///
    /// # Errors
    /// As [`Self::forward_train`].
    fn forward_with_losses(
        &self,
        images: &[Tensor],
        targets: &[Target],
        keys: &[u64],
    ) -> Result<(IndexMap<String, Tensor>, Vec<Detections>)> {
        self.check_all(images, targets)?;
        no_grad(|| {
            let batch = self.transform().batch(images, false, self.store().device())?;
            let targets = self.transform().targets(targets, &batch)?;
            let features = self.features(&batch, false)?;
            let losses = with_keys(keys, self.store().device(), || self.losses(&batch, &features, &targets))?;
            let found = self.detections(&batch, &features)?;
            let found = self.transform().restore(found, &batch, self.pastes_masks())?;
            Ok((named(losses), found))
        })
    }

    /// Loads a detector's weights, older ones too.
    ///
    /// # Errors
    /// The weights do not match; with [`Classes::MayDiffer`] the layers that depend on their number need not.
    fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport> {
        let replaceable = match classes {
            Classes::Same => Vec::new(),
            Classes::MayDiffer => self.predictors().iter().map(|prefix| (*prefix).to_owned()).collect(),
        };
        let renamed = state.iter().map(|(name, tensor)| (self.modern_name(name), tensor.shallow_clone())).collect();
        let renamed = with_layers_of(self.store(), renamed);
        self.store().load_state_dict(&renamed, &LoadOptions { replaceable, ..LoadOptions::default() })
    }

    /// Whether each image has its ground truth, of the right shapes.
    ///
    /// # Errors
    /// It has not: the place in the batch, and what is wrong.
    fn check_all(&self, images: &[Tensor], targets: &[Target]) -> Result<()> {
        ensure!(images.len() == targets.len(), "{} images but {} targets", images.len(), targets.len());
        for (index, (image, target)) in images.iter().zip(targets).enumerate() {
            self.check_shapes(image, target).with_context(|| format!("ground truth of image {index} of the batch"))?;
        }
        Ok(())
    }

    /// Whether an image's ground truth is of the shapes and types that [`Target`] says; values are not looked at.
    ///
    /// # Errors
    /// It is not: what is, and what should be.
    fn check_shapes(&self, image: &Tensor, target: &Target) -> Result<()> {
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
        if let Some(points) = self.keypoints() {
            let given = target.keypoints.as_ref();
            let given = given.context("there are no keypoints, but this model is trained on keypoints")?;
            let wanted = [count, points, 3];
            ensure!(
                (given.size() == wanted && given.kind() == Kind::Float) || count == 0,
                "keypoints are {:?} of shape {:?}; they must be floats of shape {wanted:?}, x, y and visibility of the model's {points} \
                 keypoints (`num_keypoints`) for each box",
                given.kind(),
                given.size()
            );
        }
        Ok(())
    }
}

fn named(losses: Losses) -> IndexMap<String, Tensor> {
    losses.into_iter().map(|(name, loss)| (name.to_owned(), loss)).collect()
}
