//! `builtin:shapes`: images of shapes, in COCO's own layout and with a mask of classes each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use jpeg_encoder::{ColorType, Encoder};
use serde_json::{Value, json};

use super::outline::Kind;
use super::scene::{KEYPOINTS, Look, Scene, scene};
use super::store::publish;
use crate::dice::Dice;
use crate::parallel::parallel;

/// Raised whenever the same specification gives other files.
const VERSION: u32 = 1;
const JPEG_QUALITY: u8 = 92;
/// Of all sizes, as COCO's objects.
const SMALL_TO_LARGE: Look = Look { radius: [0.07, 0.22], crowds: true };
/// Large, so that a network that sees a few thousand small images learns to tell them.
const LARGE: Look = Look { radius: [0.16, 0.2], crowds: false };
/// Colors of the masks' classes, as Pascal VOC's.
const PALETTE: [[u8; 3]; 5] = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128]];

/// What is written.
#[derive(Clone, Debug, PartialEq)]
pub struct ShapesSpec {
    /// Images in `train2017`.
    pub train: usize,
    /// Images in `val2017`.
    pub val: usize,
    /// Width and height in pixels, at least 32; one image in four is three quarters as high.
    pub size: (u32, u32),
    /// The most objects in an image, crowds not counted.
    pub most_objects: usize,
    /// Everything follows from it.
    pub seed: u64,
}

impl ShapesSpec {
    /// What [`write_shape_masks`] is usually asked for: small images of few objects.
    pub fn few() -> Self {
        Self { size: (64, 64), most_objects: 3, ..Self::default() }
    }
}

impl Default for ShapesSpec {
    fn default() -> Self {
        Self { train: 400, val: 100, size: (128, 128), most_objects: 5, seed: 0 }
    }
}

/// Writes the dataset into the folder `root`, unless it is there already: images in `<root>/train2017` and
/// `<root>/val2017`, annotations in `<root>/annotations/instances_<split>.json`.
///
/// Circles, squares, triangles and stars (categories 1, 3, 4, 7) of any color, size and turn on textured backgrounds.
/// They overlap; annotated is what can be seen: polygons, run lengths where a hole shows through, and one crowd in a
/// dozen images. A few images are empty. The folder appears completely or not at all, also with several processes at once.
///
/// # Errors
/// A size out of range (32 to 4096), a folder that holds something else, or a disk that cannot be written.
pub fn write_shapes(root: &Path, spec: &ShapesSpec) -> Result<()> {
    check(spec)?;
    publish(root, &format!("shapes {VERSION} {spec:?}\n"), |folder| {
        write_split(folder, "train2017", 0, spec.train, spec)?;
        write_split(folder, "val2017", 1, spec.val, spec)
    })
}

/// Adds annotations with keypoints to the folder `root` that [`write_shapes`] wrote, unless they are there already:
/// `<root>/annotations/person_keypoints_<split>.json`, as COCO calls them. Each shape has five: its middle and what of it lies furthest
/// to the top, the right, the bottom and the left.
///
/// # Errors
/// A disk that cannot be written.
pub fn write_shape_keypoints(root: &Path, spec: &ShapesSpec) -> Result<()> {
    for (number, (split, count)) in [("train2017", spec.train), ("val2017", spec.val)].into_iter().enumerate() {
        let file = root.join(format!("annotations/person_keypoints_{split}.json"));
        if file.exists() {
            continue;
        }
        let indices: Vec<usize> = (0..count).collect();
        let drawn = parallel(&indices, |&i| draw(number as u64, i, spec, &SMALL_TO_LARGE));
        let entries = drawn.into_iter().map(|drawn| {
            let (id, size, mut scene) = drawn?;
            for (annotation, keypoints) in scene.annotations.iter_mut().zip(scene.keypoints) {
                annotation["num_keypoints"] = keypoints.iter().skip(2).step_by(3).filter(|v| **v > 0.0).count().into();
                annotation["keypoints"] = keypoints.into();
            }
            Ok((image_entry(id, size), scene.annotations))
        });
        let mut document = document(entries)?;
        for category in document["categories"].as_array_mut().into_iter().flatten() {
            category["keypoints"] = json!(KEYPOINTS);
            category["skeleton"] = json!([[1, 2], [1, 3], [1, 4], [1, 5]]);
        }
        pipe_vocab::atomic::write(&file, &serde_json::to_vec(&document)?)?;
    }
    Ok(())
}

