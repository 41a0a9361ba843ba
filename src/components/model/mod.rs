//! Models: losses in training, outputs in evaluation.
//!
//! - [`classification`]: what the classifiers share
//! - [`detection`]: what the detectors share

pub mod classification;
pub mod detection;
pub mod ema;
pub mod faster_rcnn;
pub mod mask_rcnn;
pub mod resnet;
pub mod sequential;
pub mod torchscript;

use anyhow::{Result, bail};
use indexmap::IndexMap;
use tch::Tensor;

use crate::data::Batch;
use crate::registry::{Kind, PortKind};
use crate::run::{Instance, Shared, Stateful};

/// What a model makes of a batch.
#[derive(Debug, Default)]
pub struct ModelOutput {
    /// Named scalar losses. In training at least one; in evaluation those that the batch's targets allow.
    pub losses: IndexMap<String, Tensor>,
    /// Outputs by field name (`logits`, `detections`), in evaluation; classifiers give them in training too.
    pub outputs: Batch,
}

/// A network with its losses.
///
/// Its saved state's tensors are its `state_dict`, under torchvision's names.
pub trait Model: Stateful {
    /// Switches dropout, batch norm and the like between training and evaluation.
    fn set_training(&mut self, training: bool);

    /// Runs the model on a batch that lies on the model's device.
    ///
    /// # Errors
    /// When the batch does not fit: which field or sample, and why.
    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput>;

    /// Moves an average towards the weights of the model that it is made of: `average += momentum · (weights − average)`.
    /// Whole numbers are copied, and so is every buffer where `copy_buffers` says it.
    ///
    /// # Errors
    /// When this model is no average of another.
    fn average(&mut self, _momentum: f64, _copy_buffers: bool) -> Result<()> {
        bail!("it is no average of another model; `model.ema` is one")
    }

    /// Trainable parameters by name, in the order of the state dict.
    fn parameters(&self) -> Vec<(String, Tensor)>;
}

impl PortKind for dyn Model {
    const KIND: Kind = Kind::Model;
    type Shared = Shared<dyn Model>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Model(model) => Some(model.clone()),
            _ => None,
        }
    }
}
