//! Evaluation against numbers that pycocotools computed.

use std::io::Cursor;
use std::sync::Arc;

use pipe_coco::mask::Rle;
use pipe_coco::{eval::Detection, eval::Evaluator, eval::IouType, eval::ScoreOptions, eval::Summary, eval::score};
use pipe_coco::{index::Index, index::LoadOptions};
use pipe_test_support::{shared, skip};
use serde_json::{Value, json};

const TOLERANCE: f64 = 1e-9;

fn assert_stats(summary: &Summary, expected: &Value, what: &str) {
    for (name, value) in summary.named() {
        let expected = expected[name].as_f64().unwrap();
        assert!((value - expected).abs() < TOLERANCE, "{what} {name}: {value}, pycocotools {expected}");
    }
}

#[test]
fn the_sample_results_of_the_coco_api() {
    let Some(expected) = shared("data/eval_cocoapi_val2014_100/expected_stats.json") else {
        return skip!("there is no shared/data/eval_cocoapi_val2014_100 beside the repository");
    };
    // The paths in the file start from the folder of its data set.
    let data = expected.ancestors().nth(2).unwrap();
    let text = std::fs::read_to_string(&expected).unwrap();
    let expected: Value = serde_json::from_str(&text).unwrap();
    for run in expected["runs"].as_array().unwrap() {
        let path = |key: &str| data.join(run[key].as_str().unwrap());
        let iou: IouType = run["iouType"].as_str().unwrap().parse().unwrap();
        let summary = score(&path("gt"), &path("dt"), iou, &ScoreOptions::default()).unwrap().summary;
        let what = format!("{} {}", run["dt"], iou.name());
        assert_stats(&summary, &run["stats"], &what);
        for class in &summary.per_class {
            let expected = run["per_category_AP"][class.id.to_string()].as_f64().unwrap();
            assert!((class.ap - expected).abs() < TOLERANCE, "{what} {}: {}, {expected}", class.name, class.ap);
        }
    }
}

/// Every polygon and crowd of the sample, drawn: sums of the compressed strings that pycocotools makes of them
/// (`zlib.crc32` over `mask.encode(coco.annToMask(ann))["counts"]`, annotations in order of their ids).
#[test]
fn masks_of_the_coco_sample() {
    let Some(sample) = shared("data/coco_sample") else {
        return skip!("there is no shared/data/coco_sample beside the repository");
    };
    for (split, count, expected) in [("train2017", 803, 3381292987), ("val2017", 560, 3476662954)] {
        let path = sample.join(format!("annotations/instances_{split}.json"));
        let index = Index::open(&path, &LoadOptions::default()).unwrap();
        let mut all: Vec<_> = (0..index.images().len()).flat_map(|position| index.annotations(position)).collect();
        all.sort_by_key(|annotation| annotation.id);
        let mut sum = crc32fast::Hasher::new();
        all.iter().for_each(|annotation| sum.update(index.mask(annotation).unwrap().to_compressed().as_bytes()));
        assert_eq!((all.len(), sum.finalize()), (count, expected), "{split}");
    }
}

/// The generator of `tests/parity/cocoeval/make.py`.
struct Lcg(u64);

impl Lcg {
    fn pick(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % count
    }

    fn quad(&mut self, [x, y, w, h]: [i64; 4]) -> Vec<f64> {
        let mut point = |start: i64, size: i64| start as f64 + self.pick(4 * size as usize + 1) as f64 / 4.0;
        (0..4).flat_map(|_| [point(x, w), point(y, h)]).collect()
    }

    fn place(&mut self, width: usize, height: usize) -> [i64; 4] {
        let (x, y) = (self.pick(width - 10), self.pick(height - 10));
        [x as i64, y as i64, 1 + self.pick(width - x) as i64, 1 + self.pick(height - y) as i64]
    }
}

const CATEGORIES: [u32; 7] = [1, 2, 3, 5, 8, 13, 21];

/// Ground truth and each image's detections, as `make.py` generates them; masks only where asked for.
pub fn generate(seed: u64, images: usize, masks: bool) -> (Arc<Index>, Vec<(i64, Vec<Detection>)>) {
    let (truth, detections) = generate_file(seed, images, masks);
    (index_of(&truth), detections)
}

/// An annotation file that lies in memory.
pub fn index_of(truth: &Value) -> Arc<Index> {
    Arc::new(Index::read(Cursor::new(truth.to_string()), "generated", &LoadOptions::default()).unwrap())
}

