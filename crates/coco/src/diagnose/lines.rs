//! The detections of each category of all images.

use anyhow::{Context, Result};

use crate::eval::{ErrorKind, ImageErrors, State, falling};
use crate::index::Index;
use crate::parallel::parallel;

/// One detection at IoU 0.5.
pub(super) struct Found {
    pub score: f64,
    /// It finds an object.
    pub right: bool,
    /// It counts neither for nor against.
    pub ignored: bool,
    /// What is wrong with it.
    pub error: Option<ErrorKind>,
    /// The category in which it would be right without that error.
    pub mended: Option<u32>,
}

impl Found {
    /// A false positive.
    pub fn wrong(&self) -> bool {
        !self.right && !self.ignored
    }
}

/// One category.
#[derive(Default)]
pub(super) struct Line {
    pub id: u32,
    /// Objects to be found.
    pub truths: u32,
    /// In falling order of the scores; equal ones in order of their images.
    pub found: Vec<Found>,
    /// Objects that no detection would find without its error.
    pub missed: u32,
}

/// A line for each category, in order of their ids.
pub(super) fn lines(truth: &Index, state: &State) -> Result<Vec<Line>> {
    let ids: Vec<u32> = truth.categories().iter().map(|category| category.id).collect();
    let mut lines: Vec<Line> = ids.iter().map(|&id| Line { id, ..Line::default() }).collect();
    for image in state.images.values() {
        let errors = kept(&image.errors)?;
        for id in &errors.missed {
            if let Ok(k) = ids.binary_search(id) {
                lines[k].missed += 1;
            }
        }
        let mut judged = errors.detections.iter();
        for class in &image.classes {
            let own: Vec<_> = judged.by_ref().take(class.scores.len()).collect();
            let Ok(k) = ids.binary_search(&class.category_id) else { continue };
            lines[k].truths += class.truths[0];
            let found = class.scores.iter().zip(&class.marks).zip(own).map(|((&score, marks), judged)| {
                let [matched, ignored] = [marks[0].matched, marks[0].ignored].map(|bits| bits & 1 == 1);
                let (error, mended) = (judged.error, judged.mended);
                Found { score, right: matched && !ignored, ignored, error, mended }
            });
            lines[k].found.extend(found);
        }
    }
    let orders = parallel(&lines, |line| {
        let mut order: Vec<u32> = (0..line.found.len() as u32).collect();
        order.sort_by(|&a, &b| falling(line.found[a as usize].score, line.found[b as usize].score));
        order
    });
    for (line, order) in lines.iter_mut().zip(orders) {
        let mut found: Vec<Option<Found>> = std::mem::take(&mut line.found).into_iter().map(Some).collect();
        line.found = order.into_iter().filter_map(|i| found[i as usize].take()).collect();
    }
    Ok(lines)
}

/// What was kept of an image's errors.
pub(super) fn kept(errors: &Option<ImageErrors>) -> Result<&ImageErrors> {
    errors.as_ref().context("the evaluation has not kept the kinds of errors, which diagnostics need")
}
