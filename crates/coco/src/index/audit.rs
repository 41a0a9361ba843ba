//! The dataset summary: problems of a dataset, counted, with examples.

use std::collections::BTreeMap;
use std::fmt;

/// Examples kept of each problem.
const EXAMPLES: usize = 5;

/// A problem in a dataset. The id that goes with it is the image's or the annotation's, see [`Problem::subject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Problem {
    /// An image with something else than a number for its id or size, or than a text for its name. Known by its place in the list.
    OddImage,
    /// An annotation with something else than a number for an id, or for `iscrowd`. Known by its place in the list.
    OddAnnotation,
    /// The image's file is not there.
    MissingFile,
    /// The image's file has another size than the annotations say.
    SizeMismatch,
    /// A box that is not four finite numbers: missing, empty, `null`, `NaN`.
    NoBox,
    /// The annotation's image is not in the file.
    DanglingImage,
    /// The annotation's category is not in the file.
    DanglingCategory,
    /// An id that an earlier annotation has.
    DuplicateAnnotation,
    /// A box without width or height, or not finite.
    DegenerateBox,
    /// A box that lies wholly outside its image.
    BoxOutside,
    /// A box that reaches more than a pixel outside its image.
    BoxReachesOut,
    /// No `area`: the box's is taken.
    MissingArea,
    /// A polygon of fewer than three points or of an odd number of coordinates.
    BadPolygon,
    /// Polygons that lie wholly outside their image.
    PolygonOutside,
    /// Run lengths that cannot be decoded.
    BadRuns,
    /// Run lengths of another size than the image.
    RunsSize,
    /// A segmentation without a single pixel.
    EmptyMask,
    /// Keypoints that are not three finite numbers for each that the category names.
    BadKeypoints,
}

impl Problem {
    /// What the ids belong to: `image` or `annotation`.
    pub fn subject(self) -> &'static str {
        match self {
            Self::MissingFile | Self::SizeMismatch | Self::OddImage => "image",
            _ => "annotation",
        }
    }

    /// What the numbers that go with it are: ids, or places in the file's list, from 0 on.
    pub fn by(self) -> &'static str {
        if matches!(self, Self::OddImage | Self::OddAnnotation) { "entry" } else { "id" }
    }

    /// What is wrong, and what is done about it.
    pub fn text(self) -> (&'static str, &'static str) {
        const NO_MASK: &str = "not used in training with masks; an empty mask in evaluation";
        match self {
            Self::OddImage => {
                ("an id, width, height or file_name that is missing or of another type (null, a text)", "left out")
            }
            Self::OddAnnotation => (
                "an id, image_id, category_id or iscrowd that is missing or of another type (null, a text)",
                "left out",
            ),
            Self::MissingFile => ("file not found", "skipped"),
            Self::SizeMismatch => ("image size differs from the annotations", "skipped"),
            Self::NoBox => {
                ("a box that is not four finite numbers (missing, empty, null, NaN or Infinity)", "left out")
            }
            Self::DanglingImage => ("unknown image_id", "skipped"),
            Self::DanglingCategory => ("unknown category_id", "skipped"),
            Self::DuplicateAnnotation => ("id given twice", "the first one is kept"),
            Self::DegenerateBox => ("degenerate box (no width or height)", "not used in training; kept in evaluation"),
            Self::BoxOutside => ("box entirely outside the image", "not used in training; kept in evaluation"),
            Self::BoxReachesOut => ("box extends more than a pixel outside the image", "kept; training clips it"),
            Self::MissingArea => ("no area", "width × height of the box is used"),
            Self::BadPolygon => {
                ("polygon with fewer than 3 points or an odd number of coordinates", "that polygon is ignored")
            }
            Self::PolygonOutside => ("polygons entirely outside the image", NO_MASK),
            Self::BadRuns => ("invalid RLE", NO_MASK),
            Self::RunsSize => ("RLE size differs from the image", NO_MASK),
            Self::EmptyMask => ("empty segmentation mask", NO_MASK),
            Self::BadKeypoints => ("keypoints that are not x, y, v for each that the category names", "not labelled"),
        }
    }
}

/// How often a problem occurred, and where first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Finding {
    /// Occurrences.
    pub count: usize,
    /// The first few ids.
    pub examples: Vec<i64>,
}

/// All problems of a dataset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audit {
    findings: BTreeMap<Problem, Finding>,
}

impl Audit {
    /// Counts one occurrence, for the id of an image or annotation.
    pub fn record(&mut self, problem: Problem, id: i64) {
        let finding = self.findings.entry(problem).or_default();
        finding.count += 1;
        if finding.examples.len() < EXAMPLES {
            finding.examples.push(id);
        }
    }

    /// Adds another audit's findings.
    pub fn merge(&mut self, other: &Self) {
        for (&problem, more) in &other.findings {
            let finding = self.findings.entry(problem).or_default();
            finding.count += more.count;
            finding.examples.extend(&more.examples);
            finding.examples.truncate(EXAMPLES);
        }
    }

    /// Occurrences of a problem.
    pub fn count(&self, problem: Problem) -> usize {
        self.findings.get(&problem).map_or(0, |finding| finding.count)
    }

    /// Every problem that occurred.
    pub fn findings(&self) -> impl Iterator<Item = (Problem, &Finding)> {
        self.findings.iter().map(|(&problem, finding)| (problem, finding))
    }

    /// Nothing odd was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// One line a problem: how many, what, what was done, the first ids.
impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (problem, finding)) in self.findings().enumerate() {
            let (what, done) = problem.text();
            let plural = if finding.count == 1 { "" } else { "s" };
            let ids: Vec<String> = finding.examples.iter().map(i64::to_string).collect();
            let more = if finding.count > ids.len() { ", …" } else { "" };
            if i > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{} {}{plural}: {what}: {done} ({} {}{more})",
                finding.count,
                problem.subject(),
                problem.by(),
                ids.join(", ")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_a_problem() {
        let mut audit = Audit::default();
        assert!(audit.is_clean() && audit.to_string().is_empty());
        (1..=7).for_each(|id| audit.record(Problem::DegenerateBox, id));
        audit.record(Problem::MissingFile, 42);
        let mut other = Audit::default();
        other.record(Problem::DegenerateBox, 99);
        audit.merge(&other);
        assert_eq!(audit.count(Problem::DegenerateBox), 8);
        assert_eq!(
            audit.to_string(),
            "1 image: file not found: skipped (id 42)\n\
             8 annotations: degenerate box (no width or height): not used in training; kept in evaluation (id 1, 2, 3, 4, 5, …)"
        );
    }
}
