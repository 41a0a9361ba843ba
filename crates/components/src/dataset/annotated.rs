//! Images with annotated objects, whatever format they come in: an [`Index`] and a folder of images.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::split::Split;
use pipe_coco::dice::Dice;
use pipe_coco::index::{Annotation, BACKGROUND, Index, LeftOut, mirror_pairs};
use pipe_core::facts::{BoxSize, Contents};
use pipe_core::{Contract, Dataset, Property, PropertyType};
use pipe_data::decode::read_image;
use pipe_data::{Extent, Field, Fingerprint, Image, Mask, Masks, Sample, fields};

/// Pixels that the masks of one image may take, each in its own window: 2 GiB.
const MAX_MASK_PIXELS: f64 = (2u64 << 30) as f64;

/// What to do with images without annotations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Empty {
    /// Keep them: evaluation needs them, and they are negative examples in training.
    #[default]
    Keep,
    /// Skip them.
    Drop,
}

impl Empty {
    /// The option and what it leaves out, for rules.
    pub(super) fn leaves_out(self) -> Option<(&'static str, &'static str)> {
        (self == Empty::Drop).then_some(("empty", "images without objects"))
    }
}

/// What to do with crowd annotations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Crowd {
    /// Drop them from samples; metrics still see them.
    #[default]
    Drop,
    /// Keep them.
    Keep,
}

/// What such datasets offer.
pub(super) const PROPERTIES: &[Property] = &[
    Property {
        name: "num_classes",
        ty: PropertyType::Integer,
        doc: "The largest category id plus 1; 0 is the background.",
    },
    Property {
        name: "class_names",
        ty: PropertyType::Strings,
        doc: "Class names by label; `background` for 0, empty for unused ids.",
    },
];

/// What those with keypoints offer.
pub(super) const KEYPOINT_PROPERTIES: &[Property] = &[
    PROPERTIES[0],
    PROPERTIES[1],
    Property {
        name: "num_keypoints",
        ty: PropertyType::Integer,
        doc: "Number of keypoints of an object, with `keypoints = true`.",
    },
    Property {
        name: "keypoint_names",
        ty: PropertyType::Strings,
        doc: "Names of the keypoints, with `keypoints = true`: those of the first category that has any.",
    },
];

/// The fields of a sample.
pub(super) fn contract(masks: bool, keypoints: bool) -> Contract {
    let mut contract = Contract::default().adds([
        fields::IMAGE,
        fields::BOXES,
        fields::LABELS,
        fields::AREA,
        fields::ISCROWD,
        fields::IMAGE_ID,
        fields::ORIGINAL_SIZE,
        fields::SOURCE,
    ]);
    for (field, there) in [(fields::MASKS, masks), (fields::KEYPOINTS, keypoints)] {
        contract = if there { contract.adds([field]) } else { contract };
    }
    contract
}

/// Which of the images and annotations are used, and how.
#[derive(Debug, Clone)]
pub(super) struct Choice<'a> {
    pub classes: Option<&'a [String]>,
    pub split: Option<&'a Split>,
    pub limit: Option<usize>,
    pub seed: u64,
    pub empty: Empty,
    pub crowd: Crowd,
    pub masks: bool,
    pub keypoints: bool,
    /// Images whose objects have fewer labelled keypoints, all together, are left out.
    pub min_keypoints: usize,
    pub strict: bool,
}

/// The running dataset.
pub struct Annotated {
    index: Arc<Index>,
    images: PathBuf,
    /// The file of the annotations, where there is one.
    annotations: Option<PathBuf>,
    /// Kept: the file may be edited while a run is at work.
    fingerprint: OnceLock<Option<String>>,
    /// Whether it was said that images are turned upright.
    turned: AtomicBool,
    /// Whether annotations are always for the upright image.
    upright: bool,
    masks: bool,
    /// Keypoints of each object, where they are loaded.
    keypoints: Option<usize>,
    crowd: Crowd,
    left_out: LeftOut,
}

