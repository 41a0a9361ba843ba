//! COCO detection datasets.

use std::any::Any;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use pipe_coco::dice::Dice;
use pipe_coco::index::{Annotation, Index, LoadOptions};
use pipe_coco::synthetic::{ShapesSpec, write_shapes};
use pipe_core::Dataset;
use pipe_core::{BuildContext, Config, Contract, Instance, Kind, PathValue, Property, PropertyType};
use pipe_data::decode::read_image;
use pipe_data::{Field, Fingerprint, Image, Mask, Masks, Sample, fields};

/// The largest label of a model.
const MAX_LABEL: usize = 65_535;
/// Pixels that the masks of one image may take, each in its own window: 2 GiB.
const MAX_MASK_PIXELS: f64 = (2u64 << 30) as f64;

/// Images with boxes and masks, annotated in the COCO JSON format.
///
/// Images are in `<root>/<split>`, annotations in `<root>/annotations/instances_<split>.json`; both can be overridden. A
/// `file_name` that leads out of the folder of images is an error. Labels are the category ids, 0 is the background. What
/// cannot be trained on is skipped: images whose file is missing, degenerate boxes, boxes outside the image and, with
/// `masks`, objects with an invalid mask; the dataset summary counts them. `builtin:shapes` needs no files.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CocoConfig {
    /// Root folder of the dataset, or `builtin:shapes`.
    pub root: PathValue,
    /// The split, such as `train2017`.
    #[serde(default = "train")]
    pub split: String,
    /// Folder of the images; default `<root>/<split>`.
    #[serde(default)]
    pub images: Option<PathValue>,
    /// Annotation file; default `<root>/annotations/instances_<split>.json`.
    #[serde(default)]
    pub annotations: Option<PathValue>,
    /// Use only this many images, sampled at random.
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub limit: Option<usize>,
    /// Seed of that sampling: the same images on every machine, independent of the pipeline's seed.
    #[serde(default)]
    pub seed: u64,
    /// What to do with images without usable annotations.
    #[serde(default)]
    pub empty: Empty,
    /// Whether to load masks.
    #[serde(default = "yes")]
    pub masks: bool,
    /// What to do with crowd annotations: `drop` as torchvision's references do, or `keep`, marked in `iscrowd`.
    #[serde(default)]
    pub crowd: Crowd,
    /// Whether annotations with an unknown image or category, or a duplicate id, are errors; otherwise they are skipped
    /// and counted in the dataset summary.
    #[serde(default = "yes")]
    pub strict: bool,
}

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

fn train() -> String {
    "train2017".into()
}

fn yes() -> bool {
    true
}

impl Config for CocoConfig {
    const KIND: Kind = Kind::Dataset;
    const TYPE: &'static str = "coco";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "coco"
root = "data/coco"
split = "train2017"
empty = "drop"
"#;

    fn properties() -> &'static [Property] {
        &[
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
        ]
    }

    fn contract(&self) -> Contract {
        let all = [
            fields::IMAGE,
            fields::BOXES,
            fields::LABELS,
            fields::AREA,
            fields::ISCROWD,
            fields::IMAGE_ID,
            fields::ORIGINAL_SIZE,
            fields::SOURCE,
        ];
        let contract = Contract::default().adds(all);
        if self.masks { contract.adds([fields::MASKS]) } else { contract }
    }
}

impl pipe_core::Component for CocoConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let root = match self.root.builtin() {
            None => PathBuf::from(self.root.as_str()),
            Some("shapes") => {
                let root = pipe_vocab::cache::dir()?.join("shapes");
                write_shapes(&root, &ShapesSpec::default())?;
                root
            }
            Some(other) => bail!("there is no builtin dataset `{other}` in COCO format; available: `builtin:shapes`"),
        };
        Ok(Instance::dataset(Coco::open(&self, &root)?))
    }
}

pipe_core::register!(CocoConfig);

/// See [`CocoConfig`].
pub struct Coco {
    index: Arc<Index>,
    annotations: PathBuf,
    /// Kept: the file may be edited while a run is at work.
    fingerprint: OnceLock<Option<String>>,
    /// Whether it was said that images are turned upright.
    turned: AtomicBool,
    images: PathBuf,
    masks: bool,
    crowd: Crowd,
}

