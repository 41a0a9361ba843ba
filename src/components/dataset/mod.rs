//! Datasets: indexed samples.

pub mod coco;
pub mod image_folder;
pub mod mnist;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use anyhow::{Result, bail};
use serde_json::Value;

use crate::data::Sample;
use crate::registry::{Kind, PortKind};
use crate::run::Instance;

/// Indexed samples, read from many threads.
pub trait Dataset: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at `index`, below [`Dataset::len`].
    ///
    /// # Errors
    /// When it cannot be read: which file, and why.
    fn get(&self, index: usize) -> Result<Sample>;

    /// The value of a declared property, such as `num_classes`.
    ///
    /// # Errors
    /// When there is no such property.
    fn property(&self, name: &str) -> Result<Value> {
        bail!("the dataset has no property `{name}`")
    }

    /// Width / height of the picture at `index` when known without decoding it, for batches of alike shapes.
    fn aspect_ratio(&self, _index: usize) -> Option<f32> {
        None
    }

    /// Names of the classes by label, for people.
    fn class_names(&self) -> Vec<(i64, String)> {
        Vec::new()
    }

    /// The annotations in COCO's form, for metrics that judge at the size on disk and by the original annotations.
    fn coco(&self) -> Option<&Arc<crate::coco::index::Index>> {
        None
    }

    /// Something said once when the run starts, such as an audit of annotations.
    fn report(&self) -> Option<String> {
        None
    }
}

impl PortKind for dyn Dataset {
    const KIND: Kind = Kind::Dataset;
    type Shared = Arc<dyn Dataset>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Dataset(dataset) => Some(dataset.clone()),
            _ => None,
        }
    }
}
