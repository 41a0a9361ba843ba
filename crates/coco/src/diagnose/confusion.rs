//! Which category is found as which.

use anyhow::{Context, Result};
use serde::Serialize;

use super::lines::kept;
use crate::eval::{State, falling};
use crate::index::Index;

/// A confusion matrix with background, counted as the crate hotcoco does.
///
/// Detections of an image, the 100 of the highest scores that are no less than `confidence`, choose in order of their scores among all
/// objects, whatever their category: the one of the highest IoU of 0.5 or more that is left. Crowds are left out: a detection on one is on
/// the background.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Confusion {
    /// Scores below do not count; none where all do.
    pub confidence: Option<f64>,
    /// Names of the rows and columns: the categories in order of their ids, then `background`.
    pub names: Vec<String>,
    /// `[K + 1, K + 1]`: a row for what an object is, a column for what it is found as. Last in a row are the objects of a category that
    /// nothing finds, in the last row are detections that find nothing.
    pub matrix: Vec<Vec<u32>>,
}

/// Counts the detections with a score of `confidence` or more.
///
/// # Errors
/// A state without the kinds of errors.
pub fn confusion(truth: &Index, state: &State, confidence: f64) -> Result<Confusion> {
    let ids: Vec<u32> = truth.categories().iter().map(|category| category.id).collect();
    let at =
        |id: u32| ids.binary_search(&id).ok().with_context(|| format!("there is no category {id} in the annotations"));
    let background = ids.len();
    let mut matrix = vec![vec![0u32; background + 1]; background + 1];
    let mut counted: Vec<(f64, usize, Option<u32>)> = Vec::new();
    for image in state.images.values() {
        let errors = kept(&image.errors)?;
        for &id in &errors.objects {
            matrix[at(id)?][background] += 1;
        }
        counted.clear();
        let mut judged = errors.detections.iter();
        for class in &image.classes {
            let k = at(class.category_id)?;
            counted.extend(class.scores.iter().zip(judged.by_ref()).map(|(&score, judged)| (score, k, judged.across)));
        }
        counted.sort_by(|a, b| falling(a.0, b.0));
        let [.., most] = state.iou.limits();
        counted.truncate(most);
        for &(_, k, across) in counted.iter().take_while(|(score, ..)| *score >= confidence) {
            match across {
                Some(id) => {
                    let row = &mut matrix[at(id)?];
                    row[k] += 1;
                    row[background] -= 1;
                }
                None => matrix[background][k] += 1,
            }
        }
    }
    let names = truth.class_labels().into_iter().chain(["background".to_owned()]).collect();
    Ok(Confusion { confidence: confidence.is_finite().then_some(confidence), names, matrix })
}

impl Confusion {
    /// What is mistaken most often, the most frequent first: what it is, what it is found as, how often. Both are places in
    /// [`Confusion::names`]; objects that nothing finds and detections that find nothing are left out.
    pub fn mistakes(&self) -> Vec<(usize, usize, u32)> {
        let classes = self.names.len() - 1;
        let cells = (0..classes).flat_map(|is| (0..classes).map(move |found| (is, found)));
        let mut mistakes: Vec<_> = (cells.filter(|(is, found)| is != found))
            .map(|(is, found)| (is, found, self.matrix[is][found]))
            .filter(|(.., count)| *count > 0)
            .collect();
        mistakes.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
        mistakes
    }
}
