//! From a file to a checked [`Index`].

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{BufReader, Read, Seek};
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use pipe_vocab::files;

use super::parse::Raw;
use super::python_json::PythonJson;
use super::segments::{Segments, Slot};
use super::{Annotation, Audit, Category, Image, Index, Problem};
use crate::mask::Rle;
use crate::parallel::parallel;

/// Images that a thread looks at before it takes others.
const PART: usize = 1000;
/// The largest datasets have 13,000.
const MAX_CATEGORIES: usize = 20_000;

/// How a file is read.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Annotations whose image or category does not exist, or whose id is taken, are errors; else they are skipped and
    /// counted in the audit.
    pub strict: bool,
    /// Whether the images are to be read: each must have a name and a size then. Scoring needs neither.
    pub images: bool,
    /// Whether the keypoints of objects are read.
    pub keypoints: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { strict: true, images: true, keypoints: false }
    }
}

impl Index {
    /// Reads and checks a COCO detection file.
    ///
    /// # Errors
    /// A file that cannot be read or is cut short (with the place); a section missing; an entry of the wrong type (with
    /// its number); ids given twice or pointing nowhere, see [`LoadOptions::strict`].
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self> {
        let name = path.display().to_string();
        let file = files::open(path).with_context(|| format!("cannot open the annotations {name}"))?;
        Self::read(file, &name, options)
    }

    /// As [`Index::open`], from any reader; `name` is for messages.
    ///
    /// # Errors
    /// As [`Index::open`].
    pub fn read(mut reader: impl Read + Seek + Send, name: &str, options: &LoadOptions) -> Result<Self> {
        let raw = match Raw::read_quickly(&mut reader, options.keypoints) {
            Some(raw) => raw,
            None => {
                reader.rewind().with_context(|| format!("cannot read {name}"))?;
                let reader = BufReader::with_capacity(1 << 18, PythonJson::new(reader));
                Raw::read(reader, name, options.keypoints)?
            }
        };
        Self::resolve(raw, options).with_context(|| format!("in {name}"))
    }

    /// Leaves out the images whose file is not in the folder, and counts them in the audit.
    ///
    /// # Errors
    /// When not one of the files is there: then the folder is wrong.
    pub fn with_files(mut self, folder: &Path) -> Result<Self> {
        // Listing the folder once is faster than asking for 118,000 files, by far so over a network.
        let listed: HashSet<OsString> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        let there = |position: &usize| {
            let name = &*self.images[*position].file_name;
            listed.contains(OsStr::new(name)) || (name.contains('/') && folder.join(name).is_file())
        };
        let (kept, missing): (Vec<usize>, Vec<usize>) = (0..self.images.len()).partition(there);
        if missing.is_empty() {
            return Ok(self);
        }
        ensure!(
            !kept.is_empty(),
            "none of the {} images is in the folder {} (such as {}); is it the right one?",
            missing.len(),
            folder.display(),
            self.images[missing[0]].file_name
        );
        missing.iter().for_each(|&p| self.audit.record(Problem::MissingFile, self.images[p].id));
        self.subset(&kept)
    }

    pub(super) fn resolve(raw: Raw, options: &LoadOptions) -> Result<Self> {
        let missing = |section: &str| {
            format!("no `{section}` section; a detection file has `images`, `annotations` and `categories`")
        };
        let images = sorted_images(raw.images.with_context(|| missing("images"))?)?;
        if options.images {
            refuse_unknown_images(&images)?;
        }
        let categories = sorted_categories(raw.categories.with_context(|| missing("categories"))?)?;
        let mut annotations = raw.annotations.with_context(|| missing("annotations"))?;

        let mut audit = Audit::default();
        raw.odd_images.iter().for_each(|&place| audit.record(Problem::OddImage, place));
        raw.odd_annotations.iter().for_each(|&place| audit.record(Problem::OddAnnotation, place));
        raw.without_area.iter().for_each(|&id| audit.record(Problem::MissingArea, id));
        drop_without_box(&mut annotations, &mut audit);
        drop_unresolved(&mut annotations, &images, &categories, &mut audit);
        drop_duplicates(&mut annotations, &mut audit);
        if options.strict {
            let way = if options.images { "set `strict = false`" } else { "give `--lenient`" };
            refuse(&audit, way)?;
        }
        sort_by_image(&mut annotations);
        let starts = starts(&images, &annotations)?;
        let (segments, keypoints) = (raw.segments, raw.keypoints.unwrap_or_default());
        let mut index = Self { images, categories, annotations, starts, segments, keypoints, audit };
        index.segments.shrink();
        if options.keypoints {
            index.inspect_keypoints();
        }
        index.inspect();
        Ok(index)
    }

