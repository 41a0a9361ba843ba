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

pub use pipe_plugin::{Model, ModelOutput};

use crate::registry::{Kind, PortKind};
use crate::run::{Instance, Shared};

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
