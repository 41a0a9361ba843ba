//! What is behind the numbers of an evaluation, from the matches that it has kept.
//!
//! | file | holds |
//! |---|---|
//! | `lines.rs` | the detections of each category in falling order of their scores |
//! | `curves.rs` | [`Curves`]: precision, recall and F1 over confidence; the best threshold |
//! | `confusion.rs` | [`Confusion`]: which category is found as which, with background |
//! | `tide.rs` | [`Tide`]: errors by kind, and what each kind costs |
//! | `images.rs` | [`ImageCount`]: the images with the most errors |
//! | `compare.rs` | [`compare`]: whether the difference of two results is more than chance |
//!
//! All of it but the differences is at IoU 0.50, of objects of all sizes.

mod compare;
mod confusion;
mod curves;
mod images;
mod lines;
mod tide;

use anyhow::Result;
use serde::Serialize;

pub use compare::{Comparison, Difference, compare};
pub use confusion::{Confusion, confusion};
pub use curves::{Best, ClassCurve, Curves};
pub use images::{ImageCount, image_counts};
pub use tide::{KindOfError, Tide};

use crate::eval::{ClassSummary, RECALLS, State, Summary};
use crate::index::Index;

/// The diagnostics of an evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Diagnostics {
    /// `bbox` or `segm`.
    pub iou: &'static str,
    /// IoU from which a detection has found an object: 0.5.
    pub iou_threshold: f64,
    /// Images evaluated.
    pub images: usize,
    /// Precision, recall and F1 over confidence.
    pub curves: Curves,
    /// Precision over recall of the categories that have objects, in order of their ids.
    pub precision_recall: Vec<PrecisionRecall>,
    /// Which category is found as which, at the best threshold.
    pub confusion: Confusion,
    /// Errors by kind.
    pub tide: Tide,
    /// Every image's errors at the best threshold, the worst first.
    pub worst_images: Vec<ImageCount>,
}

/// The curve behind a category's average precision at IoU 0.5: `precision[0, :, k, 0, 2]` and `scores[0, :, k, 0, 2]` of `COCOeval`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PrecisionRecall {
    /// The category's id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The mean of `precision`.
    pub ap50: f64,
    /// `[101]`: the highest precision at a recall of 0.00, 0.01, … 1.00 or more.
    pub precision: Vec<f64>,
    /// `[101]`: the score at which that recall is reached; 0 where it is not.
    pub scores: Vec<f64>,
}

impl PrecisionRecall {
    fn all(summary: &Summary) -> Vec<Self> {
        let curves = &summary.curves;
        let present = summary.per_class.iter().enumerate().filter(|(_, class)| class.ap50 > -1.0);
        let curve = |(k, class): (usize, &ClassSummary)| Self {
            id: class.id,
            name: class.name.clone(),
            ap50: class.ap50,
            precision: (0..RECALLS).map(|r| curves.precision_at([0, r, k, 0, 2])).collect(),
            scores: (0..RECALLS).map(|r| curves.score_at([0, r, k, 0, 2])).collect(),
        };
        present.map(curve).collect()
    }
}

/// Diagnoses what an evaluator that kept the kinds of errors ([`crate::eval::Evaluator::diagnosing`]) has seen.
///
/// `summary` is that evaluator's. Confusion and images are counted at the best threshold of [`Curves`]; without one, of all detections.
///
/// # Errors
/// A state without the kinds of errors, or with images that the annotations do not have.
pub fn diagnose(truth: &Index, state: &State, summary: &Summary) -> Result<Diagnostics> {
    let names = truth.class_labels();
    let lines = lines::lines(truth, state)?;
    let curves = curves::curves(&lines, &names);
    let confidence = curves.best.map_or(f64::NEG_INFINITY, |best| best.confidence);
    Ok(Diagnostics {
        iou: state.iou.name(),
        iou_threshold: 0.5,
        images: state.images.len(),
        precision_recall: PrecisionRecall::all(summary),
        confusion: confusion(truth, state, confidence)?,
        tide: tide::tide(&lines, state)?,
        worst_images: image_counts(truth, state, confidence)?,
        curves,
    })
}
