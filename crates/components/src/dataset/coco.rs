//! COCO detection datasets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotated::{self, Annotated, Choice, Crowd, Empty};
use super::split::Split;
use pipe_coco::index::{Index, LoadOptions};
use pipe_coco::synthetic::{ShapesSpec, write_shape_keypoints, write_shapes};
use pipe_core::facts::{Facts, Reads};
use pipe_core::{BuildContext, Config, Contract, Instance, Kind, PathValue, Problems, Property};

/// The largest label of a model.
const MAX_LABEL: usize = 65_535;
/// Images with boxes and masks, annotated in the COCO JSON format.
///
/// Images are in `<root>/<split>`, annotations in `<root>/annotations/instances_<split>.json`; both can be overridden. A
/// `file_name` that leads out of the folder of images is an error. Labels are the category ids, or what `classes` says; 0 is the background. What
/// cannot be trained on is skipped: images whose file is missing, degenerate boxes, boxes outside the image and, with
/// `masks`, objects with an invalid mask; the dataset summary counts them. `builtin:shapes` needs no files.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CocoConfig {
    /// Root folder of the dataset, or `builtin:shapes`.
    pub root: PathValue,
    /// The split, such as `train2017`; or a part of all images, such as `{ part = "train", fraction = 0.8 }`, and `part = "val"`
    /// of the same for the evaluation.
    #[serde(default = "train")]
    pub split: Split,
    /// Folder of the images; default `<root>/<split>`.
    #[serde(default)]
    pub images: Option<PathValue>,
    /// Annotation file; default `<root>/annotations/instances_<split>.json`, with `keypoints` `person_keypoints_<split>.json`.
    #[serde(default)]
    pub annotations: Option<PathValue>,
    /// The classes to use, by name: their labels are their places, from 1 on, and annotations of others are left out. With
    /// `"dataset.train:class_names"` the labels are those of the other dataset, whatever ids this file has.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub classes: Option<Vec<String>>,
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
    /// Whether to load keypoints: x, y in pixels and 0 for not labelled, 1 for hidden, 2 for visible.
    #[serde(default)]
    pub keypoints: bool,
    /// Leave out images whose objects have fewer labelled keypoints than this, all together: torchvision's reference trains on those
    /// with ten. Needs `keypoints`.
    #[serde(default)]
    pub min_keypoints: usize,
    /// What to do with crowd annotations: `drop` as torchvision's references do, or `keep`, marked in `iscrowd`.
    #[serde(default)]
    pub crowd: Crowd,
    /// Whether annotations with an unknown image or category, or a duplicate id, are errors; otherwise they are skipped
    /// and counted in the dataset summary.
    #[serde(default = "yes")]
    pub strict: bool,
}

fn train() -> Split {
    Split::Name("train2017".into())
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

    fn facts(&self) -> Facts {
        let file = self.annotations.as_ref().map(PathValue::as_str);
        let few_keypoints = (self.min_keypoints > 0).then_some(("min_keypoints", "images with few keypoints"));
        Facts {
            reads: Some(match file {
                Some(file) => Reads { what: file.into(), part: self.split.part() },
                None => self.split.of(self.root.as_str()),
            }),
            limited: self.limit.is_some(),
            leaves_out: self.empty.leaves_out().into_iter().chain(few_keypoints).collect(),
            ..Facts::default()
        }
    }

    fn properties() -> &'static [Property] {
        annotated::KEYPOINT_PROPERTIES
    }

    fn check(&self, problems: &mut Problems) {
        self.split.check(problems);
        if self.min_keypoints > 0 && !self.keypoints {
            problems.at("min_keypoints", "no keypoints are loaded that could be counted", "add `keypoints = true`");
        }
        if self.split.name().is_none() && self.root.builtin().is_none() {
            for (option, given) in [("images", &self.images), ("annotations", &self.annotations)] {
                if given.is_none() {
                    let help = format!("name the one of all parts: {option} = \"…\"");
                    problems.at("split", format!("a part of the images has no `{option}` of its own"), help);
                }
            }
        }
    }

    fn contract(&self) -> Contract {
        annotated::contract(self.masks, self.keypoints)
    }
}

impl pipe_core::Component for CocoConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let root = match self.root.builtin() {
            None => PathBuf::from(self.root.as_str()),
            Some("shapes") => {
                let root = pipe_vocab::cache::dir()?.join("shapes");
                write_shapes(&root, &ShapesSpec::default())?;
                if self.keypoints {
                    write_shape_keypoints(&root, &ShapesSpec::default())?;
                }
                root
            }
            Some(other) => bail!("there is no builtin dataset `{other}` in COCO format; available: `builtin:shapes`"),
        };
        Ok(Instance::dataset(open(&self, &root)?))
    }
}

pipe_core::register!(CocoConfig);

