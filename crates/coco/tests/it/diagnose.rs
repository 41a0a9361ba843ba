//! Diagnostics against what pycocotools, hotcoco and tidecv counted (`tests/parity/diagnose/make.py`), and what must hold of any.

use std::collections::BTreeSet;

use pipe_coco::diagnose::{self, Tide, compare, diagnose};
use pipe_coco::eval::{Detection, Evaluator, IouType, State, Summary};
use pipe_coco::index::Index;
use proptest::prelude::*;
use serde_json::Value;

use crate::eval::{generate, generate_file, index_of};

fn expected() -> Value {
    serde_json::from_str(include_str!("../../../../tests/parity/diagnose/expected.json")).unwrap()
}

fn evaluated(truth: &std::sync::Arc<Index>, detections: &[(i64, Vec<Detection>)], iou: IouType) -> (Summary, State) {
    let mut evaluator = Evaluator::new(truth, iou).diagnosing(true);
    evaluator.add_all(detections.to_vec()).unwrap();
    (evaluator.finish(), evaluator.into_state())
}

fn near(what: &str, ours: f64, theirs: &Value) {
    let theirs = theirs.as_f64().unwrap();
    assert!((ours - theirs).abs() < 1e-9, "{what}: {ours}, {theirs}");
}

fn assert_tide(tide: &Tide, expected: &Value) {
    near("AP50", tide.ap50, &expected["ap_base"]);
    for error in &tide.errors {
        assert_eq!(error.count, expected["counts"][error.kind], "{}", error.kind);
        near(error.kind, error.delta_ap, &expected["delta_ap"][error.kind]);
    }
    near("FP", tide.false_positives, &expected["delta_ap"]["FP"]);
    near("FN", tide.false_negatives, &expected["delta_ap"]["FN"]);
}

fn parity(name: &str, iou: IouType, seed: u64, images: usize) {
    let (truth, detections) = generate(seed, images, iou == IouType::Segm);
    let (summary, state) = evaluated(&truth, &detections, iou);
    let all = expected();
    let expected = &all[name];
    let found = diagnose(&truth, &state, &summary).unwrap();

    near("AP50 of TIDE", found.tide.ap50, &summary.stats[1].into());
    assert_tide(&found.tide, &expected["tide"]);

    let [confidence, f1] = [0, 1].map(|i| expected["overall"][i].as_f64().unwrap());
    let best = found.curves.best.unwrap();
    near("best threshold", best.confidence, &confidence.into());
    near("its mean F1", best.f1, &f1.into());
    for class in &found.curves.classes {
        let id = class.id.to_string();
        assert_eq!(class.objects, expected["counts"][&id][0], "{id}");
        for (confidence, counts) in
            all["confidences"].as_array().unwrap().iter().zip(expected["counts"][&id][1].as_array().unwrap())
        {
            let at = (confidence.as_f64().unwrap() * 100.0).round() as usize;
            near("confidence", found.curves.confidence[at], confidence);
            assert_eq!(
                [class.true_positives[at], class.false_positives[at]],
                [0, 1].map(|i| counts[i].as_u64().unwrap() as u32)
            );
        }
        match class.best {
            Some(best) => {
                near("threshold of a class", best.confidence, &expected["best"][&id][0]);
                near("F1 of a class", best.f1, &expected["best"][&id][1]);
            }
            None => assert!(expected["best"][&id].is_null()),
        }
    }

    for class in &found.precision_recall {
        let theirs = &expected["precision_recall"][class.id.to_string()];
        for (ours, theirs) in [(&class.precision, &theirs[0]), (&class.scores, &theirs[1])] {
            assert_eq!(ours.len(), theirs.as_array().unwrap().len());
            ours.iter()
                .zip(theirs.as_array().unwrap())
                .for_each(|(ours, theirs)| near("precision or score", *ours, theirs));
        }
    }
    assert_eq!(found.precision_recall.len(), expected["precision_recall"].as_object().unwrap().len());
    for pair in expected["confusion"].as_array().unwrap() {
        let ours = diagnose::confusion(&truth, &state, pair[0].as_f64().unwrap()).unwrap();
        assert_eq!(serde_json::to_value(&ours.matrix).unwrap(), pair[1], "at {}", pair[0]);
    }
    let images = diagnose::image_counts(&truth, &state, f64::NEG_INFINITY).unwrap();
    let theirs = expected["images"].as_object().unwrap();
    for image in &images {
        let ours = serde_json::json!([image.found, image.missed, image.false_positives]);
        // It has none of images without anything.
        let nothing = serde_json::json!([0, 0, 0]);
        assert_eq!(&ours, theirs.get(&image.id.to_string()).unwrap_or(&nothing), "image {}", image.id);
    }
    assert!(images.is_sorted_by_key(|image| std::cmp::Reverse(image.errors())));
}

