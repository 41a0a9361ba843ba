//! COCO detection files (`instances_*.json`), held compactly: train2017 is 450 MB of JSON, 118,000 images and 860,000
//! annotations.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | [`Index`]: images, categories, annotations by image |
//! | `load.rs` | [`Index::open`]: from a file, checked; options; subsets |
//! | `build.rs` | [`Builder`]: from another format |
//! | `classes.rs` | only some classes, numbered anew |
//! | `parse.rs` | JSON to those tables in one pass, never held as a tree |
//! | `quick.rs` | the same in pieces on all cores, where nothing is wrong |
//! | `loose.rs` | values of another type than they should be |
//! | `python_json.rs` | JSON as other programs write it, with `NaN` |
//! | `keypoints.rs` | [`Index::keypoints`]: the points of an object |
//! | `shape.rs` | a segmentation in JSON |
//! | `segments.rs` | [`Segmentation`]: polygons and run lengths in a few large buffers |
//! | `audit.rs` | [`Audit`]: what is odd, counted, with example ids |

mod audit;
mod build;
mod classes;
mod keypoints;
mod load;
mod loose;
mod parse;
mod python_json;
mod quick;
mod segments;
mod shape;

pub use audit::{Audit, Finding, Problem};
pub use build::{Builder, Object};
pub use classes::{BACKGROUND, LeftOut};
pub use keypoints::mirror_pairs;
pub use load::LoadOptions;
pub(crate) use parse::{Whole, explain};
pub(crate) use python_json::PythonJson;
pub use segments::Segmentation;

use anyhow::{Context, Result};

use crate::mask::Rle;
use keypoints::Points;
use segments::{Segments, Slot};

/// One image of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// Its id, unique in the file.
    pub id: i64,
    /// Height in pixels; 0 where the file does not say it and it is not needed.
    pub height: u32,
    /// Width in pixels, as the height.
    pub width: u32,
    /// Name of its file, relative to the folder of images; empty where the file does not say it and it is not needed.
    pub file_name: Box<str>,
}

/// One category.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Category {
    /// Its id as in the file: COCO's 80 run up to 90.
    #[serde(deserialize_with = "parse::size")]
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Names of its keypoints, such as `left_eye`; none of most categories.
    #[serde(default, deserialize_with = "keypoints::names")]
    pub keypoints: Vec<String>,
}

/// One annotated object.
#[derive(Clone, Debug, PartialEq)]
pub struct Annotation {
    /// Its id, unique in the file.
    pub id: i64,
    /// The image it is in.
    pub image_id: i64,
    /// Its category's id.
    pub category_id: u32,
    /// `[x, y, width, height]` in pixels, as in the file.
    pub bbox: [f64; 4],
    /// Square pixels, as in the file.
    pub area: f64,
    /// A group of objects that are not told apart.
    pub crowd: bool,
    /// The box can be trained on: it has an extent and touches its image.
    pub box_usable: bool,
    /// The mask can be trained on: there is one, and it is not known to be damaged or empty.
    pub mask_usable: bool,
    slot: Slot,
}

/// A dataset's annotations. Images are sorted by id, categories by id; an image's annotations keep the file's order.
#[derive(Clone, Debug, Default)]
pub struct Index {
    images: Vec<Image>,
    categories: Vec<Category>,
    annotations: Vec<Annotation>,
    /// Annotations of image `i`: `starts[i]..starts[i + 1]`.
    starts: Vec<u32>,
    segments: Segments,
    /// Of annotations that have them, by id.
    keypoints: Points,
    audit: Audit,
}

impl Index {
    /// The images, sorted by id.
    pub fn images(&self) -> &[Image] {
        &self.images
    }

    /// The categories, sorted by id.
    pub fn categories(&self) -> &[Category] {
        &self.categories
    }

    /// Number of classes of a model for these categories: the largest id and one, with class 0 the background.
    pub fn num_classes(&self) -> usize {
        self.categories.last().map_or(1, |category| category.id as usize + 1)
    }

    /// Name of a category.
    pub fn category_name(&self, id: u32) -> Option<&str> {
        let at = self.categories.binary_search_by_key(&id, |category| category.id).ok()?;
        Some(&self.categories[at].name)
    }

    /// A name of each category's own, in order of their ids: of those that share theirs, the id tells them apart.
    pub fn class_labels(&self) -> Vec<String> {
        let shared = |name: &str| self.categories.iter().filter(|own| own.name == name).count() > 1;
        let label = |category: &Category| match shared(&category.name) {
            true => format!("{} ({})", category.name, category.id),
            false => category.name.clone(),
        };
        self.categories.iter().map(label).collect()
    }

    /// Position of an image by its id.
    pub fn position(&self, image_id: i64) -> Option<usize> {
        self.images.binary_search_by_key(&image_id, |image| image.id).ok()
    }

    /// Annotations of the image at a position, in the file's order, odd ones included; none for a position too large.
    pub fn annotations(&self, position: usize) -> &[Annotation] {
        match (self.starts.get(position), self.starts.get(position + 1)) {
            (Some(&start), Some(&end)) => &self.annotations[start as usize..end as usize],
            _ => &[],
        }
    }

    /// Number of annotations in all images.
    pub fn annotation_count(&self) -> usize {
        self.annotations.len()
    }

    /// The segmentation of an annotation of this index, as the file gives it.
    pub fn segmentation(&self, annotation: &Annotation) -> Segmentation {
        self.segments.get(annotation.slot)
    }

    /// The keypoints of an annotation of this index: x and y in pixels, and 0 for not labelled, 1 for hidden, 2 for visible. Empty for
    /// an object without, and where they were not asked for ([`LoadOptions::keypoints`]).
    pub fn keypoints(&self, annotation: &Annotation) -> &[[f32; 3]] {
        self.keypoints.of(annotation.id)
    }

    /// The most keypoints that an object can have, by the categories' names, and where there are none by the objects.
    pub fn keypoint_count(&self) -> usize {
        let named = self.categories.iter().map(|category| category.keypoints.len()).max().unwrap_or(0);
        if named > 0 { named } else { self.keypoints.most() }
    }

    /// The mask of an annotation of this index, `[height, width]` of its image.
    ///
    /// # Errors
    /// Names the annotation and what is wrong with its segmentation.
    pub fn mask(&self, annotation: &Annotation) -> Result<Rle> {
        let context = || format!("annotation {} of image {}", annotation.id, annotation.image_id);
        let position = self.position(annotation.image_id).context("not an annotation of this index");
        let image = &self.images[position.with_context(context)?];
        self.segmentation(annotation).mask(image.height, image.width).with_context(context)
    }

    /// What was odd when the file was read.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The index of only some of the images, by position; categories stay.
    ///
    /// # Errors
    /// When the segmentations do not fit (4 billion coordinates).
    pub fn subset(&self, positions: &[usize]) -> Result<Self> {
        let mut positions: Vec<usize> = positions.iter().copied().filter(|&p| p < self.images.len()).collect();
        positions.sort_unstable();
        positions.dedup();
        let mut subset = Self { categories: self.categories.clone(), audit: self.audit.clone(), ..Self::default() };
        subset.starts.push(0);
        for position in positions {
            subset.images.push(self.images[position].clone());
            for annotation in self.annotations(position) {
                let slot = subset.segments.copy_from(&self.segments, annotation.slot)?;
                subset.keypoints.take_from(&self.keypoints, annotation.id);
                subset.annotations.push(Annotation { slot, ..annotation.clone() });
            }
            subset.starts.push(subset.annotations.len() as u32);
        }
        Ok(subset)
    }
}
