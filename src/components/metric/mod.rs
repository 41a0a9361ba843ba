//! Metrics: numbers computed over an evaluation.
//!
//! Counts stay on the device until they are asked for, so that an update makes nobody wait.
//!
//! - [`counts`]: counting classes on the device
//! - [`class_score`]: precision and its kin from those counts

pub mod accuracy;
pub mod class_score;
pub mod coco_ap;
pub mod confusion_matrix;
pub mod counts;
pub mod f_beta;
pub mod loss;
pub mod mean_iou;
pub mod precision;
pub mod recall;
pub mod top_k_accuracy;

use anyhow::Result;

use crate::components::model::ModelOutput;
use crate::data::Batch;
use crate::registry::{Kind, PortKind};
use crate::run::{Instance, Shared, Stateful};

/// What a metric says at the end.
#[derive(Debug, Default)]
pub struct MetricReport {
    /// Named values: those that [`crate::registry::Component::values`] declared, then any others (per class).
    pub values: Vec<(String, f64)>,
    /// A longer text for the console and text sinks, such as the 12 COCO lines.
    pub text: Option<String>,
}

/// Numbers computed over an evaluation: reset, updated batch by batch, computed.
pub trait Metric: Stateful {
    /// Forgets everything.
    fn reset(&mut self);

    /// Takes in one batch and what the model made of it.
    ///
    /// # Errors
    /// When a field is missing or of another shape.
    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()>;

    /// The values over all updates since the reset. A metric without data says NaN.
    ///
    /// # Errors
    /// When the values cannot be computed.
    fn compute(&mut self) -> Result<MetricReport>;
}

impl PortKind for dyn Metric {
    const KIND: Kind = Kind::Metric;
    type Shared = Shared<dyn Metric>;

    fn from_instance(instance: &Instance) -> Option<Self::Shared> {
        match instance {
            Instance::Metric(metric) => Some(metric.clone()),
            _ => None,
        }
    }
}
