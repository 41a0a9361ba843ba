//! Mask R-CNN from end to end through the program: run, eval, predict, score, on the built-in shapes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pipe_vision::nn::NormKind;
use pipe_vision::rcnn::options::BoxHeadOptions;
use pipe_vision::weights;
use pipe_vision::{BackboneOptions, Detector, GeneralizedRcnn, MaskOptions, RcnnOptions, ResNetKind};
use serde_json::Value;
use tch::Device;

use super::program::{Pipe, cache};

pub const PIPELINE: &str = r#"
[pipeline]
name = "tiny"
device = "cpu"

[dataset.train]
type = "coco"
root = "builtin:shapes"
empty = "drop"
limit = 4

[dataset.val]
type = "coco"
root = "builtin:shapes"
split = "val2017"
limit = 3

[transform.resize]
type = "resize"
size = 64

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.resize"
batch_size = 2
workers = 0

[loader.val]
type = "batch"
dataset = "dataset.val"
transform = "transform.resize"
batch_size = 2
workers = 0

[model.net]
type = "mask_rcnn"
backbone = "resnet18"
num_classes = "dataset.train:num_classes"
min_size = 64
max_size = 64
returned_layers = [3, 4]
anchor_sizes = [[16], [32], [64]]
box_representation_size = 32
mask_layers = [8]
mask_hidden = 8

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
iou_types = ["bbox", "segm"]

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.val"
metrics = ["metric.coco"]
tags = [{ value = "metric.coco:segm/AP50", tag = "validation-segm/average precision 0_5" }]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator"]
"#;

/// Fresh weights of the pipeline's model, as a file.
fn fresh_weights(file: &Path) {
    let backbone = BackboneOptions { returned_layers: vec![3, 4], ..BackboneOptions::scratch(ResNetKind::ResNet18) };
    assert_eq!(backbone.norm, NormKind::Batch);
    let options = RcnnOptions {
        anchor_sizes: vec![vec![16.0], vec![32.0], vec![64.0]],
        aspect_ratios: vec![vec![0.5, 1.0, 2.0]; 3],
        box_head: BoxHeadOptions::TwoMlp { representation_size: 32 },
        masks: Some(MaskOptions { layers: vec![8], hidden: 8, ..MaskOptions::v1() }),
        ..RcnnOptions::v1(8, backbone)
    };
    let model = GeneralizedRcnn::new(options, Device::Cpu).unwrap();
    weights::write(file, &model.store().state_dict(), &BTreeMap::new()).unwrap();
}

/// Step, tag and value of all records but texts.
fn values(pipe: &Pipe, run: &str) -> Vec<(u64, String, Value)> {
    let numbers = pipe.records(run).into_iter().filter(|record| record["value"].is_number());
    numbers.map(|r| (r["step"].as_u64().unwrap(), r["tag"].as_str().unwrap().to_owned(), r["value"].clone())).collect()
}

#[test]
fn losses_of_an_evaluation_change_nothing_else() {
    let twice = PIPELINE.replace("max_epochs = 1", "max_epochs = 2");
    let with = twice.replace("metrics = [\"metric.coco\"]", "metrics = [\"metric.coco\", \"metric.loss\"]");
    let pipe = Pipe::with("without.toml", &twice);
    std::fs::write(pipe.path("with.toml"), with + "\n[metric.loss]\ntype = \"loss\"\n").unwrap();
    pipe.ok(&["run", "without.toml", "--out", "without", "--quiet"]);
    pipe.ok(&["run", "with.toml", "--out", "with", "--quiet"]);
    let (losses, rest): (Vec<_>, Vec<_>) =
        values(&pipe, "with").into_iter().partition(|(_, tag, _)| tag.starts_with("val/loss"));
    assert_eq!(rest, values(&pipe, "without"));
    let names: BTreeSet<&str> = losses.iter().filter_map(|(_, tag, _)| tag.rsplit('/').next()).collect();
    let of_model = ["loss_box_reg", "loss_classifier", "loss_mask", "loss_objectness", "loss_rpn_box_reg"];
    assert_eq!(names, ["loss"].into_iter().chain(of_model).collect());
    assert!(losses.iter().all(|(_, _, value)| value.as_f64().is_some_and(|value| value > 0.0)), "{losses:?}");
}

