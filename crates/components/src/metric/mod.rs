//! Metrics: numbers computed over an evaluation.
//!
//! Counts stay on the device until they are computed, so that updates do not synchronize.
//!
//! - [`counts`]: counting classes on the device
//! - [`class_score`]: precision, recall and F-beta from those counts
//! - [`ranked`]: all scores, for ROC AUC and average precision
//! - [`watched`]: values of other nodes, for averages of them

pub mod accuracy;
pub mod average_precision;
pub mod class_score;
pub mod coco_ap;
pub mod confusion_matrix;
pub mod counts;
pub mod expression;
pub mod f_beta;
pub mod loss;
pub mod mean;
pub mod mean_iou;
pub mod precision;
pub mod ranked;
pub mod recall;
pub mod regression;
pub mod roc_auc;
pub mod running_average;
pub mod top_k_accuracy;
pub mod watched;
