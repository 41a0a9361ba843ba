//! One image: what kind of error each false positive is, and which object it finds where categories do not matter.

use anyhow::Result;

use super::matching::{Measure, Row, falling};
use super::types::{AREAS, ClassMatches, Detection, ErrorKind, ImageErrors, Judged};
use crate::index::{Annotation, Index};

/// IoU from which a detection has found an object. COCO's lowest threshold.
const FOREGROUND: f64 = 0.5;
/// IoU up to which a detection has nothing to do with an object.
const BACKGROUND: f64 = 0.1;

/// Judges the detections of the image at a position, whose matches are there.
pub(super) fn of_image(
    index: &Index,
    position: usize,
    measure: Measure<'_>,
    detections: &[Detection],
    classes: &[ClassMatches],
) -> Result<ImageErrors> {
    let mut truths: Vec<&Annotation> = index.annotations(position).iter().collect();
    truths.retain(|truth| index.category_name(truth.category_id).is_some());
    truths.sort_by_key(|truth| truth.category_id);
    // As matched: by category and falling score, the best of each.
    let mut numbers: Vec<usize> = (0..detections.len()).collect();
    let of = |i: usize| &detections[i];
    numbers.sort_by(|&a, &b| {
        of(a).category_id.cmp(&of(b).category_id).then_with(|| falling(of(a).score, of(b).score)).then(a.cmp(&b))
    });
    let own = |class: &ClassMatches| {
        let all = numbers.iter().copied().filter(|&i| of(i).category_id == class.category_id);
        all.take(class.scores.len()).collect::<Vec<_>>()
    };
    let numbers: Vec<usize> = classes.iter().flat_map(own).collect();
    let found: Vec<&Detection> = numbers.iter().map(|&i| of(i)).collect();

    let image = &index.images()[position];
    let ious = measure.similarities(index, [image.height, image.width], &truths, &found, BACKGROUND)?;
    let [low, high] = AREAS[0];
    let ignored = truths.iter().map(|g| measure.ignores(index, g) || g.area < low || g.area > high).collect();
    let scene = Scene::new(truths, ignored, found, ious, classes);
    Ok(scene.judge(&numbers, classes))
}

/// Detections and objects of an image, both category by category.
struct Scene<'a> {
    truths: Vec<&'a Annotation>,
    /// Whether objects count neither for nor against.
    ignored: Vec<bool>,
    /// Whether a detection of their category finds them.
    taken: Vec<bool>,
    found: Vec<&'a Detection>,
    /// `[D, G]`.
    ious: Vec<f64>,
}

/// The object of the highest IoU, the first of equal ones.
#[derive(Clone, Copy, Default)]
struct Nearest {
    iou: f64,
    object: Option<usize>,
}

impl Nearest {
    fn of(ious: impl Iterator<Item = (usize, f64)>) -> Self {
        ious.fold(Self::default(), |best, (g, iou)| if iou > best.iou { Self { iou, object: Some(g) } } else { best })
    }
}

impl<'a> Scene<'a> {
    fn new(
        truths: Vec<&'a Annotation>,
        ignored: Vec<bool>,
        found: Vec<&'a Detection>,
        ious: Vec<f64>,
        classes: &[ClassMatches],
    ) -> Self {
        let mut scene = Self { taken: vec![false; truths.len()], ignored, truths, found, ious };
        let mut first = 0;
        for class in classes {
            scene.take(first, class);
            first += class.scores.len();
        }
        scene
    }

    /// Finds which objects the detections of a category find, as they were matched.
    fn take(&mut self, first: usize, class: &ClassMatches) {
        let own = self.own(class.category_id);
        let ious: Vec<f64> = (first..first + class.scores.len())
            .flat_map(|d| own.clone().map(move |g| (d, g)))
            .map(|(d, g)| self.iou(d, g))
            .collect();
        let mut taken = vec![0; own.len()];
        for row in Row::all(&ious, own.len()) {
            row.choose(&self.truths[own.clone()], &self.ignored[own.clone()], &mut taken);
        }
        for (g, taken) in own.zip(taken) {
            self.taken[g] = taken & 1 == 1;
        }
    }

