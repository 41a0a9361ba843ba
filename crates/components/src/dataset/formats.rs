//! Datasets in the formats of others, against what their own programs read (`tests/formats/make.py`).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use pipe_coco::index::Index;
use pipe_core::Dataset;
use pipe_data::{Field, Pixels, Sample, fields};
use serde_json::{Value, json};

use super::testing::{dataset, error};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats").join(name)
}

fn expected(part: &str) -> Value {
    let text = std::fs::read_to_string(folder("expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[part].clone()
}

fn index(set: &Arc<dyn Dataset>) -> &Index {
    set.extension().unwrap().downcast_ref::<Arc<Index>>().unwrap()
}

fn name(sample: &Sample) -> String {
    Path::new(sample.source()).file_name().unwrap().to_str().unwrap().to_owned()
}

/// A copy of a fixture that may be changed.
fn copy(name: &str) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in walkdir::WalkDir::new(folder(name)).into_iter().map(Result::unwrap) {
        let path = to.path().join(entry.path().strip_prefix(folder(name)).unwrap());
        match entry.file_type().is_dir() {
            true => std::fs::create_dir_all(&path).unwrap(),
            false => drop(std::fs::copy(entry.path(), &path).unwrap()),
        }
    }
    to
}

#[test]
fn keypoints_are_those_of_pycocotools() {
    let set =
        dataset("coco", json!({ "root": folder("keypoints"), "split": "train", "masks": false, "keypoints": true }));
    let sample = set.unwrap().get(0).unwrap();
    let Some(Field::Keypoints(points)) = sample.get(fields::KEYPOINTS) else { panic!("no keypoints") };
    assert_eq!(json!(points), expected("keypoints"));
}

#[test]
fn yolo_is_read_as_ultralytics_reads_it() {
    let set = dataset("yolo", json!({ "data": folder("yolo/data.yaml"), "masks": true })).unwrap();
    let index = index(&set);
    let expected = expected("yolo");
    assert_eq!(set.len(), 3);
    for position in 0..set.len() {
        let image = &index.images()[position];
        let of = &expected[Path::new(&*image.file_name).file_name().unwrap().to_str().unwrap()];
        assert_eq!(json!([image.height, image.width]), of["size"], "{}", image.file_name);
        let objects = index.annotations(position);
        assert_eq!(json!(objects.iter().map(|object| object.category_id).collect::<Vec<_>>()), of["labels"]);
        for (object, xywh) in objects.iter().zip(of["xywh"].as_array().unwrap()) {
            for (side, theirs) in object.bbox.iter().zip(xywh.as_array().unwrap()) {
                // Ultralytics keeps shares in single precision.
                assert!((side - theirs.as_f64().unwrap()).abs() < 1e-5, "{:?} and {xywh}", object.bbox);
            }
        }
    }
    let turned = set.get(2).unwrap();
    let image = turned.image().unwrap();
    assert_eq!((name(&turned).as_str(), image.height, image.width), ("c.jpg", 20, 12));
    assert_eq!(turned.instances(), Some(2), "polygons have masks");
    assert_eq!(set.get(0).unwrap().instances(), Some(0), "boxes have none");
    assert_eq!(set.property("class_names").unwrap(), json!(["background", "apple", "pear"]));
    let listed = dataset("yolo", json!({ "data": folder("yolo/data.yaml"), "split": "val" })).unwrap();
    assert_eq!((listed.len(), name(&listed.get(0).unwrap()).as_str()), (1, "a.png"));
    assert_eq!(listed.get(0).unwrap().instances(), Some(2));
}

#[test]
fn lines_that_are_no_labels_are_named_or_skipped() {
    let copy = copy("yolo");
    let (data, labels) = (copy.path().join("data.yaml"), copy.path().join("labels/train/b.txt"));
    let open = |strict: bool| json!({ "data": data, "strict": strict });
    for (line, expected) in [
        ("2 0.5 0.5 0.1 0.1", "class 2 is not among the 2 `names`"),
        ("0 0.5 0.5 0.1", "has 3 numbers after the class: a box has 4, a polygon at least 6"),
        ("0 120 80 30 30", "has numbers outside 0 to 1: they are shares of the image, not pixels"),
        ("apple 0.5 0.5 0.1 0.1", "does not begin with the number of a class"),
        ("0 0.5 nan 0.1 0.1", "has something that is no number"),
    ] {
        std::fs::write(&labels, format!("0 0.5 0.5 0.1 0.1\n\n{line}\n")).unwrap();
        let error = error("yolo", open(true));
        assert!(error.contains("b.txt:3: ") && error.contains(expected), "{error}");
        let set = dataset("yolo", open(false)).unwrap();
        assert_eq!(set.get(1).unwrap().instances(), Some(1));
    }
    std::fs::write(&data, "train: images/train\n").unwrap();
    assert!(error("yolo", open(true)).contains("is no data.yaml of YOLO"));
    std::fs::write(&data, "train: nowhere\nnames: [a, b]\n").unwrap();
    assert!(error("yolo", open(true)).contains("is neither a folder nor a list of images"));
    std::fs::write(&data, "val: images/train\nnames: [a, b]\n").unwrap();
    assert!(error("yolo", open(true)).contains("names no images for `train`"));
}

#[test]
fn sets_that_nothing_would_be_learnt_from_are_refused() {
    let copy = copy("yolo");
    let data = copy.path().join("data.yaml");
    std::fs::remove_file(copy.path().join("labels/train/c.txt")).unwrap();
    let message = error("yolo", json!({ "data": data, "masks": true }));
    assert!(
        message.contains("not one of the 2 objects has a mask") && message.contains("`masks = false`"),
        "{message}"
    );
    std::fs::remove_dir_all(copy.path().join("labels")).unwrap();
    let message = error("yolo", json!({ "data": data }));
    assert!(message.contains("not one of the 3 images has a file of labels; looked for such as"), "{message}");
}

#[test]
fn poses_are_read_for_their_boxes() {
    let copy = copy("yolo");
    let data = copy.path().join("data.yaml");
    std::fs::write(&data, "train: images/train\nnames: [a, b]\nkpt_shape: [2, 3]\n").unwrap();
    std::fs::write(copy.path().join("labels/train/b.txt"), "0 0.5 0.5 0.5 0.25 0.1 0.1 2 0.2 0.2 1\n").unwrap();
    let set = dataset("yolo", json!({ "data": data })).unwrap();
    assert_eq!(set.get(1).unwrap().get(fields::BOXES), Some(&Field::Boxes(vec![[4.0, 6.0, 12.0, 10.0]])));
}

#[test]
fn voc_is_read_by_its_corners() {
    let expected = expected("voc");
    let open = |split: &str| dataset("voc", json!({ "root": folder("voc"), "split": split })).unwrap();
    for split in ["train", "val"] {
        let set = open(split);
        let index = index(&set);
        for position in 0..set.len() {
            let image = &index.images()[position];
            let theirs = expected[image.file_name.trim_end_matches(".jpg")].as_array().unwrap();
            let objects = index.annotations(position);
            assert_eq!(objects.len(), theirs.len(), "{}", image.file_name);
            for (object, theirs) in objects.iter().zip(theirs) {
                let corner = |i: usize| theirs[i].as_f64().unwrap();
                // Pixels count from 1, and both corners belong to the box.
                let [x, y] = [corner(1) - 1.0, corner(2) - 1.0];
                assert_eq!(object.bbox, [x, y, corner(3) - x, corner(4) - y]);
                assert_eq!(index.category_name(object.category_id), theirs[0].as_str());
                assert_eq!(json!(u8::from(object.crowd)), theirs[5]);
            }
        }
    }
    let train = open("train");
    assert_eq!(train.property("num_classes").unwrap(), 21);
    let sample = train.get(0).unwrap();
    assert_eq!(
        sample.get(fields::BOXES),
        Some(&Field::Boxes(vec![[0.0, 0.0, 32.0, 24.0]])),
        "difficult ones are left out"
    );
    assert_eq!(train.get(1).unwrap().instances(), Some(0));
    let part = json!({ "root": folder("voc"), "split": { "part": "val", "fraction": 0.67 } });
    assert_eq!(dataset("voc", part).unwrap().len(), 1);
}

#[test]
fn other_classes_than_vocs_are_those_of_all_splits() {
    let copy = copy("voc");
    let path = copy.path().join("Annotations/three.xml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("person", "screw")).unwrap();
    let config = |split: &str| json!({ "root": copy.path(), "split": split });
    let names = |split| dataset("voc", config(split)).unwrap().property("class_names").unwrap();
    assert_eq!(names("train"), json!(["background", "cat", "dog", "screw"]));
    assert_eq!(names("val"), names("train"));
    std::fs::write(&path, text.replace("<xmin>5.5</xmin>", "")).unwrap();
    let message = error("voc", config("val"));
    assert!(message.contains("three.xml") && message.contains("has \"\" for `xmin`, which is no number"), "{message}");
    std::fs::write(&path, "<annotation><object>").unwrap();
    assert!(error("voc", config("val")).contains("three.xml"));
}

#[test]
fn masks_are_the_numbers_of_their_pixels() {
    let config = json!({
        "images": folder("masks/images"), "masks": folder("masks/masks"), "class_names": ["sky", "road", "tree"],
    });
    let set = dataset("segmentation", config.clone()).unwrap();
    let expected = expected("masks");
    for place in 0..set.len() {
        let sample = set.get(place).unwrap();
        let Some(Field::Segmentation { height: 5, width: 7, classes }) = sample.get(fields::SEGMENTATION) else {
            panic!("no masks of 5 × 7")
        };
        assert_eq!(json!(classes), expected[name(&sample).trim_end_matches(".jpg")], "{}", sample.source());
    }
    let mut fewer = config.clone();
    fewer["class_names"] = json!(["sky", "road"]);
    let few = dataset("segmentation", fewer).unwrap();
    let error = (0..3).find_map(|place| few.get(place).err()).unwrap().to_string();
    assert!(error.contains("has pixels of class 2, but there are 2 classes"), "{error}");
    let mut colors = config;
    colors["masks"] = json!(folder("masks/images"));
    let error = format!("{:#}", dataset("segmentation", colors).unwrap().get(0).unwrap_err());
    assert!(error.contains("cannot read the mask"), "{error}");
}

#[test]
fn masks_are_found_below_a_root_by_split_and_part() {
    let classes = json!(["background", "circle", "square", "triangle", "star"]);
    let shapes = |split: serde_json::Value| json!({ "root": "builtin:shapes", "split": split, "class_names": classes });
    let val = dataset("segmentation", shapes(json!("val"))).unwrap();
    assert_eq!(val.len(), 100);
    let sample = val.get(0).unwrap();
    assert!(sample.source().ends_with("images/val/000001000001.jpg"), "{}", sample.source());
    assert!(matches!(sample.get(fields::SEGMENTATION), Some(Field::Segmentation { .. })));
    let part = |part: &str| {
        let split = json!({ "part": part, "fraction": 0.67 });
        let config = json!({ "images": folder("masks/images"), "masks": folder("masks/masks"), "split": split,
            "class_names": ["sky", "road", "tree"] });
        let set = dataset("segmentation", config).unwrap();
        (0..set.len()).map(|place| name(&set.get(place).unwrap())).collect::<Vec<_>>()
    };
    let (train, val) = (part("train"), part("val"));
    assert_eq!((train.len(), val.len()), (2, 1));
    assert!(!train.contains(&val[0]));
    let error = error("segmentation", json!({ "root": "builtin:digits", "class_names": classes }));
    assert!(error.contains("available: `builtin:shapes`"), "{error}");
    let problems = |config: serde_json::Value| crate::dataset::testing::error("segmentation", config);
    let twice = problems(json!({ "root": "builtin:shapes", "split": "val", "class_names": ["a", "b", "a"] }));
    assert!(twice.contains("\"a\" is there twice"), "{twice}");
    let rootless = problems(json!({ "images": "x", "class_names": ["a"] }));
    assert!(rootless.contains("neither `root` nor `masks` is set"), "{rootless}");
}

#[test]
fn arrays_are_numpys() {
    let pixels = |sample: &Sample| match &sample.image().unwrap().pixels {
        Pixels::U8(pixels) => json!(pixels),
        _ => panic!("no bytes"),
    };
    let of = |name: &str| format!("{}:{name}", folder("arrays/data.npz").display());
    let color = json!({ "images": of("train_images"), "labels": of("train_labels") });
    let set = dataset("numpy", color).unwrap();
    assert_eq!((set.len(), pixels(&set.get(1).unwrap())), (3, expected("arrays")["color"].clone()));
    let labels: Vec<_> = (0..3).map(|place| set.get(place).unwrap().get(fields::LABEL).cloned().unwrap()).collect();
    assert_eq!(labels, [2, 0, 1].map(Field::Integer));
    assert_eq!(set.property("num_classes").unwrap(), 3);
    let grey = json!({ "images": folder("arrays/grey.npy"), "labels": folder("arrays/labels.npy"), "class_names": ["a", "b"] });
    let set = dataset("numpy", grey).unwrap();
    assert_eq!(pixels(&set.get(2).unwrap()), expected("arrays")["grey"]);
    let message = error("numpy", json!({ "images": of("images"), "labels": of("train_labels") }));
    assert!(message.contains("it has no array `images`, but: names, train_images, train_labels"), "{message}");
    let message = error("numpy", json!({ "images": of("train_images"), "labels": folder("arrays/grey.npy") }));
    assert!(message.contains("have the shape [3, 2, 4]; they are [N] or [N, 1]"), "{message}");
}

#[test]
fn classes_are_chosen_and_numbered_by_name() {
    let data = folder("yolo/data.yaml");
    let set = dataset("yolo", json!({ "data": data, "classes": ["pear"] })).unwrap();
    assert_eq!(set.get(0).unwrap().get(fields::LABELS), Some(&Field::Integers(vec![1])));
    assert!(
        set.report().unwrap().contains("2 annotations of other classes are left out (apple)"),
        "{:?}",
        set.report()
    );
    let other = json!({ "data": data, "classes": ["background", "", "", "apple", "pear"] });
    let set = dataset("yolo", other).unwrap();
    assert_eq!(set.get(0).unwrap().get(fields::LABELS), Some(&Field::Integers(vec![3, 4])));
    let message = error("yolo", json!({ "data": data, "classes": ["pear", "plum"] }));
    assert!(
        message.contains("`classes` names plum, which the annotations do not have; the others there are: apple"),
        "{message}"
    );
}
