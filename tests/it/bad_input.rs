//! What a user sees when data, weights or the disk are not as they should be: `tests/bad_input/NAME.snap` has what the program
//! prints, folders and times left out. `INSTA_UPDATE=always cargo test bad_input` writes the snapshots anew; read the difference.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use super::program::{Pipe, Said};

const PIPELINE: &str = r#"
[pipeline]
name = "bad"
device = "cpu"

[dataset.train]
type = "coco"
root = "set"

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 2
workers = 0
on_error = "skip"

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

[handler.checkpoint]
type = "checkpoint"
keep_last = 1

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]

[checks]
allow = ["unshuffled-training"]
"#;

/// A folder with a sound set of four images, one object in each, and the pipeline.
struct World {
    pipe: Pipe,
    truth: Value,
}

impl World {
    fn new() -> World {
        let pipe = Pipe::with("bad.toml", PIPELINE);
        let at = |name: &str| pipe.path(name);
        std::fs::create_dir_all(at("set/train2017")).unwrap();
        std::fs::create_dir_all(at("set/annotations")).unwrap();
        let picture = Tensor::arange(3 * 64 * 64, (Kind::Int, Device::Cpu)).remainder(251).to_kind(Kind::Uint8);
        let jpeg = pipe_native::image::encode_jpeg(&picture.view([3, 64, 64]), 90).unwrap();
        let (mut images, mut annotations) = (Vec::new(), Vec::new());
        for id in 1..=4 {
            std::fs::write(at(&format!("set/train2017/{id}.jpg")), &jpeg).unwrap();
            images.push(json!({ "id": id, "file_name": format!("{id}.jpg"), "height": 64, "width": 64 }));
            annotations.push(json!({
                "id": 10 * id, "image_id": id, "category_id": 1 + id % 2, "bbox": [8, 8, 32, 32], "area": 1024,
                "iscrowd": 0, "segmentation": [[8, 8, 40, 8, 40, 40, 8, 40]],
            }));
        }
        let categories = json!([{ "id": 1, "name": "cat" }, { "id": 2, "name": "dog" }]);
        let truth = json!({ "images": images, "annotations": annotations, "categories": categories });
        let world = World { pipe, truth };
        world.write_truth();
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.pipe.path(name)
    }

    fn annotations(&self) -> PathBuf {
        self.at("set/annotations/instances_train2017.json")
    }

    fn write_truth(&self) {
        std::fs::write(self.annotations(), self.truth.to_string()).unwrap();
    }

    /// The set with something of its annotations changed.
    fn with(pointer: &str, value: Value) -> World {
        let mut world = World::new();
        *world.truth.pointer_mut(pointer).unwrap() = value;
        world.write_truth();
        world
    }

    fn pipe(&self, before: &str, arguments: &[&str]) -> Seen {
        let said = Said::of(&mut self.pipe.command_after(before, arguments));
        Seen { status: said.status, text: self.plain(&(said.stderr + &said.stdout)) }
    }

    fn run(&self, more: &[&str]) -> Seen {
        self.run_into("run", more)
    }

    fn run_into(&self, out: &str, more: &[&str]) -> Seen {
        self.pipe("", &[&["run", "bad.toml", "--out", out], more].concat())
    }

    /// The text without what differs from run to run.
    fn plain(&self, text: &str) -> String {
        let folder = self.pipe.folder().canonicalize().unwrap();
        let text = text.replace(&folder.display().to_string(), "FOLDER");
        let text = text.replace(&self.pipe.folder().display().to_string(), "FOLDER");
        let process = |line: &str| match line.split_once(".tmp") {
            Some((before, after)) => {
                format!("{before}.tmpN{}", after.trim_start_matches(|c: char| c.is_ascii_digit()))
            }
            None => line.to_owned(),
        };
        let lines = text.lines().filter(|line| !is_epoch(line));
        lines.map(|line| untimed(&process(line))).collect::<Vec<_>>().join("\n") + "\n"
    }

    fn has_checkpoint(&self) -> bool {
        self.at("run/checkpoints/step_000002/model.net.safetensors").is_file()
    }
}

struct Seen {
    status: Option<i32>,
    text: String,
}

impl Seen {
    /// Compares with the recorded text.
    #[track_caller]
    fn is(&self, status: i32, name: &str) {
        assert_eq!(self.status, Some(status), "{name}:\n{}", self.text);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_input"));
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

/// The line of an epoch, `epoch 1/1 …`, which is all measurements.
fn is_epoch(line: &str) -> bool {
    line.strip_prefix("epoch ").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

/// The summary's first line, `done after 2 seconds`, without the time; other lines as they are.
fn untimed(line: &str) -> String {
    match line.split_once(" after ") {
        Some((status @ ("done" | "failed" | "interrupted"), _)) => format!("{status} after TIME"),
        _ => line.to_owned(),
    }
}

/// The start of a file only.
fn cut(file: &Path, share: f64) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..(bytes.len() as f64 * share) as usize]).unwrap();
}

