//! Keypoint R-CNN from end to end through the program: run, eval, predict, score, on the built-in shapes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::program::{Pipe, cache};

const PIPELINE: &str = r#"
[pipeline]
name = "tiny"
device = "cpu"

[dataset.train]
type = "coco"
root = "builtin:shapes"
masks = false
keypoints = true
empty = "drop"
limit = 4

[dataset.val]
type = "coco"
root = "builtin:shapes"
split = "val2017"
masks = false
keypoints = true
limit = 3

[transform.train]
type = "compose"
steps = [
  { type = "random_horizontal_flip", p = 0.5, keypoint_names = "dataset.train:keypoint_names" },
  { type = "resize", size = 64 },
]

[transform.resize]
type = "resize"
size = 64

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.train"
batch_size = 2
workers = 0

[loader.val]
type = "batch"
dataset = "dataset.val"
transform = "transform.resize"
batch_size = 2
workers = 0

[model.net]
type = "keypoint_rcnn"
backbone = "resnet18"
num_classes = "dataset.train:num_classes"
num_keypoints = "dataset.train:num_keypoints"
min_size = 64
max_size = 64
returned_layers = [3, 4]
anchor_sizes = [[16], [32], [64]]
box_representation_size = 32
keypoint_layers = [8]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.001

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 1
log_interval = 1

[metric.coco]
type = "coco_ap"
dataset = "dataset.val"
iou_types = ["bbox", "keypoints"]
results = "found.json"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.val"
metrics = ["metric.coco"]

[handler.checkpoint]
type = "checkpoint"
best = { monitor = "metric.coco:keypoints/AP", mode = "max" }

[handler.images]
type = "debug_images"
dataset = "dataset.val"
threshold = 0.0

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint", "engine.evaluator"]

[[on]]
event = "engine.evaluator:iteration_completed"
run = ["handler.images"]
"#;

fn truth() -> String {
    cache().join("shapes/annotations/person_keypoints_val2017.json").display().to_string()
}

#[test]
fn keypoints_are_learned_measured_and_found() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    pipe.ok(&["run", "tiny.toml", "--out", "run", "--quiet"]);
    let records = pipe.records("run");
    let tags: BTreeSet<&str> = records.iter().map(|record| record["tag"].as_str().unwrap()).collect();
    let names = ["AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl"];
    let expected = names.map(|name| format!("val/coco/keypoints/{name}"));
    assert!(expected.iter().all(|tag| tags.contains(&**tag)) && tags.contains("val/image_1_0"), "{tags:?}");
    let losses: Vec<&Value> = records.iter().filter(|record| record["tag"] == "train/loss_keypoint").collect();
    assert!(losses.len() == 2 && losses.iter().all(|loss| loss["value"].as_f64().is_some_and(f64::is_finite)));

    // What the evaluation counted it wrote, and a program that reads it counts the same.
    let own =
        |name: &str| &records.iter().find(|record| record["tag"] == *format!("val/coco/{name}")).unwrap()["value"];
    let score = ["score", &truth(), "run/found.json", "--detected-only", "--format", "json"];
    for iou in ["bbox", "keypoints"] {
        let scored = pipe.ok(&[&score[..], &["--iou", iou]].concat());
        let scored: Value = serde_json::from_str(&scored.stdout).unwrap();
        assert_eq!(scored["stats"]["AP50"], *own(&format!("{iou}/AP50")), "{iou}");
    }

    // Weights say how many keypoints there are, so that nothing of the data is needed.
    let images = cache().join("shapes/val2017");
    let picture = std::fs::read_dir(images).unwrap().next().unwrap().unwrap().path();
    let gone = ["--set", "dataset.train.root=gone", "--images", picture.to_str().unwrap()];
    let weights = ["predict", "tiny.toml", "--weights", "run"];
    pipe.ok(&[&weights[..], &gone, &["--out", "found.json", "--draw", "drawn", "--threshold", "0.0"]].concat());
    let found = pipe.json("found.json");
    let found = found.as_array().unwrap();
    assert!(!found.is_empty() && found.iter().all(|one| one["keypoints"].as_array().unwrap().len() == 15));
    assert_eq!(pipe.names("drawn").len(), 1);
    pipe.ok(&[&weights[..], &gone, &["--out", "arrays", "--as", "npz"]].concat());
    let arrays = pipe.path(&format!("arrays/{}.npz", picture.file_stem().unwrap().to_str().unwrap()));
    let arrays: BTreeMap<String, tch::Tensor> = tch::Tensor::read_npz(arrays).unwrap().into_iter().collect();
    assert_eq!(arrays["keypoints"].size(), [found.len() as i64, 5, 3]);
    let first = |entry: &Value| entry["keypoints"][0].as_f64().unwrap() as f32;
    assert_eq!(arrays["keypoints"].double_value(&[0, 0, 0]) as f32, first(&found[0]));
}

