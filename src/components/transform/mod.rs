//! Transforms: functions from sample to sample.

use std::sync::Arc;

use anyhow::Result;

use crate::data::{Sample, SampleRng};
use crate::registry::{Kind, PortKind};
use crate::run::Instance;

/// A function from sample to sample, called from worker threads. It acts on fields by their type and keeps them
/// consistent: what moves the image moves its boxes, masks and keypoints.
pub trait Transform: Send + Sync {
    /// Changes one sample. All chance comes from `rng`.
    ///
    /// # Errors
    /// When the sample lacks what the transform needs.
    fn apply(&self, sample: Sample, rng: &mut SampleRng) -> Result<Sample>;

    /// Changes the samples of one batch together, after [`Transform::apply`] (mixup, copy-paste).
    ///
    /// # Errors
    /// As [`Transform::apply`].
    fn apply_batch(&self, samples: Vec<Sample>, _rng: &mut SampleRng) -> Result<Vec<Sample>> {
        Ok(samples)
    }
}

impl PortKind for dyn Transform {
    const KIND: Kind = Kind::Transform;
    type Shared = Arc<dyn Transform>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Transform(transform) => Some(transform.clone()),
            _ => None,
        }
    }
}
