//! The 12 numbers (of keypoints 10), and averages of each category (`COCOeval.summarize`).

use std::fmt;

use super::accumulate::{Curves, RECALLS};
use super::types::{IouType, State, THRESHOLDS};
use crate::index::Index;

/// What one number averages over: precision or recall, the IoU threshold (all when `None`), area range, limit.
struct Line {
    precision: bool,
    threshold: Option<usize>,
    area: usize,
    limit: usize,
}

const fn line(precision: bool, threshold: Option<usize>, area: usize, limit: usize) -> Line {
    Line { precision, threshold, area, limit }
}

const LINES: [Line; 12] = [
    line(true, None, 0, 2),
    line(true, Some(0), 0, 2),
    line(true, Some(5), 0, 2),
    line(true, None, 1, 2),
    line(true, None, 2, 2),
    line(true, None, 3, 2),
    line(false, None, 0, 0),
    line(false, None, 0, 1),
    line(false, None, 0, 2),
    line(false, None, 1, 2),
    line(false, None, 2, 2),
    line(false, None, 3, 2),
];

/// Of keypoints, which small objects do not have.
const KEYPOINT_LINES: [Line; 10] = [
    line(true, None, 0, 2),
    line(true, Some(0), 0, 2),
    line(true, Some(5), 0, 2),
    line(true, None, 2, 2),
    line(true, None, 3, 2),
    line(false, None, 0, 2),
    line(false, Some(0), 0, 2),
    line(false, Some(5), 0, 2),
    line(false, None, 2, 2),
    line(false, None, 3, 2),
];

fn lines(iou: IouType) -> &'static [Line] {
    match iou {
        IouType::Bbox | IouType::Segm => &LINES,
        IouType::Keypoints => &KEYPOINT_LINES,
    }
}

/// One category's averages, over all areas and at most 100 detections an image (of keypoints 20); −1 without ground truth.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassSummary {
    /// The category's id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Average precision over IoU 0.50 … 0.95.
    pub ap: f64,
    /// Average precision at IoU 0.50.
    pub ap50: f64,
    /// Average precision at IoU 0.75.
    pub ap75: f64,
    /// Average recall over IoU 0.50 … 0.95.
    pub ar: f64,
}

/// The result of an evaluation. Its text is the lines that pycocotools prints.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// What was compared.
    pub iou: IouType,
    /// The numbers, see [`Summary::names`]; −1 where no ground truth counts.
    pub stats: Vec<f64>,
    /// Every category, in order of the ids.
    pub per_class: Vec<ClassSummary>,
    /// The curves behind the numbers.
    pub curves: Curves,
    /// Images evaluated.
    pub images: usize,
    /// Detections given.
    pub detections: usize,
    /// Detections left out because the annotations do not have their category.
    pub unknown_categories: usize,
}

impl Summary {
    /// Short names of the numbers.
    pub fn names(iou: IouType) -> &'static [&'static str] {
        match iou {
            IouType::Bbox | IouType::Segm => {
                &["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
            }
            IouType::Keypoints => &["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"],
        }
    }

    pub(super) fn new(truth: &Index, state: &State, curves: Curves) -> Self {
        let all = 0..curves.classes;
        let per_class = (truth.categories().iter().zip(truth.class_labels()).enumerate())
            .map(|(k, (category, name))| {
                let mean = |precision, threshold| average(&curves, &line(precision, threshold, 0, 2), k..k + 1);
                ClassSummary {
                    id: category.id,
                    name,
                    ap: mean(true, None),
                    ap50: mean(true, Some(0)),
                    ap75: mean(true, Some(5)),
                    ar: mean(false, None),
                }
            })
            .collect();
        Self {
            iou: state.iou,
            stats: lines(state.iou).iter().map(|line| average(&curves, line, all.clone())).collect(),
            per_class,
            curves,
            images: state.images.len(),
            detections: state.images.values().map(|image| image.detections).sum(),
            unknown_categories: state.images.values().map(|image| image.unknown_categories).sum(),
        }
    }

    /// The numbers with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> + '_ {
        Self::names(self.iou).iter().copied().zip(self.stats.iter().copied())
    }
}

/// Mean over what is not −1 in some of the categories; −1 when nothing is left.
fn average(curves: &Curves, line: &Line, classes: std::ops::Range<usize>) -> f64 {
    let thresholds = line.threshold.map_or(0..THRESHOLDS, |t| t..t + 1);
    let (mut sum, mut count) = (0.0, 0u32);
    let mut take = |value: f64| {
        if value > -1.0 {
            sum += value;
            count += 1;
        }
    };
    for t in thresholds {
        for k in classes.clone() {
            if line.precision {
                (0..RECALLS).for_each(|r| take(curves.precision_at([t, r, k, line.area, line.limit])));
            } else {
                take(curves.recall_at([t, k, line.area, line.limit]));
            }
        }
    }
    if count == 0 { -1.0 } else { sum / f64::from(count) }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (line, value)) in lines(self.iou).iter().zip(&self.stats).enumerate() {
            let (title, short) =
                if line.precision { ("Average Precision", "(AP)") } else { ("Average Recall", "(AR)") };
            let iou = match line.threshold {
                None => "0.50:0.95",
                Some(0) => "0.50",
                Some(_) => "0.75",
            };
            let area = ["all", "small", "medium", "large"][line.area];
            let limit = self.iou.limits()[line.limit];
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, " {title:<18} {short} @[ IoU={iou:<9} | area={area:>6} | maxDets={limit:>3} ] = {value:.3}")?;
        }
        Ok(())
    }
}