#[test]
fn true_keypoints_score_one_and_misplaced_ones_less() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    pipe.ok(&["check", "tiny.toml", "--data"]);
    let annotations: Value = serde_json::from_slice(&std::fs::read(truth()).unwrap()).unwrap();
    let found = |moved: f64| {
        let all = annotations["annotations"].as_array().unwrap().iter().filter(|one| one["iscrowd"] == 0).map(|one| {
            let points = one["keypoints"].as_array().unwrap().iter().map(|number| number.as_f64().unwrap() + moved);
            let points: Vec<f64> = points.collect();
            json!({ "image_id": one["image_id"], "category_id": one["category_id"], "score": 1.0, "keypoints": points })
        });
        Value::from(all.collect::<Vec<_>>()).to_string()
    };
    pipe.write("true.json", &found(0.0));
    pipe.write("moved.json", &found(2.0));
    let score = |file: &str, more: &[&str]| pipe.ok(&[&["score", &truth(), file, "--iou", "keypoints"], more].concat());
    let said = [score("true.json", &[]).stdout, score("moved.json", &["--per-class"]).stdout].join("\n");
    insta::assert_snapshot!(said);
    let strict = score("moved.json", &["--oks-sigmas", "0.01,0.01,0.01,0.01,0.01", "--format", "json"]).stdout;
    let strict: Value = serde_json::from_str(&strict).unwrap();
    assert!(strict["stats"]["AP"].as_f64().unwrap() < 0.1, "{strict}");
    let wrong = pipe.run(&["score", &truth(), "true.json", "--iou", "keypoints", "--oks-sigmas", "0.1"]);
    assert!(wrong.stderr.contains("1 constants of OKS are given, but the annotations have 5"), "{}", wrong.stderr);
}

#[test]
fn what_has_no_keypoints_is_refused_before_the_first_step() {
    let pipe = Pipe::new();
    // Of the warnings there are, none is about keypoints.
    let allow = "checks.allow=[\"unshuffled-training\", \"training-data-evaluated\"]";
    let said = |run: &str, from: &str, to: &str| {
        pipe.write("tiny.toml", &PIPELINE.replace(from, to));
        pipe.run(&["run", "tiny.toml", "--out", run, "--quiet", "--set", allow]).stderr
    };
    let without = said("without", "keypoints = true\n", "");
    let few = said("few", "\"dataset.train:num_keypoints\"", "4");
    let instances = cache().join("shapes/annotations/instances_val2017.json");
    let wrong = format!("keypoints = true\nannotations = \"{}\"", instances.display());
    let none = said("none", "keypoints = true", &wrong);
    pipe.write("boxes.json", "[{\"image_id\": 1000001, \"category_id\": 1, \"score\": 1, \"bbox\": [1, 2, 3, 4]}]");
    let score = |truth: &str| pipe.run(&["score", truth, "boxes.json", "--iou", "keypoints"]).stderr;
    let unscored = [score(&truth()), score(instances.to_str().unwrap())].concat();
    let all = [without, few, none, unscored].join("\n----\n");
    insta::assert_snapshot!(all.replace(&*cache().display().to_string(), "CACHE"));
}

#[test]
fn a_detector_without_keypoints_leaves_their_values_out() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    let set = ["--set", "model.net.type=faster_rcnn", "--set", "handler.checkpoint.best.monitor=metric.coco:bbox/AP"];
    let said = pipe.ok(&[&["run", "tiny.toml", "--out", "run", "--quiet"][..], &set].concat());
    let told = "`metric.coco` leaves out `keypoints/…`: `model.net` gives no `detection_keypoints`";
    assert!(said.stderr.contains(told), "{}", said.stderr);
    assert!(!pipe.records("run").iter().any(|record| record["tag"].as_str().unwrap().contains("keypoints")));
}