impl Annotated {
    /// The images of an index, in the folder `images`, of which some are chosen. `annotations` is the file that the index is from.
    ///
    /// # Errors
    /// When nothing is left, or classes are named that are not there.
    pub(super) fn new(
        index: Index,
        images: &Path,
        annotations: Option<&Path>,
        choice: &Choice<'_>,
    ) -> Result<Annotated> {
        let (index, left_out) = match choice.classes {
            Some(names) => index.with_classes(names)?,
            None => (index, LeftOut::default()),
        };
        let given_by_hand = choice.classes.is_some_and(|names| names.first().is_none_or(|name| name != BACKGROUND));
        ensure!(
            left_out.unknown.is_empty() || !given_by_hand || !choice.strict,
            "`classes` names {}, which the annotations do not have; the others there are: {}. With `strict = false` a class may \
             have no objects",
            left_out.unknown.join(", "),
            left_out.classes.join(", ")
        );
        let index = select(index, choice)?;
        if choice.masks {
            refuse_without_masks(&index)?;
        }
        ensure!(
            !choice.keypoints || index.keypoint_count() > 0,
            "no object has keypoints: `annotations` of keypoints are mostly a file of their own, person_keypoints_….json"
        );
        ensure!(
            !index.images().is_empty(),
            "there are no usable images: none has an annotation that can be trained on{}",
            match choice {
                Choice { min_keypoints: 1.., .. } => " and as many labelled keypoints as `min_keypoints` says",
                Choice { masks: true, .. } => "; without masks (`masks = false`) there may be",
                _ => "",
            }
        );
        Ok(Annotated {
            keypoints: choice.keypoints.then(|| index.keypoint_count()),
            index: Arc::new(index),
            images: images.to_owned(),
            annotations: annotations.map(Path::to_owned),
            fingerprint: OnceLock::new(),
            turned: AtomicBool::new(false),
            upright: false,
            masks: choice.masks,
            crowd: choice.crowd,
            left_out,
        })
    }

    /// With annotations that are for the image turned upright by its EXIF orientation, as viewers show it.
    pub(super) fn upright(self) -> Annotated {
        Annotated { upright: true, ..self }
    }
}

/// Refuses names that lead out of the folder of images: a foreign file must not choose what is read. An absolute name below
/// the folder is inside.
///
/// # Errors
/// The first such name.
pub(super) fn check_names(index: &Index, folder: &Path) -> Result<()> {
    for image in index.images() {
        let inside = inside(folder, Path::new(&*image.file_name));
        ensure!(
            inside,
            "image {} has the file_name `{}`, which leads out of the folder {}; if that is meant, set `images` to a folder \
             that holds all of them",
            image.id,
            image.file_name,
            folder.display()
        );
    }
    Ok(())
}

/// Whether a path below `folder` stays there, read as text: `..` undoes the part before it.
pub(super) fn inside(folder: &Path, name: &Path) -> bool {
    let name = if name.is_absolute() { name.strip_prefix(folder).ok() } else { Some(name) };
    let depths = name.into_iter().flat_map(Path::components).scan(0i32, |depth, part| {
        *depth += match part {
            Component::Normal(_) => 1,
            Component::CurDir => 0,
            _ => -1,
        };
        Some(*depth)
    });
    name.is_some() && depths.into_iter().all(|depth| depth >= 0)
}

/// Without a single mask nothing would be trained on.
fn refuse_without_masks(index: &Index) -> Result<()> {
    let all = || (0..index.images().len()).flat_map(|position| index.annotations(position));
    let (mut boxes, mut masks) = (0, 0);
    for object in all().filter(|object| object.box_usable) {
        boxes += 1;
        masks += usize::from(object.mask_usable);
    }
    ensure!(
        boxes == 0 || masks > 0,
        "not one of the {boxes} objects has a mask, so that none would be trained on; for a model of boxes set `masks = false`"
    );
    Ok(())
}

/// The images that are used: the part of the split, without empty ones if they are dropped, then the random subset.
fn select(index: Index, choice: &Choice<'_>) -> Result<Index> {
    let mut positions: Vec<usize> = (0..index.images().len()).collect();
    if let Some(Split::Part(part)) = choice.split {
        let names: Vec<&str> = index.images().iter().map(|image| &*image.file_name).collect();
        positions = part.choose(&names);
    }
    if choice.empty == Empty::Drop {
        positions.retain(|&p| index.annotations(p).iter().any(|a| is_used(a, choice.crowd, choice.masks)));
    }
    if choice.min_keypoints > 0 {
        positions.retain(|&p| labelled_keypoints(&index, p) >= choice.min_keypoints);
    }
    if let Some(limit) = choice.limit {
        let drawn = Dice::new(choice.seed, 0).choose(positions.len(), limit);
        positions = drawn.into_iter().map(|i| positions[i]).collect();
    }
    if positions.len() == index.images().len() { Ok(index) } else { index.subset(&positions) }
}

/// The keypoints of an image's objects that are labelled, hidden ones and those of crowds too, as torchvision's references count them.
fn labelled_keypoints(index: &Index, position: usize) -> usize {
    let points = index.annotations(position).iter().flat_map(|object| index.keypoints(object));
    points.filter(|point| point[2] > 0.0).count()
}

