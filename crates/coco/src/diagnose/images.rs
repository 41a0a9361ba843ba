//! The images with the most errors.

use std::cmp::Reverse;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::eval::State;
use crate::index::Index;

/// One image at IoU 0.5.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageCount {
    /// Its id.
    pub id: i64,
    /// Its file, as the annotations name it.
    pub file_name: String,
    /// Objects that are found.
    pub found: u32,
    /// Objects that are not.
    pub missed: u32,
    /// Detections that find nothing.
    pub false_positives: u32,
    /// The model's loss, where the evaluation has it: the image's own part in it, as large as if all images of its batch were like it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}

impl ImageCount {
    /// Missed objects and false positives.
    pub fn errors(&self) -> u32 {
        self.missed + self.false_positives
    }
}

/// Every image, counted with the detections of a score of `confidence` or more: those with the most errors first, equal ones in order of
/// their ids.
///
/// # Errors
/// A state with images that the annotations do not have.
pub fn image_counts(truth: &Index, state: &State, confidence: f64) -> Result<Vec<ImageCount>> {
    let count = |(&id, image): (&i64, &crate::eval::ImageMatches)| {
        let position = truth.position(id).with_context(|| format!("image {id} is not in the annotations"))?;
        let file_name = truth.images()[position].file_name.to_string();
        let mut count = ImageCount { id, file_name, found: 0, missed: 0, false_positives: 0, loss: None };
        for class in &image.classes {
            let kept = class.scores.iter().take_while(|score| **score >= confidence).count();
            let marks =
                class.marks[..kept].iter().map(|marks| [marks[0].matched, marks[0].ignored].map(|bits| bits & 1 == 1));
            let right = marks.clone().filter(|marks| *marks == [true, false]).count() as u32;
            count.found += right;
            count.missed += class.truths[0] - right;
            count.false_positives += marks.filter(|marks| *marks == [false, false]).count() as u32;
        }
        Ok(count)
    };
    let mut counts = state.images.iter().map(count).collect::<Result<Vec<_>>>()?;
    counts.sort_by_key(|count| Reverse(count.errors()));
    Ok(counts)
}
