//! Mask R-CNN with a feature pyramid, as torchvision's `maskrcnn_resnet50_fpn` and `_v2`.

use anyhow::Result;
use indexmap::IndexMap;
use tch::{Device, Tensor};

use super::checkpoint::{self, Classes};
use super::detector::{Detections, Detector, Replaced, Target};
use super::options::MaskRcnnOptions;
use crate::nn::{LoadReport, ParameterStore, StateDict};

/// Finds boxes and the masks within them.
#[derive(Debug)]
pub struct MaskRcnn(Detector);

impl MaskRcnn {
    /// A model with fresh weights on `device`: after `tch::manual_seed`, torchvision's after `torch.manual_seed`.
    ///
    /// # Errors
    /// An option is out of its range, or the device is absent or out of memory.
    pub fn new(options: MaskRcnnOptions, device: Device) -> Result<Self> {
        Ok(Self(Detector::new(options.detector.clone(), Some(options), device)?))
    }

    /// The parameters and buffers, under torchvision's names.
    pub fn store(&self) -> &ParameterStore {
        &self.0.store
    }

    /// Classes, background included.
    pub fn num_classes(&self) -> i64 {
        self.0.num_classes()
    }

    /// The losses `loss_classifier`, `loss_box_reg`, `loss_mask`, `loss_objectness`, `loss_rpn_box_reg`, scalars with
    /// gradients. `images`: `[3, H, W]`, floats from 0 to 1, of any sizes and on any device.
    ///
    /// # Errors
    /// An image or its ground truth is not as [`Target`] says; the message gives its place in the batch.
    pub fn forward_train(&self, images: &[Tensor], targets: &[Target]) -> Result<IndexMap<String, Tensor>> {
        self.0.train(images, targets)
    }

    /// What is found in each image. `images`: as for [`Self::forward_train`].
    ///
    /// # Errors
    /// An image is not as it should be, or memory is short.
    pub fn forward_eval(&self, images: &[Tensor]) -> Result<Vec<Detections>> {
        self.0.detect(images)
    }

    /// Loads a detector's weights, also under torchvision's first names.
    ///
    /// # Errors
    /// The weights do not fit; with [`Classes::MayDiffer`] the layers that depend on their number need not.
    pub fn load(&self, state: &StateDict, classes: Classes) -> Result<LoadReport> {
        checkpoint::load_detector(self.store(), state, classes)
    }

    /// Loads a classifier's weights into the backbone.
    ///
    /// # Errors
    /// The weights do not fit.
    pub fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        checkpoint::load_backbone(self.store(), state)
    }

    /// Makes the predictors anew for another number of classes, drawn afresh; optimizers must take their parameters again.
    ///
    /// # Errors
    /// `num_classes` is below 2.
    pub fn replace_predictors(&mut self, num_classes: i64) -> Result<Vec<Replaced>> {
        self.0.replace_predictors(num_classes)
    }
}