/// Whether an annotation becomes an instance of a sample.
fn is_used(annotation: &Annotation, crowd: Crowd, masks: bool) -> bool {
    annotation.box_usable && (annotation.mask_usable || !masks) && (crowd == Crowd::Keep || !annotation.crowd)
}

impl Annotated {
    /// An image as its annotations mean it: mostly the pixels as stored, before any EXIF rotation; turned upright where they are for
    /// that size only.
    fn image(&self, path: &Path, [height, width]: [usize; 2], id: i64) -> Result<Image> {
        let image = read_image(path, self.upright)?;
        if (image.height, image.width) == (height, width) {
            return Ok(image);
        }
        let upright = read_image(path, true)?;
        ensure!(
            (upright.height, upright.width) == (height, width),
            "{} has {} × {} pixels, but its annotations are for {height} × {width} (image {id})",
            path.display(),
            image.height,
            image.width,
        );
        if !self.turned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "{} is stored sideways, and its annotations are for the image turned upright by its EXIF orientation: such \
                 images are turned",
                path.display()
            );
        }
        Ok(upright)
    }

    fn with_objects(&self, sum: Fingerprint, position: usize) -> Fingerprint {
        let sum = sum.with(self.index.images()[position].file_name.as_bytes());
        self.index.annotations(position).iter().fold(sum, |sum, object| {
            let sum = sum.with(&object.category_id.to_le_bytes());
            object.bbox.iter().chain([&object.area]).fold(sum, |sum, number| sum.with(&number.to_le_bytes()))
        })
    }
}

impl Dataset for Annotated {
    fn len(&self) -> usize {
        self.index.images().len()
    }

    fn get(&self, index: usize) -> Result<Sample> {
        let entry = &self.index.images()[index];
        let path = self.images.join(&*entry.file_name);
        let (height, width) = (entry.height as usize, entry.width as usize);
        let image = self.image(&path, [height, width], entry.id)?;
        let mut boxes = Vec::new();
        let (mut labels, mut areas, mut crowds) = (Vec::new(), Vec::new(), Vec::new());
        let mut masks = Masks { height, width, instances: Vec::new() };
        let mut keypoints = Vec::new();
        let mut mask_pixels = 0.0;
        for annotation in self.index.annotations(index).iter().filter(|a| is_used(a, self.crowd, self.masks)) {
            let Some(corners) = corners(annotation.bbox, height, width) else { continue };
            boxes.push(corners);
            labels.push(i64::from(annotation.category_id));
            areas.push(annotation.area as f32);
            crowds.push(i64::from(annotation.crowd));
            if let Some(count) = self.keypoints {
                let mut points = self.index.keypoints(annotation).to_vec();
                points.resize(count, [0.0; 3]);
                keypoints.push(points);
            }
            if self.masks {
                let runs = self.index.mask(annotation).with_context(|| path.display().to_string())?;
                let [_, _, w, h] = runs.bbox();
                mask_pixels += w * h;
                ensure!(
                    mask_pixels <= MAX_MASK_PIXELS,
                    "the masks of {} take more than {} GiB; `masks = false` leaves them out",
                    path.display(),
                    MAX_MASK_PIXELS / f64::from(1 << 30)
                );
                masks.instances.push(Mask::from_runs(height, width, runs.counts()));
            }
        }
        let mut sample = Sample::new()
            .with(fields::IMAGE, Field::Image(image))
            .with(fields::BOXES, Field::Boxes(boxes))
            .with(fields::LABELS, Field::Integers(labels))
            .with(fields::AREA, Field::Numbers(areas))
            .with(fields::ISCROWD, Field::Integers(crowds))
            .with(fields::IMAGE_ID, Field::Integer(entry.id))
            .with(fields::ORIGINAL_SIZE, Field::Size([height, width]))
            .with(fields::SOURCE, Field::Text(path.display().to_string()));
        if self.masks {
            sample.set(fields::MASKS, Field::Masks(masks));
        }
        if self.keypoints.is_some() {
            sample.set(fields::KEYPOINTS, Field::Keypoints(keypoints));
        }
        Ok(sample)
    }