#[test]
fn a_detector_is_trained_measured_and_used() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    pipe.ok(&["run", "tiny.toml", "--out", "run", "--quiet"]);
    let records = pipe.records("run");
    let losses: Vec<&Value> = records.iter().filter(|r| r["tag"].as_str().unwrap().starts_with("train/loss")).collect();
    assert_eq!(losses.len(), 12, "two iterations of five losses and their sum");
    assert!(losses.iter().all(|loss| loss["value"].as_f64().is_some_and(f64::is_finite)), "{losses:?}");
    let tagged = records.iter().find(|r| r["tag"] == "validation-segm/average precision 0_5").unwrap();
    let own = records.iter().find(|r| r["tag"] == "val/coco/segm/AP50").unwrap();
    assert_eq!((&tagged["value"], &tagged["node"]), (&own["value"], &Value::from("engine.evaluator")));
    let text = records.iter().find(|r| r["tag"] == "val/coco/summary").unwrap();
    assert!(text["value"].as_str().unwrap().contains("bbox, 3 images"), "{text}");

    fresh_weights(&pipe.path("fresh.safetensors"));
    let values = pipe.ok(&["eval", "tiny.toml", "--weights", "fresh.safetensors", "--format", "json"]);
    let values: Value = serde_json::from_str(&values.stdout).unwrap();
    assert!(values["metric.coco:bbox/AP"].is_number(), "{values}");

    let shapes = cache().join("shapes");
    let picture = std::fs::read_dir(shapes.join("val2017")).unwrap().next().unwrap().unwrap().path();
    let predict = ["predict", "tiny.toml", "--weights", "fresh.safetensors", "--images", picture.to_str().unwrap()];
    pipe.ok(&[&predict[..], &["--out", "found.json", "--draw", "drawn", "--threshold", "0.0"]].concat());
    assert_eq!(pipe.names("drawn").len(), 1);
    let truth = shapes.join("annotations/instances_val2017.json");
    let lines = pipe.ok(&["score", truth.to_str().unwrap(), "found.json", "--iou", "segm"]).stdout;
    assert_eq!(lines.lines().filter(|line| line.contains("@[ IoU=")).count(), 12, "{lines}");

    // The same detections in other formats.
    let found = pipe.json("found.json");
    let found = found.as_array().unwrap();
    pipe.ok(&[&predict[..], &["--out", "yolo", "--as", "yolo"]].concat());
    let name = picture.file_stem().unwrap().to_str().unwrap();
    let lines = pipe.read(&format!("yolo/{name}.txt"));
    assert_eq!(lines.lines().count(), found.len());
    let image = pipe_data::decode::read_image(&picture, false).unwrap();
    for (line, entry) in lines.lines().zip(found) {
        let numbers: Vec<f64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
        let [x, y, w, h] = [0, 1, 2, 3].map(|side| entry["bbox"][side].as_f64().unwrap());
        let (height, width) = (image.height as f64, image.width as f64);
        let shares = [(x + w / 2.0) / width, (y + h / 2.0) / height, w / width, h / height];
        assert!(numbers[1..5].iter().zip(shares).all(|(a, b)| (a - b).abs() < 1e-6), "{line} and {entry}");
        assert_eq!(numbers[0] + 1.0, entry["category_id"].as_f64().unwrap());
    }
    assert!(pipe.read("yolo/classes.txt").lines().count() > 0);
    pipe.ok(&[&predict[..], &["--out", "arrays", "--as", "npz"]].concat());
    let arrays: BTreeMap<String, tch::Tensor> =
        tch::Tensor::read_npz(pipe.path(&format!("arrays/{name}.npz"))).unwrap().into_iter().collect();
    let count = found.len() as i64;
    assert_eq!(arrays["boxes"].size(), [count, 4]);
    assert_eq!(arrays["masks"].size(), [count, image.height as i64, image.width as i64]);
}

