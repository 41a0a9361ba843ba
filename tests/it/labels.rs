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

/// The evaluation of [`PIPELINE`] alone, its model filled from a run.
fn evaluation_only() -> String {
    let cut = |text: &str, from: &str, to: &str| {
        let (start, end) = (text.find(from).unwrap(), to.is_empty().then_some(text.len()).or_else(|| text.find(to)));
        text[..start].to_owned() + &text[end.unwrap()..]
    };
    let text = cut(PIPELINE, "[dataset.train]", "[dataset.val]");
    let text = cut(&text, "[loader.train]", "[loader.val]");
    let text = cut(&text, "[optimizer.sgd]", "[metric.accuracy]");
    let text = cut(&text, "[handler.checkpoint]", "");
    text.replace("train = \"train\"\n", "").replace("type = \"sequential\"", "type = \"sequential\"\nweights = \"run\"")
}

#[test]
fn weights_that_fill_a_model_are_compared_too() {
    let pipe = world();
    let way = ["--set", "dataset.val.class_names='dataset.train:class_names'"];
    pipe.ok(&[&["run", "labels.toml", "--out", "run"], &way[..]].concat());
    pipe.write("only.toml", &evaluation_only());
    pipe.ok(&["run", "only.toml", "--out", "same", "--set", "vars.val=train"]);
    let other = pipe.run(&["run", "only.toml", "--out", "other", "--set", "vars.val=swapped"]);
    assert_eq!(other.status, Some(1), "{}", other.stderr);
    assert!(other.stderr.contains("the weights of model.net were trained on other classes"), "{}", other.stderr);
    // Who trains may go on from another task of as many classes, which is said.
    let tuned = ["--set", "vars.train=swapped", "--set", "vars.val=swapped", "--set", "model.net.weights=run"];
    let tuned = pipe.ok(&[&["run", "labels.toml", "--out", "tuned"], &tuned[..]].concat());
    assert!(
        tuned.stderr.contains("its weights are of as many classes, but of others: 0 ant, 1 bee, 2 cow"),
        "{}",
        tuned.stderr
    );
}

#[test]
fn a_classifier_predicts_what_its_evaluation_counts() {
    let pipe = world();
    let way = ["--set", "dataset.val.class_names='dataset.train:class_names'", "--set", "engine.trainer.max_epochs=20"];
    pipe.ok(&[&["run", "labels.toml", "--out", "run"], &way[..]].concat());
    let accuracy = pipe.ok(&["eval", "run", "--set", "dataset.val.root=train", "--format", "json"]);
    let accuracy: serde_json::Value = serde_json::from_str(&accuracy.stdout).unwrap();
    pipe.ok(&["predict", "run", "--images", "train/*/*.png", "--out", "found.json", "--top-k", "3", "--draw", "drawn"]);
    let found = pipe.json("found.json");
    let found = found.as_array().unwrap();
    let right = found.iter().filter(|image| {
        let total: f64 =
            image["top"].as_array().unwrap().iter().map(|class| class["probability"].as_f64().unwrap()).sum();
        assert!((total - 1.0).abs() < 1e-6, "{image}");
        image["file_name"].as_str().unwrap().contains(image["top"][0]["name"].as_str().unwrap())
    });
    assert_eq!(right.count() as f64 / 3.0, accuracy["metric.accuracy:accuracy"].as_f64().unwrap());
    assert_eq!((found.len(), pipe.names("drawn").len()), (3, 3));
    let refused = pipe.run(&["predict", "run", "--images", "train", "--out", "x", "--as", "yolo"]);
    assert_eq!(refused.status, Some(1), "{}", refused.stderr);
    // A file of results may be replaced, another not.
    let again = ["predict", "run", "--split", "train", "--out"];
    pipe.ok(&[&again[..], &["found.json"]].concat());
    assert_eq!(pipe.json("found.json").as_array().unwrap().len(), 3);
    let before = pipe.read("labels.toml");
    let refused = pipe.run(&[&again[..], &["labels.toml"]].concat());
    assert!(refused.stderr.contains("labels.toml exists and is no file of results"), "{}", refused.stderr);
    let missing = pipe.run(&["predict", "run", "--images", "nowhere.jpg", "--out", "new.json"]);
    assert!(missing.stderr.contains("there is no image or folder nowhere.jpg"), "{}", missing.stderr);
    assert!(!pipe.path("new.json").exists());
    assert_eq!(pipe.read("labels.toml"), before);
}

#[test]
fn every_dataset_that_is_missing_is_told() {
    let pipe = world();
    let roots = ["--set", "dataset.train.root='here'", "--set", "dataset.val.root='there'"];
    let said = pipe.run(&[&["check", "labels.toml", "--data"], &roots[..]].concat());
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    assert_eq!(said.stderr.matches("error[unusable-data]").count(), 2, "{}", said.stderr);
    assert!(said.stderr.contains("here") && said.stderr.contains("there"), "{}", said.stderr);
}

#[test]
fn weights_are_found_by_the_run_they_are_of() {
    let pipe = world();
    let way = ["--set", "dataset.val.class_names='dataset.train:class_names'"];
    pipe.ok(&[&["run", "labels.toml"], &way[..]].concat());
    let run = format!("runs/labels/{}", pipe.names("runs/labels")[0]);
    for (file, weights) in [("labels.toml", "best"), ("labels.toml", "latest"), (&*run, "latest")] {
        let said = pipe.run(&[&["eval", file, "--weights", weights], &way[..]].concat());
        // Nothing judged these checkpoints.
        match weights {
            "best" => assert!(said.stderr.contains("has no best checkpoint"), "{}", said.stderr),
            _ => assert_eq!(said.status, Some(0), "{}", said.stderr),
        }
    }
    let none = pipe.run(&[&["eval", "labels.toml"], &way[..]].concat());
    assert!(
        none.stderr.contains("which weights? `--weights` names a file, a run or `torchvision:NAME`"),
        "{}",
        none.stderr
    );
    let unknown = pipe.run(&["eval", "labels.toml", "--weights", "torchvision:resnet1"]);
    assert!(unknown.stderr.contains("did you mean `resnet18`?"), "{}", unknown.stderr);
}