/// As [`generate`], the annotations as they would lie in a file.
pub fn generate_file(seed: u64, images: usize, masks: bool) -> (Value, Vec<(i64, Vec<Detection>)>) {
    let mut lcg = Lcg(seed);
    let (mut entries, mut annotations, mut detections) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..images {
        let (id, width, height) = (3 * i as i64 + 1, 100 + lcg.pick(60), 80 + lcg.pick(60));
        entries.push(json!({"id": id, "width": width, "height": height, "file_name": format!("{id}.jpg")}));
        let mut objects: Vec<(u32, [i64; 4])> = Vec::new();
        for _ in 0..if lcg.pick(10) == 0 { 0 } else { 1 + lcg.pick(8) } {
            let mut object = (CATEGORIES[lcg.pick(6)], lcg.place(width, height));
            if !objects.is_empty() && lcg.pick(8) == 0 {
                object = objects[lcg.pick(objects.len())];
            }
            objects.push(object);
            let (category, place) = object;
            let crowd = lcg.pick(12) == 0;
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": category, "bbox": place,
                "area": (place[2] * place[3] * 3) as f64 / 4.0, "iscrowd": u8::from(crowd),
                "segmentation": [lcg.quad(place)],
            }));
        }
        let mut found = Vec::new();
        for _ in 0..if lcg.pick(10) == 0 { 0 } else { 100 } {
            let (category_id, [x, y, w, h]) = if !objects.is_empty() && lcg.pick(2) == 0 {
                let (category, [x, y, w, h]) = objects[lcg.pick(objects.len())];
                let (x, y) = (x + lcg.pick(7) as i64 - 3, y + lcg.pick(7) as i64 - 3);
                (category, [x, y, (w + lcg.pick(9) as i64 - 4).max(1), (h + lcg.pick(9) as i64 - 4).max(1)])
            } else {
                (CATEGORIES[lcg.pick(7)], lcg.place(width, height))
            };
            let score = lcg.pick(50) as f64 / 50.0;
            let polygon = lcg.quad([x, y, w, h]);
            let mask = masks.then(|| Rle::from_polygon(&polygon, height as u32, width as u32).unwrap());
            found.push(Detection {
                category_id,
                bbox: [x, y, w, h].map(|v| v as f64),
                score,
                mask,
                ..Detection::default()
            });
        }
        detections.push((id, found));
    }
    let categories: Vec<Value> = CATEGORIES.iter().map(|id| json!({"id": id, "name": format!("c{id}")})).collect();
    (json!({"annotations": annotations, "images": entries, "categories": categories}), detections)
}

/// Every number of one run in `expected.json`.
fn assert_run(summary: &Summary, run: &str) {
    let expected: Value =
        serde_json::from_str(include_str!("../../../../tests/parity/cocoeval/expected.json")).unwrap();
    let expected = &expected[run];
    assert_eq!(format!("{summary}\n"), expected["text"].as_str().unwrap());
    let numbers = |key: &str| -> Vec<f64> {
        expected[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let near = |what: &str, value: f64, expected: f64| {
        assert!((value - expected).abs() < TOLERANCE, "{run} {what}: {value}, pycocotools {expected}");
    };
    for ((name, value), expected) in summary.named().zip(numbers("stats")) {
        near(name, value, expected);
    }
    // The stored arrays are means over the leading axes, for each of K · A · M cells; for keypoints pycocotools has not the small objects,
    // and of the limits the last.
    let cells = summary.curves.classes * 12;
    let kept = |cell: &usize| summary.iou != IouType::Keypoints || ![3, 4, 5].contains(&(cell % 12)) && cell % 3 == 2;
    let kept: Vec<usize> = (0..cells).filter(kept).collect();
    for (key, values) in [
        ("precision", &summary.curves.precision),
        ("recall", &summary.curves.recall),
        ("scores", &summary.curves.scores),
    ] {
        let expected = numbers(key);
        assert_eq!(expected.len(), kept.len());
        for (&cell, expected) in kept.iter().zip(expected) {
            let line: Vec<f64> = values.iter().skip(cell).step_by(cells).copied().collect();
            near(key, line.iter().sum::<f64>() / line.len() as f64, expected);
        }
    }
}

/// Ground truth and each image's detections, as `make.py` generates them; with boxes, areas are the boxes'.
fn generate_keypoints(seed: u64, images: usize, count: usize, boxes: bool) -> (Arc<Index>, Vec<(i64, Vec<Detection>)>) {
    let mut lcg = Lcg(seed);
    let (mut entries, mut annotations, mut detections) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..images {
        let (id, width, height) = (3 * i as i64 + 1, 100 + lcg.pick(60), 80 + lcg.pick(60));
        entries.push(json!({"id": id, "width": width, "height": height, "file_name": format!("{id}.jpg")}));
        let mut objects = Vec::new();
        for _ in 0..if lcg.pick(10) == 0 { 0 } else { 1 + lcg.pick(6) } {
            let category = CATEGORIES[lcg.pick(2)];
            let place = lcg.place(width, height);
            let labelled = lcg.pick(8) > 0;
            let mut point = || {
                let mut at = |start: i64, size: i64| start as f64 + lcg.pick(4 * size as usize + 1) as f64 / 4.0;
                let (x, y) = (at(place[0], place[2]), at(place[1], place[3]));
                let v = lcg.pick(3);
                if labelled && v > 0 { [x, y, v as f64] } else { [0.0; 3] }
            };
            let points: Vec<[f64; 3]> = (0..count).map(|_| point()).collect();
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": category, "bbox": place,
                "area": (place[2] * place[3] * 3) as f64 / 4.0, "iscrowd": u8::from(lcg.pick(12) == 0),
                "keypoints": points.as_flattened(),
            }));
            objects.push((category, place, points));
        }
        let mut found = Vec::new();
        for _ in 0..if lcg.pick(10) == 0 { 0 } else { 30 } {
            let (category_id, place, points) = if !objects.is_empty() && lcg.pick(4) > 0 {
                objects[lcg.pick(objects.len())].clone()
            } else {
                let category = CATEGORIES[lcg.pick(2)];
                (category, [lcg.pick(50) as i64, lcg.pick(50) as i64, 40, 30], Vec::new())
            };
            let reach = 1 + lcg.pick(16);
            let mut anywhere =
                |_| [place[0] + lcg.pick(41) as i64, place[1] + lcg.pick(31) as i64, 1].map(|v| v as f64);
            let points = if points.is_empty() { (0..count).map(&mut anywhere).collect() } else { points };
            let mut moved = |v: f64| v + lcg.pick(2 * reach + 1) as f64 / 2.0 - reach as f64 / 2.0;
            let keypoints = points.iter().map(|[x, y, _]| [moved(*x), moved(*y), 1.0]).collect();
            let (score, bbox) = (lcg.pick(50) as f64 / 50.0, place.map(|v| v as f64));
            let area = boxes.then_some(bbox[2] * bbox[3]);
            found.push(Detection { category_id, bbox, score, mask: None, keypoints, area });
        }
        detections.push((id, found));
    }
    let names: Vec<String> = (0..count).map(|k| format!("k{k}")).collect();
    let category = |id: &u32| json!({"id": id, "name": format!("c{id}"), "keypoints": names});
    let categories: Vec<Value> = CATEGORIES[..2].iter().map(category).collect();
    let text = json!({"annotations": annotations, "images": entries, "categories": categories}).to_string();
    let load = LoadOptions { keypoints: true, ..LoadOptions::default() };
    (Arc::new(Index::read(Cursor::new(text), "generated", &load).unwrap()), detections)
}

