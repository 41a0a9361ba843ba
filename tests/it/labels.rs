//! Labels mean classes: datasets, weights and evaluations that mean different ones are told, never measured.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::program::Pipe;

const PIPELINE: &str = r#"
[pipeline]
name = "labels"
device = "cpu"

[vars]
train = "train"
val = "val"

[dataset.train]
type = "image_folder"
root = "${train}"

[dataset.val]
type = "image_folder"
root = "${val}"

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 3
workers = 0

[loader.val]
type = "batch"
dataset = "dataset.val"
batch_size = 3
workers = 0

[model.net]
type = "sequential"
layers = [
  { type = "flatten" },
  { type = "linear", in_features = 48, out_features = 3 },
]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.01

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 1

[metric.accuracy]
type = "accuracy"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.val"
metrics = ["metric.accuracy"]

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator", "handler.checkpoint"]
"#;

/// A folder with the pipeline, and folders of images: `train` and `swapped` of three classes each, `val` of two.
fn world() -> Pipe {
    let pipe = Pipe::with("labels.toml", PIPELINE);
    let sets = [("train", &["ant", "bee", "cow"][..]), ("val", &["bee", "cow"]), ("swapped", &["bee", "cow", "dog"])];
    for (set, classes) in sets {
        for (value, class) in classes.iter().enumerate() {
            let image = Tensor::full([3, 4, 4], 60 * value as i64, (Kind::Uint8, Device::Cpu));
            let folder = pipe.path(&format!("{set}/{class}"));
            std::fs::create_dir_all(&folder).expect("a folder");
            let bytes = pipe_native::image::encode_png(&image, 1).expect("an image");
            std::fs::write(folder.join("1.png"), bytes).expect("a file");
        }
    }
    pipe
}

#[test]
fn a_validation_set_that_lacks_a_class_is_not_measured_as_another() {
    let pipe = world();
    let said = pipe.run(&["run", "labels.toml", "--out", "run"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    let lists = "dataset.train has 0 ant, 1 bee, 2 cow; dataset.val has 0 bee, 1 cow";
    assert!(said.stderr.contains(lists) && said.stderr.contains("`--accept labels-differ`"), "{}", said.stderr);
    assert!(!said.stderr.contains("loss"), "before the first step: {}", said.stderr);
    // The way out, as told.
    let way = "dataset.val.class_names='dataset.train:class_names'";
    assert!(said.stderr.contains("`class_names = \"dataset.train:class_names\"`"), "{}", said.stderr);
    pipe.ok(&["run", "labels.toml", "--out", "named", "--set", way]);
    pipe.ok(&["run", "labels.toml", "--out", "accepted", "--accept", "labels-differ"]);
}

#[test]
fn weights_keep_their_classes() {
    let pipe = world();
    let way = ["--set", "dataset.val.class_names='dataset.train:class_names'"];
    pipe.ok(&[&["run", "labels.toml", "--out", "run"], &way[..]].concat());
    let weights = pipe_vision::weights::read(&pipe.path("run/checkpoints/step_000001/model.net.safetensors")).unwrap();
    let classes: BTreeMap<i64, String> = serde_json::from_str(&weights.metadata["classes"]).unwrap();
    assert_eq!(classes.into_values().collect::<Vec<_>>(), ["ant", "bee", "cow"]);
    pipe.ok(&[&["eval", "labels.toml", "--weights", "run"], &way[..]].concat());

    // The evaluation alone does not build the training set: the weights tell.
    let evaluated = pipe.run(&["eval", "labels.toml", "--weights", "run", "--set", "vars.val=swapped"]);
    assert_eq!(evaluated.status, Some(1), "{}", evaluated.stderr);
    let told =
        "were trained on other classes than dataset.val has: 0 ant, 1 bee, 2 cow; dataset.val has 0 bee, 1 cow, 2 dog";
    assert!(evaluated.stderr.contains(told), "{}", evaluated.stderr);
    // So does a resume with other data of the same size.
    let other = ["--set", "vars.train=swapped", "--set", "vars.val=swapped", "--set", "engine.trainer.max_epochs=2"];
    let resumed = pipe.run(&[&["run", "labels.toml", "--resume", "run"], &other[..]].concat());
    assert_eq!(resumed.status, Some(1), "{}", resumed.stderr);
    let more = ["--accept", "data-changed"];
    let resumed = pipe.run(&[&["run", "labels.toml", "--resume", "run"], &other[..], &more[..]].concat());
    assert!(
        resumed.stderr.contains("model.net was trained on other classes: 0 ant, 1 bee, 2 cow; now they are 0 bee"),
        "{}",
        resumed.stderr
    );
}
