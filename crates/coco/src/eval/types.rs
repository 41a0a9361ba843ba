//! What evaluation works on: detections in, matches of images kept, and the thresholds of COCO.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::mask::Rle;

/// Number of IoU thresholds: 0.50 to 0.95 in steps of 0.05.
pub(crate) const THRESHOLDS: usize = 10;
/// A bit for every threshold.
pub(crate) const ALL: u16 = (1 << THRESHOLDS) - 1;
/// Area ranges in square pixels: all, small (to 32²), medium (to 96²), large. Both ends belong to a range.
pub(crate) const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];
/// How many limits of detections an image there are.
pub(super) const LIMITS: usize = 3;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IouType {
    /// Boxes.
    Bbox,
    /// Masks.
    Segm,
    /// Keypoints, compared by their object keypoint similarity (OKS).
    Keypoints,
}

impl IouType {
    /// `bbox`, `segm` or `keypoints`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bbox => "bbox",
            Self::Segm => "segm",
            Self::Keypoints => "keypoints",
        }
    }

    /// The best detections of an image and category that count. pycocotools has the last alone for keypoints.
    pub(crate) fn limits(self) -> [usize; LIMITS] {
        match self {
            Self::Bbox | Self::Segm => [1, 10, 100],
            Self::Keypoints => [1, 10, 20],
        }
    }
}

impl std::str::FromStr for IouType {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "bbox" => Ok(Self::Bbox),
            "segm" => Ok(Self::Segm),
            "keypoints" => Ok(Self::Keypoints),
            _ => anyhow::bail!("`{text}` is not an IoU type; there are `bbox`, `segm` and `keypoints`"),
        }
    }
}

/// One detected object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detection {
    /// The category's id in the annotation file.
    pub category_id: u32,
    /// `[x, y, width, height]` in pixels of the original image.
    pub bbox: [f64; 4],
    /// Higher is surer; any finite scale.
    pub score: f64,
    /// The mask at the size of the original image; needed for [`IouType::Segm`].
    pub mask: Option<Rle>,
    /// x and y of each keypoint in pixels of the original image; needed for [`IouType::Keypoints`]. The third number is not looked at.
    pub keypoints: Vec<[f64; 3]>,
    /// Square pixels, for the area ranges. `None` takes the box's for `bbox`, the mask's for `segm`, and that of the box around all
    /// keypoints for `keypoints`.
    pub area: Option<f64>,
}

/// What evaluation has seen so far: small, mergeable, and serialisable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub(crate) iou: IouType,
    /// By image id: an order of its own makes ties between images fall as in pycocotools.
    pub(crate) images: BTreeMap<i64, ImageMatches>,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageMatches {
    /// In order of the categories' ids.
    pub classes: Vec<ClassMatches>,
    /// What kinds of errors there are, where that was asked for ([`super::Evaluator::diagnosing`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<ImageErrors>,
    /// Detections given.
    pub detections: usize,
    /// Those of a category that the annotations do not have.
    pub unknown_categories: usize,
}

/// What one detection is at each IoU threshold, a bit each from the lowest, in one area range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Marks {
    /// It found an object.
    pub matched: u16,
    /// It counts neither for nor against.
    pub ignored: u16,
}

/// One category in one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassMatches {
    pub category_id: u32,
    /// Objects to be found in each area range.
    pub truths: [u32; AREAS.len()],
    /// Scores of the best detections, falling; equal ones in the order they were given.
    pub scores: Vec<f64>,
    /// What those detections are, in each area range.
    pub marks: Vec<[Marks; AREAS.len()]>,
}

/// What is wrong with a false positive, by the names of TIDE (Bolya et al. 2020, section 2.2): its kinds of errors but that of missed
/// objects. The first that fits counts, in the order of the `tidecv` package: `Loc`, `Cls`, `Dupe`, `Bkg`, `Both`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ErrorKind {
    /// Localized right, classified wrong: IoU with an object of another category of 0.5 or more.
    Cls,
    /// Classified right, localized wrong: IoU with objects of its category from 0.1 to 0.5.
    Loc,
    /// Classified and localized wrong: IoU with an object of another category between 0.1 and 0.5.
    Both,
    /// A second detection of an object that one of a higher score has found.
    Dupe,
    /// On the background: IoU with all objects of 0.1 or less.
    Bkg,
}

/// What diagnostics need of an image besides its matches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageErrors {
    /// Category ids of the objects that are no crowds.
    pub objects: Vec<u32>,
    /// Category ids of those that no detection finds, nor would if all were localized and classified right.
    pub missed: Vec<u32>,
    /// Of each detection of [`ImageMatches::classes`], class after class.
    pub detections: Vec<Judged>,
}

/// One detection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// What is wrong; none where it is right or does not count.
    pub error: Option<ErrorKind>,
    /// The category in which it would be right if that error were mended: of all that would find an object the one of the highest score.
    pub mended: Option<u32>,
    /// The category of the object that it finds where categories do not matter.
    pub across: Option<u32>,
}