#[test]
fn generated_keypoints() {
    let (truth, detections) = generate_keypoints(13, 150, 17, false);
    let mut evaluator = Evaluator::new(&truth, IouType::Keypoints);
    evaluator.add_all(detections).unwrap();
    assert_run(&evaluator.finish(), "keypoints");
    let (truth, mut detections) = generate_keypoints(17, 150, 5, true);
    let sigmas = |sigmas: &[f64]| Evaluator::new(&truth, IouType::Keypoints).with_sigmas(sigmas.to_vec());
    let mut evaluator = sigmas(&[0.1, 0.05, 0.2, 0.15, 0.08]).unwrap();
    evaluator.add_all(detections.clone()).unwrap();
    assert_run(&evaluator.finish(), "keypoints_sigmas");
    let error = sigmas(&[0.1; 4]).err().unwrap().to_string();
    assert!(error.contains("4 constants of OKS are given, but the annotations have 5 keypoints"), "{error}");
    assert!(sigmas(&[0.1, 0.1, 0.1, 0.1, 0.0]).is_err());
    let (id, found) = detections.iter_mut().find(|(_, found)| !found.is_empty()).unwrap();
    found[0].keypoints.pop();
    let error = format!("{:#}", evaluator.add(*id, found.clone()).unwrap_err());
    assert!(error.contains("it has 4 keypoints, objects of the annotations 5"), "{error}");
}

#[test]
fn generated_boxes() {
    let (truth, detections) = generate(7, 1000, false);
    let mut evaluator = Evaluator::new(&truth, IouType::Bbox);
    evaluator.add_all(detections.clone()).unwrap();
    let summary = evaluator.finish();
    assert_run(&summary, "bbox");
    assert_eq!((summary.images, summary.per_class[6].ap), (1000, -1.0));

    // Two evaluators, each with its share and the second one's images in reverse, one of them seen by both.
    let (mut left, mut right) = (Evaluator::new(&truth, IouType::Bbox), Evaluator::new(&truth, IouType::Bbox));
    for (id, found) in &detections[..501] {
        left.add(*id, found.clone()).unwrap();
    }
    right.add_all(detections[500..].iter().rev().cloned().collect()).unwrap();
    let stored = serde_json::to_string(right.state()).unwrap();
    left.merge(serde_json::from_str(&stored).unwrap()).unwrap();
    assert_eq!((left.finish().stats, left.image_count()), (summary.stats, 1000));
    left.reset();
    assert_eq!(left.finish().stats, [-1.0; 12]);
}

#[test]
fn generated_boxes_of_some_images() {
    let (truth, detections) = generate(7, 1000, false);
    let mut evaluator = Evaluator::new(&truth, IouType::Bbox);
    evaluator.add_all(detections.into_iter().step_by(3).collect()).unwrap();
    assert_run(&evaluator.finish(), "bbox_subset");
}

#[test]
fn generated_masks() {
    let (truth, detections) = generate(11, 150, true);
    let mut evaluator = Evaluator::new(&truth, IouType::Segm);
    evaluator.add_all(detections).unwrap();
    assert_run(&evaluator.finish(), "segm");
}
