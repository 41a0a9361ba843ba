//! COCO evaluation of boxes, masks and keypoints: the 12 numbers (of keypoints 10), equal to pycocotools' `COCOeval`.
//!
//! | file | holds |
//! |---|---|
//! | `types.rs` | [`Detection`], [`IouType`], [`State`], and the thresholds, areas and limits of COCO |
//! | `evaluator.rs` | [`Evaluator`]: detections in, image by image; [`Summary`] out |
//! | `matching.rs` | one image: detections matched to ground truth at ten IoU thresholds and four area ranges |
//! | `errors.rs` | one image: kinds of errors, and a matching across categories, for [`crate::diagnose`] |
//! | `oks.rs` | how near keypoints are to those of an object |
//! | `accumulate.rs` | all images: precision and recall curves of each category |
//! | `summary.rs` | [`Summary`]: the numbers, averages of each category, text as pycocotools prints it |
//! | `results.rs` | [`score`]: a results file against an annotation file |
//!
//! An image is matched when it is added and only a few bytes a detection are kept, so evaluation streams, and states of
//! several processes merge. Own code rather than the crate
//! hotcoco: that one brings its own model of the annotation file beside [`Index`], converters with an XML parser, and a
//! thread pool, for what is a few hundred lines here.
//!
//! Two differences to pycocotools are meant: it takes a ground truth with id 0 for "no match", where here ids do not matter; and whether an
//! object has keypoints is read off the keypoints, not off `num_keypoints`.

mod accumulate;
mod errors;
mod evaluator;
mod matching;
mod oks;
mod results;
mod summary;
mod types;

pub use accumulate::Curves;
pub(crate) use accumulate::{RECALLS, average_precision, recall_threshold};
pub use evaluator::Evaluator;
pub(crate) use matching::falling;
pub use results::{ResultEntry, Score, ScoreOptions, Scored, read_results, score, score_both};
pub use summary::{ClassSummary, Summary};
pub(crate) use types::{ALL, ImageErrors, ImageMatches, Marks, THRESHOLDS};
pub use types::{Detection, ErrorKind, IouType, State};