impl Coco {
    /// Reads the annotations of a dataset in `root`.
    ///
    /// # Errors
    /// When they cannot be read or are wrong, or the images are not there.
    pub fn open(config: &CocoConfig, root: &Path) -> Result<Coco> {
        let place = |set_apart: &Option<PathValue>, usual: PathBuf| {
            set_apart.as_ref().and_then(PathValue::path).map_or(usual, Path::to_owned)
        };
        let usual = root.join("annotations").join(format!("instances_{}.json", config.split));
        let annotations = place(&config.annotations, usual);
        let images = place(&config.images, root.join(&config.split));
        let index = Index::open(&annotations, &LoadOptions { strict: config.strict, ..LoadOptions::default() })?;
        ensure!(!index.images().is_empty(), "{} lists no images", annotations.display());
        check_labels(&index).with_context(|| format!("in {}", annotations.display()))?;
        check_names(&index, &images).with_context(|| format!("in {}", annotations.display()))?;
        let index = index.with_files(&images).with_context(|| {
            format!("the images of {} are missing; `images` can point to another folder", annotations.display())
        })?;
        let index = select(index, config)?;
        ensure!(
            !index.images().is_empty(),
            "{} has no usable images: none has an annotation that can be trained on{}",
            annotations.display(),
            if config.masks { "; without masks (`masks = false`) there may be" } else { "" }
        );
        Ok(Coco {
            index: Arc::new(index),
            annotations,
            fingerprint: OnceLock::new(),
            turned: AtomicBool::new(false),
            images,
            masks: config.masks,
            crowd: config.crowd,
        })
    }
}

/// Labels are the category ids, so that a model has an output for each number up to the largest.
fn check_labels(index: &Index) -> Result<()> {
    let largest = index.num_classes() - 1;
    ensure!(
        largest <= MAX_LABEL,
        "a category has the id {largest}; ids are the labels of a model, which has an output for each up to the largest: \
         renumber them (at most {MAX_LABEL})"
    );
    if let Some(name) = index.category_name(0) {
        let all = index.images().iter().enumerate().flat_map(|(position, _)| index.annotations(position));
        let count = all.filter(|annotation| annotation.category_id == 0).count();
        ensure!(
            count == 0,
            "{count} annotations are of category 0, {name:?}; ids are the labels of a model, and its label 0 is the background: \
             renumber the categories from 1 (Label Studio and YOLO count from 0)"
        );
    }
    Ok(())
}

