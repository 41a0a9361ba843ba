//! `builtin:shapes` and `builtin:digits`, read back as any data set would be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use pipe_coco::synthetic::{
    DigitsSpec, ShapesSpec, write_digits, write_shape_keypoints, write_shape_masks, write_shapes,
};
use pipe_coco::{eval::Detection, eval::Evaluator, eval::IouType};
use pipe_coco::{index::Index, index::LoadOptions, index::Segmentation};

fn spec() -> ShapesSpec {
    ShapesSpec { train: 60, val: 12, size: (96, 80), ..ShapesSpec::default() }
}

/// Every file below a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                files.insert(path.strip_prefix(folder).unwrap().display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn shapes_have_masks_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("masks");
    let spec = ShapesSpec { train: 40, val: 3, ..ShapesSpec::few() };
    write_shape_masks(&root, &spec).unwrap();
    let files = contents(&root);
    let of = |part: &str| files.keys().filter(|name| name.starts_with(part)).count();
    assert_eq!(["images/train", "images/val", "masks/train", "masks/val"].map(of), [40, 3, 40, 3]);
    let mut counts = [0usize; 5];
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("masks")) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        assert!(reader.info().color_type == png::ColorType::Indexed && [48, 64].contains(&reader.info().height));
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        assert!(files.contains_key(&name.replace("masks", "images").replace(".png", ".jpg")));
        pixels.iter().for_each(|class| counts[usize::from(*class)] += 1);
    }
    let all: usize = counts.iter().sum();
    assert!(counts.iter().all(|count| *count > all / 100), "every class is there: {counts:?}");
    assert!(counts[0] > all / 2 && counts[0] < all * 9 / 10, "{counts:?}");
    let again = folder.path().join("again");
    write_shape_masks(&again, &spec).unwrap();
    assert!(contents(&again) == files, "the same seed gives the same bytes");
}

#[test]
fn shapes_are_a_clean_coco_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shapes");
    write_shapes(&root, &spec()).unwrap();
    let index = Index::open(&root.join("annotations/instances_train2017.json"), &LoadOptions::default()).unwrap();
    assert!(index.audit().is_clean(), "{}", index.audit());
    assert_eq!((index.images().len(), index.num_classes()), (60, 8));
    assert_eq!(index.category_name(7), Some("star"));

    let (mut classes, mut crowds, mut polygons) = (BTreeSet::new(), 0, 0);
    for (position, image) in index.images().iter().enumerate() {
        assert!(root.join("train2017").join(&*image.file_name).is_file());
        for annotation in index.annotations(position) {
            let mask = index.mask(annotation).unwrap();
            assert_eq!(mask.area() as f64, annotation.area);
            // The box of a polygon is the polygon's, whose tips may be too sharp for a pixel of their own.
            let corners = |[x, y, w, h]: [f64; 4]| [x, y, x + w, y + h];
            let pairs = corners(mask.bbox()).into_iter().zip(corners(annotation.bbox));
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 3.0), "{:?}", pairs.collect::<Vec<_>>());
            classes.insert(annotation.category_id);
            crowds += usize::from(annotation.crowd);
            polygons += usize::from(matches!(index.segmentation(annotation), Segmentation::Polygons(_)));
        }
    }
    assert_eq!(classes.into_iter().collect::<Vec<_>>(), [1, 3, 4, 7]);
    assert!(crowds > 0 && polygons > index.annotation_count() / 2, "{crowds} crowds, {polygons} polygons");
}

#[test]
fn shapes_have_keypoints() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shapes");
    write_shapes(&root, &spec()).unwrap();
    let before = contents(&root);
    write_shape_keypoints(&root, &spec()).unwrap();
    let mut after = contents(&root);
    let added: Vec<_> = ["train2017", "val2017"]
        .map(|split| after.remove(&format!("annotations/person_keypoints_{split}.json")).unwrap())
        .into();
    assert!(after == before, "nothing else is changed");
    // Bit for bit on every machine.
    assert_eq!(added.iter().map(|bytes| crc32fast::hash(bytes)).collect::<Vec<_>>(), [1260361130, 3600196274]);

    let load = LoadOptions { keypoints: true, ..LoadOptions::default() };
    let index = Index::open(&root.join("annotations/person_keypoints_train2017.json"), &load).unwrap();
    assert!(index.audit().is_clean() && index.keypoint_count() == 5, "{}", index.audit());
    let mut seen = [0; 3];
    for (position, image) in index.images().iter().enumerate() {
        for annotation in index.annotations(position) {
            let points = index.keypoints(annotation);
            points.iter().for_each(|[_, _, v]| seen[*v as usize] += 1);
            let [x, y, w, h] = annotation.bbox.map(|v| v as f32);
            let whole = !annotation.crowd && points.iter().all(|point| point[2] == 2.0);
            let inside = x > 0.0 && y > 0.0 && x + w < image.width as f32 && y + h < image.height as f32;
            if whole && inside {
                // Of what is hidden in part, the pixels that are seen are annotated, and a tip may be too sharp for one.
                let near = |a: f32, b: f32| (a - b).abs() <= 3.0;
                let [_, top, right, bottom, left] = points else { panic!("{points:?}") };
                assert!(near(top[1], y) && near(bottom[1], y + h), "{points:?}");
                assert!(near(left[0], x) && near(right[0], x + w), "{points:?}");
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 5) && seen[2] > 8 * seen[1], "{seen:?}");
}