#[test]
fn an_evaluation_writes_the_detections_that_it_counts() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    fresh_weights(&pipe.path("fresh.safetensors"));
    let eval = ["eval", "tiny.toml", "--weights", "fresh.safetensors", "--results", "found.json", "--format", "json"];
    let values: Value = serde_json::from_str(&pipe.ok(&eval).stdout).unwrap();
    let truth = cache().join("shapes/annotations/instances_val2017.json");
    let score = ["score", truth.to_str().unwrap(), "found.json", "--detected-only", "--format", "json"];
    let scored: Value = serde_json::from_str(&pipe.ok(&score).stdout).unwrap();
    assert_eq!(scored["images"], 3);
    for name in ["AP", "AP50", "AR100"] {
        assert_eq!(scored["stats"][name], values[format!("metric.coco:bbox/{name}")], "{name}");
    }
    let found = pipe.json("found.json");
    let found = found.as_array().unwrap();
    assert!(found.iter().all(|entry| entry["file_name"].is_string()));
    // An untrained model also finds labels that are no category.
    assert!(found.iter().any(|entry| entry["category_name"].is_string()));

    // The same images by the name of the dataset, with the same ids and names.
    let predict = ["predict", "tiny.toml", "--weights", "fresh.safetensors", "--split", "val", "--out", "split.json"];
    pipe.ok(&predict);
    let images = |found: &[Value]| {
        let known = found.iter().filter(|entry| entry["category_name"].is_string());
        known.map(|entry| (entry["image_id"].as_i64(), entry["file_name"].to_string())).collect::<BTreeSet<_>>()
    };
    assert_eq!(images(pipe.json("split.json").as_array().unwrap()), images(found));
    let wrong =
        pipe.run(&["predict", "tiny.toml", "--weights", "fresh.safetensors", "--split", "vall", "--out", "o.json"]);
    assert!(
        wrong.stderr.contains("`vall` is not a dataset of the pipeline; available: dataset.train, dataset.val"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn an_evaluation_is_diagnosed() {
    let diagnosed = PIPELINE
        .replace("iou_types = [\"bbox\", \"segm\"]", "iou_types = [\"bbox\", \"segm\"]\ndiagnostics = \"diagnostics\"")
        .replace("metrics = [\"metric.coco\"]", "metrics = [\"metric.coco\", \"metric.loss\"]");
    let more = "\n[metric.loss]\ntype = \"loss\"\n\n[sink.tensorboard]\ntype = \"tensorboard\"\n";
    let pipe = Pipe::with("tiny.toml", &(diagnosed + more));
    pipe.ok(&["run", "tiny.toml", "--out", "run", "--quiet"]);
    let records = pipe.records("run");
    let tags = |kind: &str| -> BTreeSet<&str> {
        let own = records.iter().filter(|record| record["kind"] == kind);
        own.map(|record| record["tag"].as_str().unwrap()).collect()
    };
    let charts = ["confusion_matrix", "f1", "precision", "precision_recall", "recall"];
    let expected =
        ["bbox", "segm"].iter().flat_map(|iou| charts.iter().map(move |chart| format!("val/coco/{iou}/{chart}")));
    assert_eq!(tags("image"), expected.collect::<BTreeSet<_>>().iter().map(String::as_str).collect());
    let curves = tags("pr_curve");
    assert!(curves.len() > 2 && curves.iter().all(|tag| tag.contains("/pr/")), "{curves:?}");
    let text = records.iter().find(|record| record["tag"] == "val/coco/summary").unwrap()["value"].as_str().unwrap();
    assert!(text.contains("kind of error") && text.contains("images with the highest loss\n"), "{text}");
    let whole = pipe.json("run/diagnostics/segm/diagnostics.json");
    let images = whole["worst_images"].as_array().unwrap();
    assert!(
        images.len() == 3 && images.iter().all(|image| image["loss"].as_f64().is_some_and(|loss| loss > 0.0)),
        "{images:?}"
    );
    // Each image has its own part in the losses of its batch, and their mean is the evaluation's loss.
    let own: BTreeSet<String> = images.iter().map(|image| image["loss"].to_string()).collect();
    assert_eq!(own.len(), 3, "{images:?}");
    let mean = images.iter().map(|image| image["loss"].as_f64().unwrap()).sum::<f64>() / 3.0;
    let loss = records.iter().find(|record| record["tag"] == "val/loss").unwrap()["value"].as_f64().unwrap();
    assert!((mean / loss - 1.0).abs() < 1e-5, "{mean} and {loss}");
    if let Some(python) = pipe_test_support::python() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorboard_read.py");
        let read = std::process::Command::new(python).arg(script).arg(pipe.path("run/tensorboard")).output().unwrap();
        let read: Value = serde_json::from_slice(&read.stdout).unwrap();
        let tag = *curves.iter().next().unwrap();
        assert_eq!(read["pr_curves"][tag][0][2][0].as_array().unwrap().len(), 101, "{tag}");
    }

    // Of weights alone, and without losses.
    fresh_weights(&pipe.path("fresh.safetensors"));
    let eval = ["eval", "tiny.toml", "--weights", "fresh.safetensors", "--diagnostics", "told"];
    let said = pipe.ok(&[&eval[..], &["--set", "engine.evaluator.metrics=[\"metric.coco\"]"]].concat()).stdout;
    assert!(said.contains("kind of error") && !said.contains("highest loss"), "{said}");
    let told = pipe.json("told/segm/diagnostics.json");
    assert_eq!((&told["images"], &told["worst_images"][0]["loss"]), (&Value::from(3), &Value::Null));
}

#[test]
fn classes_of_other_ids_are_scored_by_name() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    let truth = cache().join("shapes/annotations/instances_val2017.json");
    let annotations: Value = serde_json::from_slice(&std::fs::read(&truth).unwrap()).unwrap();
    let names: BTreeMap<i64, &str> = annotations["categories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|category| (category["id"].as_i64().unwrap(), category["name"].as_str().unwrap()))
        .collect();
    let perfect = annotations["annotations"].as_array().unwrap().iter().filter(|one| one["iscrowd"] == 0).map(|one| {
        let category = one["category_id"].as_i64().unwrap();
        serde_json::json!({
            "image_id": one["image_id"], "bbox": one["bbox"], "score": 1.0,
            // As a model of some of the classes numbers them.
            "category_id": names.len() as i64 + 1 - category, "category_name": names[&category],
        })
    });
    let perfect: Vec<Value> = perfect.collect();
    pipe.write("found.json", &serde_json::to_string(&perfect).unwrap());
    let said = pipe.ok(&["score", truth.to_str().unwrap(), "found.json", "--format", "json"]);
    let scored: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(scored["stats"]["AP"], 1.0, "{scored}");
    assert!(said.stderr.contains("were given to their categories by `category_name`"), "{}", said.stderr);
}

#[test]
fn augmented_masks_do_not_depend_on_the_number_of_workers() {
    let steps = r#"type = "compose"
steps = [
  { type = "random_horizontal_flip", p = 0.5 },
  { type = "random_affine", degrees = 15 },
  { type = "color_jitter", brightness = 0.3 },
  { type = "resize", size = 64 },
]"#;
    let pipeline = PIPELINE
        .replace("type = \"resize\"\nsize = 64", steps)
        .replace("transform = \"transform.resize\"\nbatch_size = 2\nworkers = 0\n\n[loader.val]", {
            "transform = \"transform.resize\"\nbatch_size = 2\nshuffle = true\nworkers = 1\n\n[loader.val]"
        })
        .replace("limit = 4", "limit = 8");
    let pipe = Pipe::with("tiny.toml", &pipeline);
    pipe.ok(&["run", "tiny.toml", "--out", "one", "--quiet"]);
    pipe.ok(&["run", "tiny.toml", "--out", "four", "--quiet", "--set", "loader.train.workers=4"]);
    let (one, four) = (pipe.scalars("one"), pipe.scalars("four"));
    assert!(one.iter().filter(|record| record["tag"] == "train/loss_mask").count() == 4, "{one:?}");
    assert_eq!(one, four);
}

/// The article's second part: another detector in the same pipeline.
#[test]
fn one_word_swaps_the_model() {
    let pipe = Pipe::with("tiny.toml", PIPELINE);
    let set = ["--set", "model.net.type=ssd", "--set", "model.net.size=64"];
    let said = pipe.ok(&[&["run", "tiny.toml", "--out", "run", "--quiet"][..], &set].concat());
    assert!(said.stderr.contains("drops `min_size`"), "{}", said.stderr);
    assert!(said.stderr.contains("`metric.coco` leaves out `segm/…`: `model.net` gives no `detection_masks`"));
    let records = pipe.records("run");
    let tags: BTreeSet<&str> = records.iter().map(|record| record["tag"].as_str().unwrap()).collect();
    assert!(tags.contains("train/bbox_regression") && tags.contains("val/coco/bbox/AP"), "{tags:?}");
    assert!(!tags.iter().any(|tag| tag.contains("segm")), "{tags:?}");
}