/// Writes images of fewer and larger shapes, with a mask each, into the folder `root`, unless they are there already: images in `<root>/images/train` and
/// `<root>/images/val`, masks in `<root>/masks/train` and `<root>/masks/val`, PNG files whose pixels are 0 for the background, 1 for circles,
/// 2 squares, 3 triangles, 4 stars.
///
/// # Errors
/// As [`write_shapes`].
pub fn write_shape_masks(root: &Path, spec: &ShapesSpec) -> Result<()> {
    check(spec)?;
    publish(root, &format!("masks of shapes {VERSION} {spec:?}\n"), |folder| {
        for (number, (split, count)) in [("train", spec.train), ("val", spec.val)].into_iter().enumerate() {
            let [images, masks] = ["images", "masks"].map(|what| folder.join(what).join(split));
            fs::create_dir_all(&images)?;
            fs::create_dir_all(&masks)?;
            let indices: Vec<usize> = (0..count).collect();
            for written in parallel(&indices, |&i| write_masked(&images, &masks, number as u64, i, spec)) {
                written?;
            }
        }
        Ok(())
    })
}

fn check(spec: &ShapesSpec) -> Result<()> {
    let (width, height) = spec.size;
    ensure!(
        [width, height].iter().all(|side| (32..=4096).contains(side)),
        "images of {width} × {height}: sides are 32 to 4096 pixels"
    );
    ensure!(spec.most_objects > 0, "images need at least one object");
    Ok(())
}

fn write_split(folder: &Path, split: &str, number: u64, count: usize, spec: &ShapesSpec) -> Result<()> {
    let pictures = folder.join(split);
    fs::create_dir_all(&pictures)?;
    let indices: Vec<usize> = (0..count).collect();
    let written = parallel(&indices, |&i| write_picture(&pictures, number, i, spec));

    let document = document(written.into_iter())?;
    let file = folder.join(format!("annotations/instances_{split}.json"));
    fs::create_dir_all(folder.join("annotations"))?;
    fs::write(&file, serde_json::to_vec(&document)?).with_context(|| format!("cannot write {}", file.display()))
}

/// Images and the annotations of each, as COCO's annotation file.
fn document(entries: impl Iterator<Item = Result<(Value, Vec<Value>)>>) -> Result<Value> {
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for entry in entries {
        let (image, found) = entry?;
        for mut annotation in found {
            annotation["image_id"] = image["id"].clone();
            annotation["id"] = json!(annotations.len() + 1);
            annotations.push(annotation);
        }
        images.push(image);
    }
    Ok(json!({
        "info": {"description": "pipe builtin:shapes", "version": VERSION.to_string()},
        "licenses": [], "images": images, "annotations": annotations, "categories": Kind::categories(),
    }))
}

fn image_entry(id: usize, [width, height]: [u32; 2]) -> Value {
    json!({"id": id, "file_name": file_name(id), "width": width, "height": height})
}

fn file_name(id: usize) -> String {
    format!("{id:012}.jpg")
}

/// Writes one image; returns its entry and its annotations.
fn write_picture(folder: &Path, split: u64, index: usize, spec: &ShapesSpec) -> Result<(Value, Vec<Value>)> {
    let (id, size, scene) = draw(split, index, spec, &SMALL_TO_LARGE)?;
    write_jpeg(&folder.join(file_name(id)), &scene.rgb, size)?;
    Ok((image_entry(id, size), scene.annotations))
}

/// Writes one image and its mask.
fn write_masked(images: &Path, masks: &Path, split: u64, index: usize, spec: &ShapesSpec) -> Result<()> {
    let (id, size, scene) = draw(split, index, spec, &LARGE)?;
    write_jpeg(&images.join(file_name(id)), &scene.rgb, size)?;
    let path = masks.join(format!("{id:012}.png"));
    let write = || -> Result<()> {
        let mut encoder = png::Encoder::new(fs::File::create(&path)?, size[0], size[1]);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_palette(PALETTE.as_flattened());
        Ok(encoder.write_header()?.write_image_data(&scene.classes)?)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// The id, width and height of an image, and what is in it.
fn draw(split: u64, index: usize, spec: &ShapesSpec, look: &Look) -> Result<(usize, [u32; 2], Scene)> {
    // A sequence of its own: images do not depend on how many there are or on the number of threads.
    let mut dice = Dice::new(spec.seed, split << 32 | index as u64);
    let (width, full) = spec.size;
    let height = if dice.chance(0.25) { (full * 3 / 4).max(32) } else { full };
    let scene = scene(width, height, spec.most_objects, look, &mut dice)?;
    Ok((split as usize * 1_000_000 + index + 1, [width, height], scene))
}

fn write_jpeg(path: &Path, rgb: &[u8], [width, height]: [u32; 2]) -> Result<()> {
    let encoder = Encoder::new_file(path, JPEG_QUALITY).with_context(|| format!("cannot write {}", path.display()))?;
    let written = encoder.encode(rgb, width as u16, height as u16, ColorType::Rgb);
    written.with_context(|| format!("cannot write {}", path.display()))
}