    /// Leaves out keypoints that are not those of the object's category.
    fn inspect_keypoints(&mut self) {
        let Index { annotations, categories, keypoints, audit, .. } = self;
        for annotation in &*annotations {
            let category = categories.iter().find(|category| category.id == annotation.category_id);
            keypoints.expect(annotation.id, category.map_or(0, |category| category.keypoints.len()));
        }
        keypoints.take_odd().into_iter().for_each(|id| audit.record(Problem::BadKeypoints, id));
    }

    /// Looks at every annotation for what training cannot use.
    fn inspect(&mut self) {
        let positions: Vec<usize> = (0..self.images.len()).step_by(PART).collect();
        let parts = parallel(&positions, |&first| self.inspect_part(first..(first + PART).min(self.images.len())));
        for (audit, unusable) in parts {
            self.audit.merge(&audit);
            for (at, [box_usable, mask_usable]) in unusable {
                let annotation = &mut self.annotations[at];
                annotation.box_usable &= box_usable;
                annotation.mask_usable &= mask_usable;
            }
        }
    }

    /// Whether box and mask can be used of those annotations of some images of which one cannot.
    fn inspect_part(&self, positions: Range<usize>) -> (Audit, Vec<(usize, [bool; 2])>) {
        let (mut audit, mut unusable) = (Audit::default(), Vec::new());
        for position in positions {
            let image = &self.images[position];
            // Without a size nothing can be said of what lies outside.
            if image.width == 0 || image.height == 0 {
                continue;
            }
            let first = self.starts[position] as usize;
            for (i, annotation) in self.annotations(position).iter().enumerate() {
                let usable = [
                    inspect_box(annotation, image, &mut audit),
                    inspect_mask(annotation, image, &self.segments, &mut audit),
                ];
                if usable != [true; 2] {
                    unusable.push((first + i, usable));
                }
            }
        }
        (audit, unusable)
    }
}

fn sorted_images(mut images: Vec<Image>) -> Result<Vec<Image>> {
    images.sort_by_key(|image| image.id);
    if let Some(pair) = images.windows(2).find(|pair| pair[0].id == pair[1].id) {
        bail!(
            "two images have the id {} ({} and {}); if files were merged, renumber them",
            pair[0].id,
            pair[0].file_name,
            pair[1].file_name
        );
    }
    images.shrink_to_fit();
    Ok(images)
}

fn sorted_categories(mut categories: Vec<Category>) -> Result<Vec<Category>> {
    ensure!(
        categories.len() <= MAX_CATEGORIES,
        "{} categories; an evaluation keeps curves for each, of 200 kB, and takes at most {MAX_CATEGORIES}",
        categories.len()
    );
    categories.sort_by_key(|category| category.id);
    if let Some(pair) = categories.windows(2).find(|pair| pair[0].id == pair[1].id) {
        bail!("two categories have the id {} ({} and {})", pair[0].id, pair[0].name, pair[1].name);
    }
    Ok(categories)
}

fn drop_unresolved(annotations: &mut Vec<Annotation>, images: &[Image], categories: &[Category], audit: &mut Audit) {
    annotations.retain(|annotation| {
        let problem = if images.binary_search_by_key(&annotation.image_id, |image| image.id).is_err() {
            Problem::DanglingImage
        } else if categories.binary_search_by_key(&annotation.category_id, |category| category.id).is_err() {
            Problem::DanglingCategory
        } else {
            return true;
        };
        audit.record(problem, annotation.id);
        false
    });
}

fn drop_duplicates(annotations: &mut Vec<Annotation>, audit: &mut Audit) {
    let mut ids: Vec<i64> = annotations.iter().map(|annotation| annotation.id).collect();
    ids.sort_unstable();
    let twice: Vec<i64> = ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    if twice.is_empty() {
        return;
    }
    let mut seen = HashSet::new();
    annotations.retain(|annotation| {
        let id = annotation.id;
        let keep = twice.binary_search(&id).is_err() || seen.insert(id);
        if !keep {
            audit.record(Problem::DuplicateAnnotation, id);
        }
        keep
    });
}

fn drop_without_box(annotations: &mut Vec<Annotation>, audit: &mut Audit) {
    annotations.retain(|annotation| {
        let is_box = annotation.bbox.iter().all(|number| number.is_finite());
        if !is_box {
            audit.record(Problem::NoBox, annotation.id);
        }
        is_box
    });
}