#[test]
fn a_truncated_jpeg_is_named_and_training_goes_on() {
    let world = World::new();
    cut(&world.at("set/train2017/2.jpg"), 0.6);
    world.run(&[]).is(0, "truncated_jpeg");
    assert!(world.has_checkpoint());
    world.run_into("second", &["--set", "loader.train.on_error=\"raise\""]).is(1, "truncated_jpeg_raised");
}

#[test]
fn a_missing_picture_is_left_out_and_named() {
    let world = World::new();
    std::fs::remove_file(world.at("set/train2017/3.jpg")).unwrap();
    world.run(&[]).is(0, "missing_image");
    assert!(world.has_checkpoint());
    std::fs::remove_dir_all(world.at("set/train2017")).unwrap();
    world.run_into("second", &[]).is(1, "no_images");
}

#[test]
fn annotations_cut_short_are_named_with_the_place() {
    let world = World::new();
    cut(&world.annotations(), 0.7);
    world.run(&[]).is(1, "json_cut_short");
}

#[test]
fn ids_that_lead_nowhere_are_refused_or_counted() {
    let mut world = World::with("/annotations/1/image_id", json!(77));
    world.truth["annotations"][3]["category_id"] = json!(9);
    world.write_truth();
    world.run(&[]).is(1, "dangling_ids");
    world.run_into("second", &["--set", "dataset.train.strict=false"]).is(0, "dangling_ids_left_out");
}

#[test]
fn objects_that_cannot_be_trained_on_are_left_out_and_counted() {
    let mut world = World::with("/annotations/0/bbox", json!([8, 8, 0, 32]));
    let annotations = &mut world.truth["annotations"];
    annotations[1]["segmentation"] = json!([[70, 70, 90, 70, 90, 90]]);
    annotations[2]["segmentation"] = json!({ "size": [32, 64], "counts": [100, 1948] });
    world.write_truth();
    world.run(&[]).is(0, "odd_objects");
    assert!(world.has_checkpoint());
}

#[test]
fn a_category_that_the_model_does_not_know_is_named_with_its_picture() {
    let world = World::new();
    // A run would not begin with it.
    let allow = "checks.allow=[\"too-few-classes\", \"unshuffled-training\"]";
    world.run(&["--set", "model.net.num_classes=2", "--set", allow]).is(1, "unknown_category");
}

#[test]
fn weights_of_another_shape_are_named() {
    let world = World::new();
    assert_eq!(world.run(&[]).status, Some(0));
    let weights = "run/checkpoints/step_000002/model.net.safetensors";
    let predict = |more: &[&str]| {
        let base = ["predict", "bad.toml", "--weights", weights, "--images", "set/train2017/1.jpg", "--out", "o.json"];
        world.pipe("", &[&base, more].concat())
    };
    predict(&["--set", "model.net.mask_hidden=16"]).is(1, "misshapen_weights");
    // A file that the pipeline names and that is not there does not matter when other weights are given.
    let named = predict(&["--set", "model.net.weights=\"nowhere.pth\"", "--set", "model.net.norm=\"batch\""]);
    assert_eq!(named.status, Some(0), "{}", named.text);
    let named = "model.net.weights=\"nowhere.pth\"";
    world.run_into("second", &["--set", named]).is(1, "missing_weights");
}

#[test]
fn an_empty_set_is_named() {
    let mut world = World::with("/annotations", json!([]));
    world.run(&["--set", "dataset.train.empty=\"drop\""]).is(1, "no_objects");
    world.truth["images"] = json!([]);
    world.write_truth();
    world.run_into("second", &[]).is(1, "empty_set");
}

/// Files may grow to two megabytes only: a checkpoint of the model cannot be written, as on a full disk.
#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_last_one_whole() {
    let world = World::new();
    assert_eq!(world.run(&[]).status, Some(0));
    let model = world.at("run/checkpoints/step_000002/model.net.safetensors");
    let before = std::fs::read(&model).unwrap();
    let limit = "trap '' XFSZ; ulimit -f 4096;";
    let more = ["run", "bad.toml", "--resume", "run", "--set", "engine.trainer.max_epochs=2"];
    world.pipe(limit, &more).is(1, "disk_full");
    assert!(before == std::fs::read(&model).unwrap(), "the earlier checkpoint is as it was");
    assert_eq!(world.pipe.names("run/checkpoints"), ["step_000002"], "nothing half written stays");
}

/// The output of one layer alone would take more memory than any machine has.
#[test]
fn a_batch_for_which_there_is_no_memory_is_named() {
    let more = r#"
[model.net]
layers = [
  { type = "conv2d", in_channels = 1, out_channels = 1048576, kernel_size = 1, padding = 2000, bias = false },
  { type = "flatten" },
]

[loader.train]
batch_size = 3
"#;
    let said = Pipe::digits("huge.toml", more).run(&["run", "huge.toml", "--quiet", "--out", "run"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    let told = "out of memory on cpu with a batch of 3 (";
    assert!(said.stderr.contains(told) && said.stderr.contains(" 28 × 28"), "{}", said.stderr);
    assert!(said.stderr.contains("Lower `batch_size`"), "{}", said.stderr);
}