    /// The objects of a category.
    fn own(&self, category_id: u32) -> std::ops::Range<usize> {
        let start = self.truths.partition_point(|truth| truth.category_id < category_id);
        start..self.truths.partition_point(|truth| truth.category_id <= category_id)
    }

    fn iou(&self, d: usize, g: usize) -> f64 {
        self.ious[d * self.truths.len() + g]
    }

    /// `numbers` are the detections' places in the order in which they were given.
    fn judge(&self, numbers: &[usize], classes: &[ClassMatches]) -> ImageErrors {
        let mut detections = vec![Judged::default(); self.found.len()];
        let mut aims = vec![None; self.found.len()];
        let marks = classes.iter().flat_map(|class| &class.marks);
        for (d, marks) in marks.enumerate() {
            if (marks[0].matched | marks[0].ignored) & 1 == 0 {
                let (error, aim) = self.error(d);
                detections[d].error = Some(error);
                // What is found already or does not count cannot be found by mending.
                aims[d] = aim.filter(|&g| !self.taken[g] && !self.ignored[g]);
            }
        }
        let mut best: Vec<Option<usize>> = vec![None; self.truths.len()];
        for (d, aim) in aims.iter().enumerate() {
            let Some(g) = *aim else { continue };
            let order = |d: usize| (self.found[d].score, numbers[d]);
            let wins = |other: usize| falling(order(d).0, order(other).0).then(order(d).1.cmp(&order(other).1)).is_lt();
            if best[g].is_none_or(wins) {
                best[g] = Some(d);
            }
        }
        for (g, d) in best.iter().enumerate() {
            if let Some(d) = *d {
                detections[d].mended = Some(self.truths[g].category_id);
            }
        }
        for (d, g) in self.across() {
            detections[d].across = Some(self.truths[g].category_id);
        }
        let categories = |keep: &dyn Fn(usize) -> bool| {
            (0..self.truths.len()).filter(|&g| keep(g)).map(|g| self.truths[g].category_id).collect()
        };
        let missed = |g: usize| !self.taken[g] && !self.ignored[g] && best[g].is_none();
        ImageErrors { objects: categories(&|g| !self.truths[g].crowd), missed: categories(&missed), detections }
    }

    /// What is wrong with a false positive, and the object it would find if that were mended.
    fn error(&self, d: usize) -> (ErrorKind, Option<usize>) {
        let own = self.own(self.found[d].category_id);
        let with_iou = |g: usize| (g, self.iou(d, g));
        let counting = own.clone().filter(|&g| !self.ignored[g]);
        let same = Nearest::of(counting.chain(own.clone().filter(|&g| self.ignored[g])).map(with_iou));
        let others = (0..self.truths.len()).filter(|g| !own.contains(g) && !self.truths[*g].crowd);
        let other = Nearest::of(others.map(with_iou));
        if (BACKGROUND..=FOREGROUND).contains(&same.iou) {
            (ErrorKind::Loc, same.object)
        } else if other.iou >= FOREGROUND {
            (ErrorKind::Cls, other.object)
        } else if own.clone().any(|g| self.taken[g] && self.iou(d, g) >= FOREGROUND) {
            (ErrorKind::Dupe, None)
        } else if other.iou <= BACKGROUND {
            (ErrorKind::Bkg, None)
        } else {
            (ErrorKind::Both, None)
        }
    }

    /// Which detection finds which object that is no crowd where categories do not matter: each in order of its score the one of the highest
    /// IoU that is left (the last of equal ones). What lies below a score changes nothing above it.
    fn across(&self) -> Vec<(usize, usize)> {
        let mut order: Vec<usize> = (0..self.found.len()).collect();
        order.sort_by(|&a, &b| falling(self.found[a].score, self.found[b].score));
        let mut left: Vec<bool> = self.truths.iter().map(|truth| !truth.crowd).collect();
        let mut pairs = Vec::new();
        for d in order {
            let near = (0..left.len()).filter(|&g| left[g]).map(|g| (g, self.iou(d, g)));
            let best =
                near.fold((FOREGROUND, None), |best, (g, iou)| if iou >= best.0 { (iou, Some(g)) } else { best });
            if let (_, Some(g)) = best {
                left[g] = false;
                pairs.push((d, g));
            }
        }
        pairs
    }
}