#[test]
fn boxes_are_diagnosed_as_by_others() {
    parity("bbox", IouType::Bbox, 7, 300);
}

#[test]
fn masks_are_diagnosed_as_by_others() {
    parity("segm", IouType::Segm, 11, 100);
}

/// Without crowds and equal boxes and with few detections an image the package `tidecv` counts the same.
#[test]
fn kinds_of_errors_as_by_tidecv() {
    let (mut file, detections) = generate_file(5, 120, false);
    let mut seen = BTreeSet::new();
    let mut plain = |one: &Value| one["iscrowd"] == 0 && seen.insert(format!("{} {}", one["image_id"], one["bbox"]));
    file["annotations"] = file["annotations"].as_array().unwrap().iter().filter(|one| plain(one)).cloned().collect();
    let truth = index_of(&file);
    // Every other one, with scores that no two share.
    let (mut at, count) = (0, detections.iter().map(|(_, found)| found.len()).sum::<usize>() / 2);
    let thinned = detections.into_iter().map(|(id, found)| {
        let kept = found.into_iter().filter_map(|found| {
            at += 1;
            let i = (at - 1) / 2;
            let score = 0.01 + 0.98 * ((i * 7919 % count) as f64 / count as f64);
            (at % 2 == 0).then_some(Detection { score, ..found })
        });
        (id, kept.collect())
    });
    let detections: Vec<(i64, Vec<Detection>)> = thinned.collect();
    let (summary, state) = evaluated(&truth, &detections, IouType::Bbox);
    let tide = diagnose(&truth, &state, &summary).unwrap().tide;
    let expected = &expected()["tidecv"];
    // Its mean is over all seven categories, ours over the six that have objects.
    let all = |mean: f64| mean * 6.0 / 7.0;
    near("AP50", all(tide.ap50), &expected["ap"]);
    for error in &tide.errors {
        assert_eq!(error.count, expected["counts"][error.kind], "{}", error.kind);
        near(error.kind, all(error.delta_ap), &expected["delta_ap"][error.kind]);
    }
}

#[test]
fn a_state_without_kinds_of_errors_is_refused() {
    let (truth, detections) = generate(3, 4, false);
    let mut evaluator = Evaluator::new(&truth, IouType::Bbox);
    evaluator.add_all(detections).unwrap();
    let error = diagnose(&truth, evaluator.state(), &evaluator.finish()).unwrap_err().to_string();
    assert!(error.contains("has not kept the kinds of errors"), "{error}");
}

