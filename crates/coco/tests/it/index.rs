//! Annotation and results files, whole and damaged.

use std::io::Cursor;
use std::path::Path;

use pipe_coco::{eval::IouType, eval::ScoreOptions, eval::Scored, eval::Summary, eval::read_results, eval::score};
use pipe_coco::{index::Index, index::LoadOptions, index::Problem, index::Segmentation};
use serde_json::{Value, json};

fn file() -> Value {
    json!({
        "info": {"year": 2017, "nested": [{"a": [1, 2]}]},
        "annotations": [
            {"id": 900100000001i64, "image_id": 9, "category_id": 90, "bbox": [1, 2, 3.5, 4], "area": 9.25, "iscrowd": 0,
             "segmentation": [[1.25, 2, 4.5, 2, 4.5, 6, 1.25, 6]], "keypoints": [1, 2, 2]},
            {"id": 2, "image_id": 5, "category_id": 3, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 1,
             "segmentation": {"counts": [0, 2, 6, 2, 54], "size": [8, 8]}},
            {"id": 3, "image_id": 9, "category_id": 3, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0,
             "segmentation": {"size": [8, 10], "counts": "0260P2"}},
        ],
        "images": [
            {"id": 9, "width": 10, "height": 8, "file_name": "nine.jpg", "coco_url": null},
            {"id": 5, "width": 8, "height": 8, "file_name": "five.jpg"},
            {"id": 7, "width": 8, "height": 8, "file_name": "seven.jpg"},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car", "supercategory": "vehicle"}],
    })
}

fn read_with(file: &Value, options: &LoadOptions) -> anyhow::Result<Index> {
    Index::read(Cursor::new(file.to_string()), "gt.json", options)
}

fn refuse(file: &Value) -> String {
    format!("{:#}", read_with(file, &LoadOptions::default()).unwrap_err())
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    parts.iter().for_each(|part| assert!(text.contains(part), "no `{part}` in: {text}"));
}

#[test]
fn a_whole_file() {
    let index = read_with(&file(), &LoadOptions::default()).unwrap();
    assert_eq!(index.images().iter().map(|image| image.id).collect::<Vec<_>>(), [5, 7, 9]);
    assert_eq!((index.num_classes(), index.category_name(90), index.category_name(4)), (91, Some("toothbrush"), None));
    assert_eq!((index.position(9), index.position(6)), (Some(2), None));
    let nine = index.annotations(2);
    assert_eq!(nine.iter().map(|a| a.id).collect::<Vec<_>>(), [900100000001, 3]);
    assert_eq!((nine[0].bbox, nine[0].area, nine[0].crowd), ([1.0, 2.0, 3.5, 4.0], 9.25, false));
    let polygon = vec![1.25, 2.0, 4.5, 2.0, 4.5, 6.0, 1.25, 6.0];
    assert_eq!(index.segmentation(&nine[0]), Segmentation::Polygons(vec![polygon]));
    assert!(index.annotations(1).is_empty() && index.annotations(99).is_empty());
    let crowd = &index.annotations(0)[0];
    assert_eq!((crowd.crowd, index.mask(crowd).unwrap().counts()), (true, &[0, 2, 6, 2, 54][..]));
}

#[test]
fn a_file_cut_short_anywhere_is_an_error() {
    let whole = file().to_string();
    for end in 0..whole.len() - 1 {
        if whole.is_char_boundary(end) {
            assert!(Index::read(Cursor::new(&whole[..end]), "gt.json", &LoadOptions::default()).is_err(), "{end}");
        }
    }
    let cut = whole.find("keypoints").unwrap();
    let error = Index::read(Cursor::new(&whole[..cut]), "gt.json", &LoadOptions::default()).unwrap_err().to_string();
    assert_says(&error, &["gt.json is truncated", "line 1, column", "annotations[0]", "fetch the file again"]);
}

#[test]
fn damage_is_named() {
    for section in ["images", "annotations", "categories"] {
        let mut damaged = file();
        damaged.as_object_mut().unwrap().remove(section);
        assert_says(&refuse(&damaged), &[&format!("no `{section}` section"), "gt.json"]);
    }
    assert_says(&refuse(&json!([])), &["results file"]);
    let with = |pointer: &str, value: Value| {
        let mut damaged = file();
        *damaged.pointer_mut(pointer).unwrap() = value;
        refuse(&damaged)
    };
    assert_says(&with("/annotations/1/bbox", json!("x")), &["1 with a box that is not four finite numbers", "(id 2)"]);
    assert_says(
        &with("/annotations/1/bbox", json!([1, 2, 3])),
        &["1 with a box that is not four finite numbers", "(id 2)", "strict = false"],
    );
    assert_says(
        &with("/annotations/0/segmentation", json!([1, 2, 3, 4, 5, 6])),
        &["annotations[0]", "list of such lists"],
    );
    for (pointer, value) in [
        ("/annotations/0/image_id", json!("nine")),
        ("/annotations/0/category_id", json!(-1)),
        ("/annotations/0/iscrowd", json!("no")),
        ("/annotations/0", json!({"id": 1})),
    ] {
        assert_says(&with(pointer, value), &["1 with an id, image_id, category_id or iscrowd", "(entry 0)"]);
    }
    assert_says(&with("/images/2/width", json!(-8)), &["1 with an id, width, height or file_name", "(entry 2)"]);
    assert_says(&with("/images/2/width", json!(0)), &["image 7 (seven.jpg)", "`width`"]);
    assert_says(&with("/images/2/id", json!(9)), &["two images have the id 9", "nine.jpg", "seven.jpg"]);
    assert_says(&with("/categories/0/id", json!(3)), &["two categories have the id 3", "toothbrush", "car"]);
    assert_says(&with("/images/1/id", json!(6)), &["1 with unknown image_id (id 2)", "strict = false"]);
    assert_says(&with("/categories/0/id", json!(4)), &["unknown category_id (id 900100000001)"]);
    assert_says(&with("/annotations/2/id", json!(2)), &["1 with id given twice (id 2)"]);
}

#[test]
fn a_lenient_reading_leaves_out_and_counts() {
    let mut damaged = file();
    damaged["annotations"][0]["image_id"] = json!(1234);
    damaged["annotations"][2]["id"] = json!(2);
    let lenient = LoadOptions { strict: false, ..LoadOptions::default() };
    let index = read_with(&damaged, &lenient).unwrap();
    assert_eq!(index.annotation_count(), 1);
    assert_eq!(
        index.audit().to_string(),
        "1 annotation: unknown image_id: skipped (id 900100000001)\n\
         1 annotation: id given twice: the first one is kept (id 2)"
    );
}

/// As Python writes it, or a tool that only tagged an object.
#[test]
fn a_box_that_is_none_costs_its_own_annotation() {
    for odd in [json!([]), json!(null), json!([1, 2, "NaN", 4]), json!([1, 2, 3])] {
        let mut damaged = file();
        damaged["annotations"][1]["bbox"] = odd;
        let text = format!("\u{feff}{}", damaged.to_string().replace("\"NaN\"", "NaN"));
        let read = |strict| {
            let options = LoadOptions { strict, ..LoadOptions::default() };
            Index::read(Cursor::new(&text), "gt.json", &options)
        };
        assert_says(&format!("{:#}", read(true).unwrap_err()), &["not four finite numbers", "NaN", "(id 2)"]);
        let index = read(false).unwrap();
        assert_eq!((index.annotation_count(), index.images().len()), (2, 3));
        assert_says(&index.audit().to_string(), &["1 annotation: a box that is not four", "left out (id 2)"]);
    }
}

#[test]
fn a_value_of_another_type_costs_its_own_entry() {
    let lenient = LoadOptions { strict: false, ..LoadOptions::default() };
    for (pointer, value, left) in [
        ("/annotations/0/id", json!(null), 2),
        ("/annotations/0/image_id", json!("nine"), 2),
        ("/annotations/0/category_id", json!([3]), 2),
        ("/annotations/0/iscrowd", json!("0"), 2),
        ("/annotations/0/area", json!("large"), 3),
        ("/annotations/0/iscrowd", json!(false), 3),
        ("/annotations/0/segmentation", json!("none"), 3),
        ("/annotations/0/segmentation", json!([[1, 2, null, 4, 5, 6]]), 3),
        ("/annotations/1/bbox", json!(["1", "2", "3", "4"]), 2),
        ("/annotations/1/bbox", json!({"x": 1}), 2),
        ("/images/2/width", json!("8"), 3),
    ] {
        let mut damaged = file();
        *damaged.pointer_mut(pointer).unwrap() = value.clone();
        let index = read_with(&damaged, &lenient).unwrap();
        assert_eq!(index.annotation_count(), left, "{pointer} {value}: {}", index.audit());
        let quiet = value == json!(false) || value == json!("none");
        assert_eq!(index.audit().is_clean(), quiet, "{pointer} {value}: {}", index.audit());
    }
}

#[test]
fn results_that_name_their_images_go_by_the_names() {
    let entry = |id: i64, name: &str| json!([{"image_id": id, "category_id": 90, "score": 0.9, "bbox": [1, 2, 3.5, 4], "file_name": name}]);
    let folder = tempfile::tempdir().unwrap();
    let (truth, found) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    std::fs::write(&truth, file().to_string()).unwrap();
    let scored = |results: Value| {
        std::fs::write(&found, results.to_string()).unwrap();
        score(&truth, &found, IouType::Bbox, &ScoreOptions::default())
    };
    let right = scored(entry(9, "pictures/nine.jpg")).unwrap();
    assert!(right.notes.is_empty(), "{:?}", right.notes);
    for other in [7, 1] {
        let named = scored(entry(other, "C:\\pictures\\nine.jpg")).unwrap();
        assert_eq!(named.summary.stats, right.summary.stats, "{other}");
        assert_says(&named.notes.join("\n"), &["1 detections were given to their images by `file_name`"]);
    }
    let error = scored(entry(7, "ten.jpg")).unwrap_err();
    assert_says(&format!("{error:#}"), &["results[0]: the annotations have no image called ten.jpg"]);
}

#[test]
fn boxes_are_scored_without_sizes_and_names_and_masks_are_not() {
    let mut bare = file();
    for image in bare["images"].as_array_mut().unwrap() {
        let id = image["id"].clone();
        *image = json!({ "id": id });
    }
    let folder = tempfile::tempdir().unwrap();
    let (truth, found) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    std::fs::write(&truth, bare.to_string()).unwrap();
    std::fs::write(
        &found,
        json!([{"image_id": 9, "category_id": 90, "score": 0.9, "bbox": [1, 2, 3.5, 4]}]).to_string(),
    )
    .unwrap();
    let scored = |iou| score(&truth, &found, iou, &ScoreOptions::default());
    assert!(scored(IouType::Bbox).unwrap().summary.stats[0] > 0.3);
    assert_says(&format!("{:#}", scored(IouType::Segm).unwrap_err()), &["has no `width` and `height`", "--iou bbox"]);
    assert_says(&refuse(&bare), &["image 5 has no `file_name`"]);

    let mut boxes = file();
    for annotation in boxes["annotations"].as_array_mut().unwrap() {
        annotation.as_object_mut().unwrap().remove("segmentation");
    }
    std::fs::write(&truth, boxes.to_string()).unwrap();
    assert_says(&format!("{:#}", scored(IouType::Segm).unwrap_err()), &["not one of the 3 annotations has a mask"]);
}

#[test]
fn the_audit_finds_what_training_cannot_use() {
    let mut odd = file();
    let image =
        |id: i64| json!({"id": id, "image_id": 7, "category_id": 3, "bbox": [1, 1, 2, 2], "area": 1, "iscrowd": 0});
    let with = |id: i64, field: &str, value: Value| {
        let mut annotation = image(id);
        annotation[field] = value;
        annotation
    };
    let list = odd["annotations"].as_array_mut().unwrap();
    list.extend([
        with(11, "bbox", json!([1, 1, 0, 5])),
        with(12, "bbox", json!([9, 1, 2, 2])),
        with(13, "bbox", json!([4, 1, 6, 2])),
        with(14, "area", Value::Null),
        with(15, "segmentation", json!([[1, 1, 2, 2], [1, 1, 5, 1, 5, 5]])),
        with(16, "segmentation", json!([[1, 1, 2, 2, 3]])),
        with(17, "segmentation", json!({"size": [8, 8], "counts": [3, 4]})),
        with(18, "segmentation", json!({"size": [4, 16], "counts": [3, 61]})),
        with(19, "segmentation", json!({"size": [8, 8], "counts": [64]})),
    ]);
    let index = read_with(&odd, &LoadOptions::default()).unwrap();
    let findings: Vec<_> = index.audit().findings().map(|(p, f)| (p, f.count, f.examples[0])).collect();
    assert_eq!(
        findings,
        [
            (Problem::DegenerateBox, 1, 11),
            (Problem::BoxOutside, 1, 12),
            (Problem::BoxReachesOut, 1, 13),
            (Problem::MissingArea, 1, 14),
            (Problem::BadPolygon, 2, 15),
            (Problem::BadRuns, 1, 17),
            (Problem::RunsSize, 1, 18),
            (Problem::EmptyMask, 1, 19),
        ]
    );
    let seven = index.annotations(1);
    let usable = |by: fn(&pipe_coco::index::Annotation) -> bool| {
        seven.iter().filter(|annotation| by(annotation)).map(|annotation| annotation.id).collect::<Vec<_>>()
    };
    assert_eq!(usable(|a| !a.box_usable), [11, 12]);
    assert_eq!(usable(|a| a.mask_usable), [15]);
    assert_eq!(seven[3].area, 4.0, "the box's");
    assert!(index.mask(&seven[4]).unwrap().area() > 0, "the whole polygon of two");
    assert_says(&format!("{:#}", index.mask(&seven[7]).unwrap_err()), &["annotation 18 of image 7", "4 × 16"]);
}

#[test]
fn subsets_keep_what_belongs_to_their_images() {
    let images: Vec<Value> =
        (0..40).map(|id| json!({"id": id, "width": 9, "height": 9, "file_name": format!("{id}")})).collect();
    let annotations: Vec<Value> = (0..40)
        .filter(|id| id % 2 == 0)
        .map(|id| {
            json!({"id": id, "image_id": id, "category_id": 1, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0,
                         "segmentation": [[0, 0, 2, 0, 2, id]]})
        })
        .collect();
    let file = json!({"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]});
    let subset = read_with(&file, &LoadOptions::default()).unwrap().subset(&[2, 4, 5, 30]).unwrap();
    assert_eq!(subset.images().iter().map(|image| image.id).collect::<Vec<_>>(), [2, 4, 5, 30]);
    assert_eq!(subset.annotation_count(), 3);
    for (position, id) in [(0, 2.0), (1, 4.0), (3, 30.0)] {
        let polygon = vec![0.0, 0.0, 2.0, 0.0, 2.0, id];
        assert_eq!(subset.segmentation(&subset.annotations(position)[0]), Segmentation::Polygons(vec![polygon]));
    }
    assert!(subset.annotations(2).is_empty());
}

#[test]
fn images_without_a_file_are_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let index = read_with(&file(), &LoadOptions::default()).unwrap();
    assert_says(
        &index.clone().with_files(folder.path()).unwrap_err().to_string(),
        &["none of the 3 images", "five.jpg"],
    );
    std::fs::write(folder.path().join("nine.jpg"), "x").unwrap();
    let index = index.with_files(folder.path()).unwrap();
    assert_eq!((index.images().len(), index.annotation_count(), index.annotations(0)[0].image_id), (1, 2, 9));
    assert_eq!(index.audit().to_string(), "2 images: file not found: skipped (id 5, 7)");
}

/// Scores a results file against [`file`].
fn try_score(results: &str, iou: IouType, images: Scored) -> anyhow::Result<Summary> {
    let folder = tempfile::tempdir()?;
    let (truth, found) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    std::fs::write(&truth, file().to_string())?;
    std::fs::write(&found, results)?;
    Ok(score(&truth, &found, iou, &ScoreOptions { images, ..ScoreOptions::default() })?.summary)
}

#[test]
fn results_files() {
    let found = json!([
        {"image_id": 9, "category_id": 90, "score": 0.9, "bbox": [1, 2, 3.5, 4], "segmentation": [[1.25, 2, 4.5, 2, 4.5, 6, 1.25, 6]]},
        {"image_id": 9, "category_id": 77, "score": 1, "bbox": [1, 2, 3.5, 4], "segmentation": [[1.25, 2, 4.5, 2, 4.5, 6]]},
        {"image_id": 9.0, "category_id": 3, "score": 0.2, "bbox": [0, 0, 2, 2], "segmentation": {"size": [8, 10], "counts": "0260P2"}},
    ])
    .to_string();
    for iou in [IouType::Bbox, IouType::Segm] {
        let summary = try_score(&found, iou, Scored::All).unwrap();
        assert_eq!((summary.images, summary.detections, summary.unknown_categories), (3, 3, 1));
        assert!((summary.stats[0] - 1.0).abs() < 1e-9, "{summary}");
        assert_eq!(try_score(&found, iou, Scored::WithDetections).unwrap().images, 1);
        assert_eq!(try_score(&found, iou, Scored::Images(vec![5, 7])).unwrap().stats[0], -1.0);
        assert_eq!(try_score("[]", iou, Scored::All).unwrap().stats[0], 0.0);
    }
}

#[test]
fn damaged_results_are_named() {
    let refuse = |results: &str, iou| format!("{:#}", try_score(results, iou, Scored::All).unwrap_err());
    let good = r#"{"image_id": 9, "category_id": 90, "score": 0.9, "bbox": [1, 2, 3.5, 4]}"#;
    let pair = |second: &str| format!("[{good}, {second}]");
    assert_says(&refuse(&format!("[{good}, {{"), IouType::Bbox), &["truncated", "results[1]"]);
    assert_says(&refuse(r#"{"images": []}"#, IouType::Bbox), &["annotation file"]);
    assert_says(&refuse(&pair(r#"{"image_id": 9}"#), IouType::Bbox), &["results[1]", "missing field"]);
    assert_says(&refuse(&pair(&good.replace("4]", "4, 5]")), IouType::Bbox), &["results[1]", "a box of 5 numbers"]);
    assert_says(&refuse(&pair(&good.replace(": 9,", ": 8,")), IouType::Bbox), &["1 image(s)", "id 8", "split"]);
    assert_says(
        &refuse(&pair(&good.replace("0.9", "NaN")), IouType::Bbox),
        &["results[1]", "the score is no finite number"],
    );
    assert_says(
        &refuse(&pair(&good.replace("3.5", "-Infinity")), IouType::Bbox),
        &["results[1]", "a number of the box is no"],
    );
    assert_says(&refuse(&pair(good), IouType::Segm), &["results[0], image 9", "no segmentation", "`bbox`"]);
    let wrong = good.replace("\"bbox\": [1, 2, 3.5, 4]", r#""segmentation": {"size": [8, 8], "counts": [64]}"#);
    assert_says(&refuse(&format!("[{wrong}]"), IouType::Segm), &["results[0]", "8 × 8", "8 × 10"]);
    assert_says(&format!("{:#}", read_results(Path::new("no/file.json")).unwrap_err()), &["cannot open the results"]);
}
