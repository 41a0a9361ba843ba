//! COCO evaluation of boxes and masks: the 12 numbers, equal to pycocotools' `COCOeval`.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Evaluator`]: detections in, image by image; [`Summary`] out |
//! | `matching.rs` | one image: detections matched to ground truth at ten IoU thresholds and four area ranges |
//! | `accumulate.rs` | all images: precision and recall curves of each category |
//! | `summary.rs` | [`Summary`]: the 12 numbers, averages of each category, text as pycocotools prints it |
//! | `results.rs` | [`score`]: a results file against an annotation file |
//!
//! An image is matched when it is added and only a few bytes a detection are kept, so evaluation streams, and states of
//! several processes merge. Own code rather than the crate
//! hotcoco: that one brings its own model of the annotation file beside [`Index`], converters with an XML parser, and a
//! thread pool, for what is a few hundred lines here.
//!
//! One difference to pycocotools is meant: it takes a ground truth with id 0 for "no match"; here ids do not matter.

mod accumulate;
mod matching;
mod results;
mod summary;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

pub use accumulate::Curves;
pub use results::{ResultEntry, ScoreOptions, Scored, read_results, score};
pub use summary::{ClassSummary, Summary};

use crate::index::Index;
use crate::mask::Rle;
use crate::parallel::parallel;
use matching::ClassMatches;

/// Number of IoU thresholds: 0.50 to 0.95 in steps of 0.05.
const THRESHOLDS: usize = 10;
/// Area ranges in square pixels: all, small (to 32²), medium (to 96²), large. Both ends belong to a range.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];
/// The best detections of an image and category that count.
const MAX_DETECTIONS: [usize; 3] = [1, 10, 100];

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IouType {
    /// Boxes.
    Bbox,
    /// Masks.
    Segm,
}

impl IouType {
    /// `bbox` or `segm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bbox => "bbox",
            Self::Segm => "segm",
        }
    }
}

impl std::str::FromStr for IouType {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bbox" => Ok(Self::Bbox),
            "segm" => Ok(Self::Segm),
            _ => anyhow::bail!("`{text}` is not an IoU type; there are `bbox` and `segm`"),
        }
    }
}

/// One detected object.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The category's id in the annotation file.
    pub category_id: u32,
    /// `[x, y, width, height]` in pixels of the original image.
    pub bbox: [f64; 4],
    /// Higher is surer; any finite scale.
    pub score: f64,
    /// The mask at the size of the original image; needed for [`IouType::Segm`].
    pub mask: Option<Rle>,
    /// Square pixels, for the area ranges. `None` takes the box's for `bbox` and the mask's for `segm`.
    pub area: Option<f64>,
}

/// What evaluation has seen so far: small, mergeable, and serialisable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    iou: IouType,
    /// By image id: an order of its own makes ties between images fall as in pycocotools.
    images: BTreeMap<i64, ImageMatches>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ImageMatches {
    classes: Vec<ClassMatches>,
    /// Detections given.
    detections: usize,
    /// Those of a category that the annotations do not have.
    unknown_categories: usize,
}

/// Collects detections and computes the summary.
///
/// Evaluated are the images that were added: one with no detections counts (its objects were missed), one never added does not.
pub struct Evaluator {
    truth: Arc<Index>,
    state: State,
}

impl Evaluator {
    /// An evaluator without detections.
    pub fn new(truth: &Arc<Index>, iou: IouType) -> Self {
        let state = State { iou, images: BTreeMap::new() };
        Self { truth: Arc::clone(truth), state }
    }

    /// Adds all detections of one image, possibly none. Adding an image again replaces what was there.
    ///
    /// # Errors
    /// An image the annotations do not have; for masks, a detection without one or of another size; a score or box that
    /// is not finite.
    pub fn add(&mut self, image_id: i64, detections: Vec<Detection>) -> Result<()> {
        self.add_all(vec![(image_id, detections)])
    }

    /// Adds many images, matched on all cores.
    ///
    /// # Errors
    /// As [`Evaluator::add`]; nothing is added then.
    pub fn add_all(&mut self, images: Vec<(i64, Vec<Detection>)>) -> Result<()> {
        let (truth, iou) = (&*self.truth, self.state.iou);
        let matched = parallel(&images, |(image_id, detections)| {
            let position = truth.position(*image_id).with_context(|| unknown_image(*image_id))?;
            matching::match_image(truth, position, iou, detections).with_context(|| format!("image {image_id}"))
        });
        let matched = matched.into_iter().collect::<Result<Vec<_>>>()?;
        self.state.images.extend(images.into_iter().map(|(id, _)| id).zip(matched));
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
        *self = Self::new(&self.truth, self.state.iou);
    }

    /// The summary over the images added so far; more may be added afterwards.
    pub fn finish(&self) -> Summary {
        let curves = accumulate::accumulate(&self.truth, &self.state.images);
        Summary::new(&self.truth, &self.state, curves)
    }
}

fn unknown_image(id: i64) -> String {
    format!("image {id} is not in the annotations; were the detections made on another split?")
}