#[test]
fn a_file_is_no_better_than_itself_and_worse_than_a_better_one() {
    let (truth, detections) = generate(9, 200, false);
    let (summary, state) = evaluated(&truth, &detections, IouType::Bbox);
    let same = compare(&truth, &state, &state, 200, 1).unwrap();
    for same in [same.ap, same.ap50] {
        assert_eq!((same.difference, same.interval, same.first_higher), (0.0, [0.0, 0.0], 0.0));
    }
    near("AP", same.ap.first, &summary.stats[0].into());
    near("AP50", same.ap50.second, &summary.stats[1].into());

    // Boxes that overlap no object are left out.
    let judged = |id: i64, found: &Detection| {
        let truths = truth.annotations(truth.position(id).unwrap()).iter();
        truths.map(|truth| pipe_coco::mask::box_iou(found.bbox, truth.bbox, false)).fold(0.0, f64::max)
    };
    let better: Vec<_> = (detections.iter())
        .map(|(id, found)| (*id, found.iter().filter(|found| judged(*id, found) > 0.4).cloned().collect()))
        .collect();
    let (_, better) = evaluated(&truth, &better, IouType::Bbox);
    let found = compare(&truth, &better, &state, 300, 1).unwrap();
    let [low, high] = found.ap.interval;
    assert!(0.0 < low && low < found.ap.difference && found.ap.difference < high, "{found:?}");
    assert_eq!((found.ap.first_higher, found.resamples, found.images), (1.0, 300, 200));
    assert_eq!(compare(&truth, &better, &state, 300, 1).unwrap(), found, "the same seed draws the same images");
    let turned = compare(&truth, &state, &better, 300, 1).unwrap().ap;
    near("the other way round", -turned.interval[0], &high.into());

    let (_, fewer) = evaluated(&truth, &detections[1..], IouType::Bbox);
    let error = compare(&truth, &fewer, &state, 10, 1).unwrap_err().to_string();
    assert!(error.contains("different images"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn totals_agree(seed in 0u64..1 << 40, images in 1usize..25, confidence in 0.0f64..1.0) {
        let (truth, detections) = generate(seed, images, false);
        let (summary, state) = evaluated(&truth, &detections, IouType::Bbox);
        let found = diagnose(&truth, &state, &summary).unwrap();

        // Every false positive is of one kind; what is missed or would be mended is not found.
        let wrong: u32 = found.curves.classes.iter().map(|class| class.false_positives[0]).sum();
        let kinds: usize = found.tide.errors[..5].iter().map(|error| error.count).sum();
        prop_assert_eq!(kinds, wrong as usize);
        let objects: u32 = found.curves.classes.iter().map(|class| class.objects).sum();
        let right: u32 = found.curves.classes.iter().map(|class| class.true_positives[0]).sum();
        prop_assert!(found.tide.errors[5].count <= (objects - right) as usize);
        prop_assert!(found.tide.false_positives >= -1e-12 && found.tide.false_negatives >= -1e-12);

        // A row adds up to the objects of a category, a column to its detections.
        let confusion = diagnose::confusion(&truth, &state, confidence).unwrap();
        let all = |keep: &dyn Fn(&Detection) -> bool| {
            let of = |found: &[Detection]| found.iter().filter(|found| keep(found)).count().min(100);
            detections.iter().map(|(_, found)| of(found)).sum::<usize>() as u32
        };
        let annotated = (0..images).flat_map(|position| truth.annotations(position));
        let [mut rows, mut columns] = [0, 0];
        for (k, category) in truth.categories().iter().enumerate() {
            let count = annotated.clone().filter(|one| !one.crowd && one.category_id == category.id).count() as u32;
            prop_assert_eq!(confusion.matrix[k].iter().sum::<u32>(), count);
            rows += count;
            columns += confusion.matrix.iter().map(|row| row[k]).sum::<u32>();
        }
        prop_assert_eq!(columns, all(&|found| found.score >= confidence));
        let matched: u32 = confusion.matrix[..7].iter().flat_map(|row| &row[..7]).sum();
        prop_assert_eq!(confusion.matrix.iter().flatten().sum::<u32>(), rows + columns - matched);

        // Images and classes count the same at the best threshold.
        let kept = |counts: &[u32]| found.curves.best.map(|best| {
            let at = found.curves.confidence.iter().position(|point| (point - best.confidence).abs() < 1e-9);
            at.map(|at| counts[at])
        });
        let of_images: u32 = found.worst_images.iter().map(|image| image.found).sum();
        let of_classes: Option<u32> =
            found.curves.classes.iter().map(|class| kept(&class.true_positives).flatten()).sum();
        if let Some(of_classes) = of_classes {
            prop_assert_eq!(of_images, of_classes);
        }
    }
}