/// Refuses names that lead out of the folder of images: a foreign file must not choose what is read. An absolute name below
/// the folder is inside.
fn check_names(index: &Index, folder: &Path) -> Result<()> {
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
fn inside(folder: &Path, name: &Path) -> bool {
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

/// The images that are used: empty ones filtered, then the random subset.
fn select(index: Index, config: &CocoConfig) -> Result<Index> {
    let mut positions: Vec<usize> = (0..index.images().len()).collect();
    if config.empty == Empty::Drop {
        positions.retain(|&p| index.annotations(p).iter().any(|a| is_used(a, config.crowd, config.masks)));
    }
    if let Some(limit) = config.limit {
        let drawn = Dice::new(config.seed, 0).choose(positions.len(), limit);
        positions = drawn.into_iter().map(|i| positions[i]).collect();
    }
    if positions.len() == index.images().len() { Ok(index) } else { index.subset(&positions) }
}

/// Whether an annotation becomes an instance of a sample.
fn is_used(annotation: &Annotation, crowd: Crowd, masks: bool) -> bool {
    annotation.box_usable && (annotation.mask_usable || !masks) && (crowd == Crowd::Keep || !annotation.crowd)
}

impl Coco {
    /// An image as its annotations mean it: mostly the pixels as stored, before any EXIF rotation; turned upright where they are for
    /// that size only.
    fn image(&self, path: &Path, [height, width]: [usize; 2], id: i64) -> Result<Image> {
        let image = read_image(path, false)?;
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
}

impl Dataset for Coco {
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
        let mut mask_pixels = 0.0;
        for annotation in self.index.annotations(index).iter().filter(|a| is_used(a, self.crowd, self.masks)) {
            let Some(corners) = corners(annotation.bbox, height, width) else { continue };
            boxes.push(corners);
            labels.push(i64::from(annotation.category_id));
            areas.push(annotation.area as f32);
            crowds.push(i64::from(annotation.crowd));
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
        Ok(sample)
    }

    fn property(&self, name: &str) -> Result<Value> {
        match name {
            "num_classes" => Ok(self.index.num_classes().into()),
            "class_names" => {
                let name =
                    |id: u32| if id == 0 { "background" } else { self.index.category_name(id).unwrap_or_default() };
                Ok(json!((0..self.index.num_classes() as u32).map(name).collect::<Vec<_>>()))
            }
            _ => bail!("a COCO dataset has no property `{name}`"),
        }
    }

    fn aspect_ratio(&self, index: usize) -> Option<f32> {
        self.index.images().get(index).map(|image| (f64::from(image.width) / f64::from(image.height)) as f32)
    }

    fn class_names(&self) -> Vec<(i64, String)> {
        self.index.categories().iter().map(|category| (i64::from(category.id), category.name.clone())).collect()
    }

    /// Of the annotations as they are when this is asked first, and of which images are used.
    fn fingerprint(&self) -> Option<String> {
        let of = || {
            let sum = Fingerprint::default().with_file(&self.annotations);
            let sum = sum.map_err(|error| tracing::warn!("{error:#}")).ok()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::testing::{dataset, error};

    fn annotation(id: i64, image: i64, bbox: [f64; 4], crowd: bool) -> Value {
        let [x, y, w, h] = bbox;
        let segmentation = if crowd {
            json!({ "size": [4, 6], "counts": [4, 8, 12] })
        } else {
            json!([[x, y, x + w, y, x + w, y + h, x, y + h]])
        };
        json!({
            "id": id, "image_id": image, "category_id": 3, "bbox": bbox, "area": w * h, "iscrowd": i32::from(crowd),
            "segmentation": segmentation,
        })
    }

    /// Three images of 4 by 6 pixels: one with an object and a crowd, one empty, one with only a damaged box.
    fn folder() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["train2017", "annotations"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        let images: Vec<Value> =
            (1..=3).map(|id| json!({ "id": id, "height": 4, "width": 6, "file_name": format!("{id}.png") })).collect();
        for id in 1..=3 {
            let image = tch::Tensor::full([3, 4, 6], id * 20, (tch::Kind::Uint8, tch::Device::Cpu));
            let png = pipe_native::image::encode_png(&image, 1).unwrap();
            std::fs::write(root.path().join(format!("train2017/{id}.png")), png).unwrap();
        }
        let annotations = [
            annotation(10, 1, [1.0, 1.0, 2.0, 2.0], false),
            annotation(11, 1, [1.0, 0.0, 2.0, 4.0], true),
            annotation(12, 3, [1.0, 1.0, 0.0, 2.0], false),
        ];
        let categories = [json!({ "id": 1, "name": "cat" }), json!({ "id": 3, "name": "dog" })];
        let file = json!({ "images": images, "annotations": annotations, "categories": categories });
        std::fs::write(root.path().join("annotations/instances_train2017.json"), file.to_string()).unwrap();
        root
    }

    #[test]
    fn names_stay_in_the_folder() {
        let folder = Path::new("/data/images");
        for name in ["a.jpg", "a/../b.jpg", "./a/b.jpg", "/data/images/a.jpg"] {
            assert!(inside(folder, Path::new(name)), "{name}");
        }
        for name in ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "/data/images/../a.jpg"] {
            assert!(!inside(folder, Path::new(name)), "{name}");
        }
        let root = self::folder();
        let path = root.path().join("annotations/instances_train2017.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("2.png", "../annotations/2.png")).unwrap();
        let message = error("coco", json!({ "root": root.path() }));
        assert!(message.contains("`../annotations/2.png`, which leads out of the folder"), "{message}");
    }

    #[test]
    fn labels_are_bounded() {
        let root = folder();
        let path = root.path().join("annotations/instances_train2017.json");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"id\":1,\"name\":\"cat\"", "\"id\":100000000,\"name\":\"cat\"")).unwrap();
        let message = error("coco", json!({ "root": root.path() }));
        assert!(message.contains("a category has the id 100000000"), "{message}");
    }

    #[test]
    fn samples_have_every_field() {
        let root = folder();
        let set = dataset("coco", json!({ "root": root.path() })).unwrap();
        assert_eq!(set.len(), 3);
        let sample = set.get(0).unwrap();
        assert_eq!(sample.get(fields::BOXES), Some(&Field::Boxes(vec![[1.0, 1.0, 3.0, 3.0]])));
        assert_eq!(sample.get(fields::LABELS), Some(&Field::Integers(vec![3])));
        assert_eq!(sample.get(fields::AREA), Some(&Field::Numbers(vec![4.0])));
        assert_eq!(sample.get(fields::IMAGE_ID), Some(&Field::Integer(1)));
        let Some(Field::Masks(masks)) = sample.get(fields::MASKS) else { panic!("no masks") };
        assert_eq!(masks.instances, [Mask { left: 1, top: 1, width: 2, height: 2, bits: vec![1; 4] }]);
        assert!(sample.source().ends_with("1.png"));
        assert_eq!(set.get(2).unwrap().instances(), Some(0), "a box without width is no instance");
        assert_eq!(set.property("num_classes").unwrap(), 4);
        assert_eq!(set.property("class_names").unwrap(), json!(["background", "cat", "", "dog"]));
        assert_eq!(set.aspect_ratio(0), Some(1.5));
        assert!(set.report().unwrap().contains("degenerate box"), "{:?}", set.report());
        assert_eq!(set.extension().unwrap().downcast_ref::<Arc<Index>>().unwrap().annotation_count(), 3);
    }

    #[test]
    fn crowds_and_empty_pictures_are_a_choice() {
        let root = folder();
        let set =
            dataset("coco", json!({ "root": root.path(), "crowd": "keep", "empty": "drop", "masks": false })).unwrap();
        assert_eq!(set.len(), 1);
        let sample = set.get(0).unwrap();
        assert_eq!(sample.get(fields::ISCROWD), Some(&Field::Integers(vec![0, 1])));
        assert_eq!(sample.get(fields::MASKS), None);
        let drawn = |seed| dataset("coco", json!({ "root": root.path(), "limit": 1, "seed": seed })).unwrap();
        let id = |seed| drawn(seed).get(0).unwrap().get(fields::IMAGE_ID).cloned();
        assert_eq!(drawn(0).len(), 1);
        assert!((1..20).any(|seed| id(seed) != id(0)) && id(5) == id(5));
        assert!((0..20).all(|seed| (drawn(seed).fingerprint() == drawn(0).fingerprint()) == (id(seed) == id(0))));
        let (before, annotations) = (set.fingerprint(), root.path().join("annotations/instances_train2017.json"));
        assert!(before.is_some());
        let text = std::fs::read_to_string(&annotations).unwrap().replace("\"cat\"", "\"cow\"");
        std::fs::write(&annotations, text).unwrap();
        assert_eq!(set.fingerprint(), before);
        let again = json!({ "root": root.path(), "crowd": "keep", "empty": "drop", "masks": false });
        assert_ne!(dataset("coco", again).unwrap().fingerprint(), before);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let root = folder();
        let message = error("coco", json!({ "root": root.path(), "split": "val2017" }));
        assert!(message.contains("instances_val2017.json"), "{message}");
        let message = error("coco", json!({ "root": root.path(), "images": root.path().join("else") }));
        assert!(message.contains("else (such as 1.png)") && message.contains("`images` can point to"), "{message}");
        let set = dataset("coco", json!({ "root": root.path() })).unwrap();
        std::fs::write(root.path().join("train2017/2.png"), "cut").unwrap();
        std::fs::copy(root.path().join("train2017/1.png"), root.path().join("train2017/other.png")).unwrap();
        let message = format!("{:#}", set.get(1).unwrap_err());
        assert!(message.contains("2.png"), "{message}");
        let large = tch::Tensor::zeros([3, 5, 6], (tch::Kind::Uint8, tch::Device::Cpu));
        std::fs::write(root.path().join("train2017/3.png"), pipe_native::image::encode_png(&large, 1).unwrap())
            .unwrap();
        let message = format!("{:#}", set.get(2).unwrap_err());
        assert!(message.contains("has 5 × 6 pixels, but its annotations are for 4 × 6"), "{message}");
    }
}
