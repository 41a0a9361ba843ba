//! Detections in, image by image; the summary out.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use super::matching::Measure;
use super::summary::Summary;
use super::types::{Detection, IouType, State};
use super::{accumulate, errors, matching, oks};
use crate::index::Index;
use crate::parallel::parallel;

/// Collects detections and computes the summary.
///
/// Evaluated are the images that were added: one with no detections counts (its objects were missed), one never added does not.
pub struct Evaluator {
    truth: Arc<Index>,
    state: State,
    /// Whether the kinds of errors are kept as well.
    diagnosing: bool,
    /// For keypoints, a constant of each.
    sigmas: Vec<f64>,
}

impl Evaluator {
    /// An evaluator without detections. Keypoints are compared with COCO's constants if there are a person's 17, otherwise with 0.067
    /// for each.
    pub fn new(truth: &Arc<Index>, iou: IouType) -> Self {
        let state = State { iou, images: BTreeMap::new() };
        let sigmas = if iou == IouType::Keypoints { oks::usual_sigmas(truth.keypoint_count()) } else { Vec::new() };
        Self { truth: Arc::clone(truth), state, sigmas, diagnosing: false }
    }

    /// As well keeps of each image what [`crate::diagnose::diagnose`] needs: some 20 bytes more a detection, and each is compared with the
    /// objects of all categories.
    pub fn diagnosing(self, diagnosing: bool) -> Self {
        Self { diagnosing, ..self }
    }

    /// Keypoints compared with these constants, one for each.
    ///
    /// # Errors
    /// They are not as many as the keypoints, or not above 0.
    pub fn with_sigmas(self, sigmas: Vec<f64>) -> Result<Self> {
        oks::check_sigmas(&sigmas, &self.truth)?;
        Ok(Self { sigmas, ..self })
    }

    /// Adds all detections of one image, possibly none. Adding an image again replaces what was there.
    ///
    /// # Errors
    /// An image the annotations do not have; for masks, a detection without one or of another size; for keypoints, one
    /// with another number of them; a score or box that
    /// is not finite.
    pub fn add(&mut self, image_id: i64, detections: Vec<Detection>) -> Result<()> {
        self.add_all(vec![(image_id, detections)])
    }

    /// Adds many images, matched on all cores.
    ///
    /// # Errors
    /// As [`Evaluator::add`]; nothing is added then.
    pub fn add_all(&mut self, images: Vec<(i64, Vec<Detection>)>) -> Result<()> {
        self.add_made(&images, |_, detections| Ok(Cow::Borrowed(detections)))
    }

    /// Adds many images, whose detections are made beside their matching, so that those of few images are held at once. What cannot be made
    /// fails with a number; of several failures the lowest counts.
    pub(super) fn add_made<T: Sync>(
        &mut self,
        images: &[(i64, T)],
        make: impl for<'a> Fn(usize, &'a T) -> Result<Cow<'a, [Detection]>, (usize, anyhow::Error)> + Sync,
    ) -> Result<()> {
        let (truth, diagnosing) = (&*self.truth, self.diagnosing);
        let measure = Measure { iou: self.state.iou, sigmas: &self.sigmas };
        let matched = parallel(images, |(image_id, given)| {
            let late = |error: anyhow::Error| (usize::MAX, error);
            let position = truth.position(*image_id).with_context(|| unknown_image(*image_id)).map_err(late)?;
            let detections = make(position, given)?;
            let matched = matching::match_image(truth, position, measure, &detections).and_then(|mut matched| {
                if diagnosing {
                    matched.errors = Some(errors::of_image(truth, position, measure, &detections, &matched.classes)?);
                }
                Ok(matched)
            });
            matched.with_context(|| format!("image {image_id}")).map_err(late)
        });
        let mut failed: Option<(usize, anyhow::Error)> = None;
        let mut all = Vec::with_capacity(images.len());
        for matched in matched {
            match matched {
                Ok(matched) => all.push(matched),
                Err(error) if failed.as_ref().is_none_or(|(first, _)| error.0 < *first) => failed = Some(error),
                Err(_) => {}
            }
        }
        if let Some((_, error)) = failed {
            return Err(error);
        }
        self.state.images.extend(images.iter().map(|(id, _)| *id).zip(all));
        Ok(())
    }

    /// Number of images added.
    pub fn image_count(&self) -> usize {
        self.state.images.len()
    }

    /// What has been added, to be stored or sent to [`Evaluator::merge`] of another evaluator.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// As [`Evaluator::state`], at the end.
    pub fn into_state(self) -> State {
        self.state
    }

    /// Adds what another evaluator of the same annotations has seen. An image both have counts once.
    ///
    /// # Errors
    /// A state of the other IoU type, or with images that the annotations do not have.
    pub fn merge(&mut self, other: State) -> Result<()> {
        let (own, others) = (self.state.iou.name(), other.iou.name());
        ensure!(own == others, "a state of `{others}` cannot be merged into an evaluation of `{own}`");
        if let Some(&id) = other.images.keys().find(|&&id| self.truth.position(id).is_none()) {
            anyhow::bail!(unknown_image(id));
        }
        self.state.images.extend(other.images);
        Ok(())
    }

    /// Forgets all detections.
    pub fn reset(&mut self) {
        self.state.images.clear();
    }

    /// The summary over the images added so far; more may be added afterwards.
    pub fn finish(&self) -> Summary {
        let curves = accumulate::accumulate(&self.truth, &self.state.images, self.state.iou.limits());
        Summary::new(&self.truth, &self.state, curves)
    }
}

fn unknown_image(id: i64) -> String {
    format!("image {id} is not in the annotations; were the detections made on another split?")
}