#[test]
fn shapes_found_exactly_score_one() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("shapes");
    write_shapes(&root, &spec()).unwrap();
    let path = root.join("annotations/instances_val2017.json");
    let index = Arc::new(Index::open(&path, &LoadOptions::default()).unwrap());
    for iou in [IouType::Bbox, IouType::Segm] {
        let mut evaluator = Evaluator::new(&index, iou);
        for (position, image) in index.images().iter().enumerate() {
            let found = index.annotations(position).iter().filter(|annotation| !annotation.crowd);
            let found = found.map(|annotation| Detection {
                category_id: annotation.category_id,
                bbox: annotation.bbox,
                score: 0.5,
                mask: Some(index.mask(annotation).unwrap()),
                ..Detection::default()
            });
            evaluator.add(image.id, found.collect()).unwrap();
        }
        let summary = evaluator.finish();
        assert!((summary.stats[0] - 1.0).abs() < 1e-9, "{summary}");
    }
}

#[test]
fn shapes_follow_from_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let small = ShapesSpec { train: 6, val: 2, ..spec() };
    let write = |name: &str, spec: &ShapesSpec| {
        write_shapes(&folder.path().join(name), spec).unwrap();
        contents(&folder.path().join(name))
    };
    let first = write("first", &small);
    assert_eq!(first, write("second", &small));
    let other = write("other", &ShapesSpec { seed: 1, ..small.clone() });
    assert_ne!(first["annotations/instances_train2017.json"], other["annotations/instances_train2017.json"]);
    // Bit for bit on every machine; a change of these files needs a new VERSION in `shapes.rs`.
    let sums = |files: &BTreeMap<String, Vec<u8>>, end: &str| {
        let of = files.iter().filter(|(name, _)| name.ends_with(end)).map(|(_, bytes)| crc32fast::hash(bytes));
        of.fold(0u32, |sum, crc| sum.rotate_left(1) ^ crc)
    };
    assert_eq!((sums(&first, ".json"), sums(&first, ".jpg")), (1389714080, 1850648747));
}

#[test]
fn senseless_shapes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |spec: ShapesSpec| write_shapes(&folder.path().join("x"), &spec).unwrap_err().to_string();
    assert!(refuse(ShapesSpec { size: (16, 64), ..spec() }).contains("16 × 64"));
    assert!(refuse(ShapesSpec { most_objects: 0, ..spec() }).contains("object"));
}

#[test]
fn digits_are_mnist_files_that_follow_from_the_seed() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("digits");
    let small = DigitsSpec { train: 200, test: 20, seed: 0 };
    write_digits(&root, &small).unwrap();
    let file = |name: &str| idx(&root.join(name));
    let (shape, images) = file("train-images-idx3-ubyte.gz");
    assert_eq!(shape, [200, 28, 28]);
    let (shape, labels) = file("train-labels-idx1-ubyte.gz");
    assert_eq!(shape, [200]);
    assert_eq!(file("t10k-images-idx3-ubyte.gz").0, [20, 28, 28]);
    assert_eq!(file("t10k-labels-idx1-ubyte.gz").0, [20]);
    assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), 10);
    assert!(images.chunks(784).all(|picture| picture.iter().filter(|&&p| p > 100).count() > 20));
    assert_eq!((crc32fast::hash(&images), crc32fast::hash(&labels)), (1538392381, 662087501));
}

/// Shape and bytes of a gzipped IDX file: two zeros, type 8 (bytes), the number of sides, each side, the data.
fn idx(path: &Path) -> (Vec<u32>, Vec<u8>) {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes[..3], [0, 0, 8]);
    let (sides, data) = bytes[4..].split_at(4 * usize::from(bytes[3]));
    let shape: Vec<u32> = sides.as_chunks::<4>().0.iter().map(|side| u32::from_be_bytes(*side)).collect();
    assert_eq!(data.len(), shape.iter().product::<u32>() as usize);
    (shape, data.to_vec())
}
