//! Metrics: numbers computed over an evaluation.
//!
//! Counts stay on the device until they are computed, so that updates do not synchronize.
//!
//! - [`counts`]: counting classes on the device
//! - [`class_score`]: precision, recall and F-beta from those counts

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