/// Reads the annotations of a dataset in `root`.
///
/// # Errors
/// When they cannot be read or are wrong, or the images are not there.
pub fn open(config: &CocoConfig, root: &Path) -> Result<Annotated> {
    let place = |set_apart: &Option<PathValue>, usual: PathBuf| {
        set_apart.as_ref().and_then(PathValue::path).map_or(usual, Path::to_owned)
    };
    let split = config.split.name().unwrap_or("train2017");
    let task = if config.keypoints { "person_keypoints" } else { "instances" };
    let usual = root.join("annotations").join(format!("{task}_{split}.json"));
    let annotations = place(&config.annotations, usual);
    let images = place(&config.images, root.join(split));
    let load = LoadOptions { strict: config.strict, keypoints: config.keypoints, ..LoadOptions::default() };
    let index = Index::open(&annotations, &load);
    let index = match (config.keypoints, &config.annotations) {
        (true, None) => index.context("`keypoints = true` reads annotations of their own"),
        _ => index,
    }?;
    ensure!(!index.images().is_empty(), "{} lists no images", annotations.display());
    if config.classes.is_none() {
        check_labels(&index).with_context(|| format!("in {}", annotations.display()))?;
    }
    annotated::check_names(&index, &images).with_context(|| format!("in {}", annotations.display()))?;
    let index = index.with_files(&images).with_context(|| {
        format!("the images of {} are missing; `images` can point to another folder", annotations.display())
    })?;
    let choice = Choice {
        classes: config.classes.as_deref(),
        split: Some(&config.split),
        limit: config.limit,
        seed: config.seed,
        empty: config.empty,
        crowd: config.crowd,
        masks: config.masks,
        keypoints: config.keypoints,
        min_keypoints: config.min_keypoints,
        strict: config.strict,
    };
    Annotated::new(index, &images, Some(&annotations), &choice).with_context(|| format!("in {}", annotations.display()))
}

/// The names of the categories, as a list in the file has them.
fn quoted(index: &Index) -> String {
    let names: Vec<String> = index.categories().iter().map(|category| format!("{:?}", category.name)).collect();
    names.join(", ")
}

/// Labels are the category ids, so that a model has an output for each number up to the largest.
fn check_labels(index: &Index) -> Result<()> {
    let largest = index.num_classes() - 1;
    ensure!(
        largest <= MAX_LABEL,
        "a category has the id {largest}; ids are the labels of a model, which has an output for each up to the largest: \
         renumber them (at most {MAX_LABEL})"
    );
    let mut names = BTreeMap::new();
    for category in index.categories() {
        if let Some(other) = names.insert(&category.name, category.id) {
            bail!(
                "the categories {other} and {} are both called {:?}, so results could not tell them apart: rename one, or give the \
                 annotations of both one id",
                category.id,
                category.name
            );
        }
    }
    if let Some(name) = index.category_name(0) {
        let all = index.images().iter().enumerate().flat_map(|(position, _)| index.annotations(position));
        let count = all.filter(|annotation| annotation.category_id == 0).count();
        ensure!(
            count == 0,
            "{count} annotations are of category 0, {name:?}; ids are the labels of a model, and its label 0 is the background. Number \
             the classes from 1 on by naming them: classes = [{}] (Label Studio and YOLO count from 0)",
            quoted(index)
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::dataset::testing::{dataset, error};
    use pipe_data::{Extent, Field, Mask, fields};

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
            assert!(annotated::inside(folder, Path::new(name)), "{name}");
        }
        for name in ["../a.jpg", "a/../../b.jpg", "/etc/passwd", "/data/images/../a.jpg"] {
            assert!(!annotated::inside(folder, Path::new(name)), "{name}");
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
        std::fs::write(&path, text.replace("\"dog\"", "\"cat\"")).unwrap();
        let message = error("coco", json!({ "root": root.path() }));
        assert!(message.contains("the categories 1 and 3 are both called \"cat\""), "{message}");
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
        assert_eq!(set.extent(0), Some(Extent { height: 4, width: 6, objects: 1 }));
        assert!(set.report().unwrap().contains("degenerate box"), "{:?}", set.report());
        assert_eq!(set.extension().unwrap().downcast_ref::<Arc<Index>>().unwrap().annotation_count(), 3);
    }

    #[test]
    fn objects_have_keypoints_where_they_are_asked_for() {
        let root = folder();
        let path = |task: &str| root.path().join(format!("annotations/{task}_train2017.json"));
        let mut file: Value = serde_json::from_str(&std::fs::read_to_string(path("instances")).unwrap()).unwrap();
        file["categories"][1]["keypoints"] = json!(["nose", "left_ear", "right_ear"]);
        file["annotations"][0]["keypoints"] = json!([1, 2, 2, 3.5, 1, 1, 0, 0, 0]);
        let mut other = file["annotations"][0].clone();
        other.as_object_mut().unwrap().remove("keypoints");
        other["id"] = 20.into();
        file["annotations"].as_array_mut().unwrap().push(other);
        std::fs::write(path("person_keypoints"), file.to_string()).unwrap();
        let set = dataset("coco", json!({ "root": root.path(), "keypoints": true, "masks": false })).unwrap();
        let points = vec![vec![[1.0, 2.0, 2.0], [3.5, 1.0, 1.0], [0.0; 3]], vec![[0.0; 3]; 3]];
        assert_eq!(set.get(0).unwrap().get(fields::KEYPOINTS), Some(&Field::Keypoints(points)));
        assert_eq!(set.contents().unwrap().mirror_pairs, [[1, 2]]);
        let counted =
            |least: usize| json!({ "root": root.path(), "keypoints": true, "masks": false, "min_keypoints": least });
        assert_eq!(dataset("coco", counted(2)).unwrap().len(), 1);
        let message = error("coco", counted(3));
        assert!(message.contains("as many labelled keypoints as `min_keypoints` says"), "{message}");
        let message =
            error("coco", json!({ "root": root.path(), "keypoints": true, "annotations": path("instances") }));
        assert!(message.contains("no object has keypoints"), "{message}");
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