    fn contents(&self) -> Option<Contents> {
        let mut contents = Contents::default();
        if self.keypoints.is_some() {
            let pairs = self.index.categories().iter().flat_map(|category| mirror_pairs(&category.keypoints));
            contents.mirror_pairs = pairs.collect::<BTreeSet<_>>().into_iter().collect();
        }
        for (position, image) in self.index.images().iter().enumerate() {
            for used in self.index.annotations(position).iter().filter(|a| is_used(a, self.crowd, self.masks)) {
                *contents.labels.entry(i64::from(used.category_id)).or_default() += 1;
                let [x, y, w, h] = used.bbox;
                let reach = (x + w - f64::from(image.width)).max(y + h - f64::from(image.height)).max(-x).max(-y);
                contents.outside += u64::from(reach > 1.0);
                let side = (used.bbox[2] * used.bbox[3]).sqrt() as f32;
                contents.boxes.push(BoxSize { side, image: [image.height as f32, image.width as f32] });
            }
        }
        Some(contents)
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.index.num_classes().into()),
            "class_names" => {
                let name =
                    |id: u32| if id == 0 { BACKGROUND } else { self.index.category_name(id).unwrap_or_default() };
                Ok(json!((0..self.index.num_classes() as u32).map(name).collect::<Vec<_>>()))
            }
            "num_keypoints" | "keypoint_names" => {
                let count = self.keypoints.context("no keypoints are loaded: set `keypoints = true`")?;
                let mut named = self.index.categories().iter().map(|category| &category.keypoints);
                let names = named.find(|names| !names.is_empty());
                Ok(if name == "num_keypoints" { count.into() } else { json!(names.map_or(&[][..], Vec::as_slice)) })
            }
            _ => bail!("a dataset of objects has no property `{name}`"),
        }
    }

    fn extent(&self, index: usize) -> Option<Extent> {
        let image = self.index.images().get(index)?;
        let used = self.index.annotations(index).iter().filter(|a| is_used(a, self.crowd, self.masks));
        Some(Extent { height: image.height as usize, width: image.width as usize, objects: used.count() })
    }

    fn classes(&self, index: usize) -> Option<Vec<i64>> {
        self.index.images().get(index)?;
        let used = self.index.annotations(index).iter().filter(|a| is_used(a, self.crowd, self.masks));
        Some(used.map(|annotation| i64::from(annotation.category_id)).collect())
    }

    fn file(&self, index: usize) -> Option<PathBuf> {
        self.index.images().get(index).map(|image| self.images.join(&*image.file_name))
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.index.categories().iter().map(|category| (i64::from(category.id), category.name.clone())).collect()
    }

    /// Of the annotations as they are when this is asked first, and of which images are used.
    fn fingerprint(&self) -> Option<String> {
        let of = || {
            let sum = Fingerprint::default();
            let sum = match &self.annotations {
                Some(file) => sum.with_file(file).map_err(|error| tracing::warn!("{error:#}")).ok()?,
                None => (0..self.index.images().len()).fold(sum, |sum, position| self.with_objects(sum, position)),
            };
            let add = |sum: Fingerprint, image: &pipe_coco::index::Image| sum.with(&image.id.to_le_bytes());
            Some(self.index.images().iter().fold(sum, add).text())
        };
        self.fingerprint.get_or_init(of).clone()
    }

    /// The annotations, an `Arc<Index>`.
    fn extension(&self) -> Option<&dyn Any> {
        Some(&self.index)
    }

    fn report(&self) -> Option<String> {
        let (images, annotations) = (self.index.images().len(), self.index.annotation_count());
        let categories = self.index.categories().len();
        let mut report = format!("{images} images, {annotations} annotations, {categories} categories");
        if self.left_out.annotations > 0 {
            let (count, classes) = (self.left_out.annotations, self.left_out.classes.join(", "));
            report.push_str(&format!("; {count} annotations of other classes are left out ({classes})"));
        }
        let unmasked = |p| self.index.annotations(p).iter().filter(|a| a.box_usable && !a.mask_usable).count();
        let unmasked: usize = if self.masks { (0..images).map(unmasked).sum() } else { 0 };
        if unmasked > 0 {
            report.push_str(&format!("; {unmasked} annotations with an invalid mask are skipped"));
        }
        if !self.index.audit().is_clean() {
            report.push('\n');
            report.push_str(&self.index.audit().to_string());
        }
        Some(report)
    }
}

/// `[x, y, width, height]` as xyxy, clipped to the image; `None` when nothing is left.
fn corners([x, y, w, h]: [f64; 4], height: usize, width: usize) -> Option<[f32; 4]> {
    // In single precision, in the order of torchvision's references, so that the numbers are the same.
    let [x, y, w, h] = [x, y, w, h].map(|v| v as f32);
    let (right, bottom) = (width as f32, height as f32);
    let b = [x.clamp(0.0, right), y.clamp(0.0, bottom), (x + w).clamp(0.0, right), (y + h).clamp(0.0, bottom)];
    (b[0] < b[2] && b[1] < b[3]).then_some(b)
}