/// Fails on images that cannot be found or whose annotations cannot be placed in them.
fn refuse_unknown_images(images: &[Image]) -> Result<()> {
    if let Some(image) = images.iter().find(|image| image.file_name.is_empty()) {
        bail!("image {} has no `file_name`", image.id);
    }
    if let Some(image) = images.iter().find(|image| image.width == 0 || image.height == 0) {
        let which = if image.width == 0 { "width" } else { "height" };
        bail!(
            "image {} ({}) has no `{which}`, or one of 0: each image needs its size in pixels",
            image.id,
            image.file_name
        );
    }
    Ok(())
}

/// Fails on what only a lenient reading leaves out.
fn refuse(audit: &Audit, way: &str) -> Result<()> {
    let structural = [
        Problem::OddImage,
        Problem::OddAnnotation,
        Problem::NoBox,
        Problem::DanglingImage,
        Problem::DanglingCategory,
        Problem::DuplicateAnnotation,
    ];
    let found: Vec<String> = (audit.findings())
        .filter(|(problem, _)| structural.contains(problem))
        .map(|(problem, finding)| {
            let ids: Vec<String> = finding.examples.iter().map(i64::to_string).collect();
            let more = if finding.count > ids.len() { ", …" } else { "" };
            format!("{} with {} ({} {}{more})", finding.count, problem.text().0, problem.by(), ids.join(", "))
        })
        .collect();
    ensure!(found.is_empty(), "annotations: {}; fix the file, or {way} to skip them", found.join("; "));
    Ok(())
}

/// Those of one image stay in the file's order, as in a stable sort, which would need half of their memory again.
fn sort_by_image(annotations: &mut [Annotation]) {
    let ids = || annotations.iter().map(|annotation| annotation.image_id);
    let least = ids().min().unwrap_or(0);
    let span = ids().max().unwrap_or(0).checked_sub(least);
    match span.and_then(|span| u32::try_from(span).ok()) {
        Some(_) => annotations.sort_by_cached_key(|annotation| (annotation.image_id - least) as u32),
        None => annotations.sort_by_cached_key(|annotation| annotation.image_id),
    }
}

/// Where each image's annotations start; both are sorted by image id, and every annotation has its image.
fn starts(images: &[Image], annotations: &[Annotation]) -> Result<Vec<u32>> {
    u32::try_from(annotations.len()).context("more than 4 billion annotations")?;
    let mut starts = Vec::with_capacity(images.len() + 1);
    let mut at = 0;
    for image in images {
        starts.push(at as u32);
        at += annotations[at..].iter().take_while(|annotation| annotation.image_id == image.id).count();
    }
    starts.push(at as u32);
    Ok(starts)
}

/// Whether training can use the box.
fn inspect_box(annotation: &Annotation, image: &Image, audit: &mut Audit) -> bool {
    let [x, y, w, h] = annotation.bbox;
    let (width, height) = (f64::from(image.width), f64::from(image.height));
    let problem = if !(w > 0.0 && h > 0.0 && [x, y, w, h].iter().all(|v| v.is_finite())) {
        Problem::DegenerateBox
    } else if x >= width || y >= height || x + w <= 0.0 || y + h <= 0.0 {
        Problem::BoxOutside
    } else if x < -1.0 || y < -1.0 || x + w > width + 1.0 || y + h > height + 1.0 {
        Problem::BoxReachesOut
    } else {
        return true;
    };
    audit.record(problem, annotation.id);
    problem == Problem::BoxReachesOut
}

/// Whether training can use the mask.
fn inspect_mask(annotation: &Annotation, image: &Image, segments: &Segments, audit: &mut Audit) -> bool {
    let mut problem = |problem, usable| {
        audit.record(problem, annotation.id);
        usable
    };
    match annotation.slot {
        Slot::None => annotation.mask_usable,
        Slot::Runs(index) => {
            let (size, counts) = segments.runs(index);
            if size != [image.height, image.width] {
                return problem(Problem::RunsSize, false);
            }
            match Rle::from_compressed(size[0], size[1], counts) {
                Err(_) => problem(Problem::BadRuns, false),
                Ok(mask) if mask.area() == 0 => problem(Problem::EmptyMask, false),
                Ok(_) => true,
            }
        }
        slot => {
            let (mut bad, mut outside, mut inside) = (false, false, false);
            for bounds in segments.polygon_bounds(slot) {
                match bounds {
                    None => bad = true,
                    Some(bounds) if touches(bounds, image) => inside = true,
                    Some(_) => outside = true,
                }
            }
            let mut usable = true;
            if bad {
                usable = problem(Problem::BadPolygon, inside);
            }
            if outside && !inside {
                usable = problem(Problem::PolygonOutside, false);
            }
            usable
        }
    }
}

/// Whether something between two corners has a part in the image.
fn touches([left, top, right, bottom]: [f64; 4], image: &Image) -> bool {
    left < f64::from(image.width) && top < f64::from(image.height) && right > 0.0 && bottom > 0.0
}
