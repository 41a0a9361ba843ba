//! The preflight: what it predicts of memory is what an epoch takes, what does not fit is refused before the first step, and the batch
//! size that it finds is the largest that an epoch survives.

use std::path::Path;

use pipe_core::Instance;
use pipe_native::{fault::is_out_of_memory, memory};
use pipe_run::preflight::{largest_batch_size, preflight};
use pipe_run::{RunOptions, Running};
use pipe_stand_in::{library, set_capacity};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::device::device;
use crate::program::{Pipe, Said, alone};
use crate::run::load;

/// A capacity that nothing reaches.
const ALL: u64 = 1 << 40;

/// Images of several sizes with few objects each, and one with many; COCO's layout.
fn images(pipe: &Pipe, many: usize) {
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for folder in ["set/train2017", "set/annotations"] {
        std::fs::create_dir_all(pipe.path(folder)).expect("a folder");
    }
    for id in 1..=12_i64 {
        let (height, width) = [(48, 64), (64, 48), (40, 64), (56, 56)][id as usize % 4];
        let name = if id == 7 { "crowded.png".to_owned() } else { format!("{id}.png") };
        let pixels = (Tensor::arange(3 * height * width, (Kind::Float, Device::Cpu)) * (0.01 * id as f64)).sin();
        let pixels = (pixels * 127.0 + 128.0).to_kind(Kind::Uint8).reshape([3, height, width]);
        std::fs::write(
            pipe.path(&format!("set/train2017/{name}")),
            pipe_native::image::encode_png(&pixels, 1).expect("a PNG"),
        )
        .expect("a file");
        images.push(json!({ "id": id, "height": height, "width": width, "file_name": name }));
        for object in 0..if id == 7 { many } else { 1 + id as usize % 3 } {
            let (x, y) = ((object * 7 % 28) as f64, (object * 5 % 24) as f64);
            let (right, bottom) = (x + 10.0, y + 12.0);
            annotations.push(json!({
                "id": annotations.len() + 1, "image_id": id, "category_id": 1 + object % 2, "iscrowd": 0, "area": 120.0,
                "bbox": [x, y, 10.0, 12.0], "segmentation": [[x, y, right, y, right, bottom, x, bottom]],
            }));
        }
    }
    let categories = json!([{ "id": 1, "name": "disc" }, { "id": 2, "name": "box" }]);
    let file = json!({ "images": images, "annotations": annotations, "categories": categories });
    pipe.write("set/annotations/instances_train2017.json", &file.to_string());
}

const DETECTOR: &str = r#"
[pipeline]
name = "case"
seed = 5

[dataset.train]
type = "coco"
root = "set"

[transform.all]
type = "random_short_side"
sizes = [48, 56, 64]

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.all"
batch_size = 2
shuffle = true
workers = 2

[model.net]
type = "mask_rcnn"
backbone = "resnet18"
num_classes = "dataset.train:num_classes"
skip_resize = true
box_representation_size = 32
box_batch_size_per_image = 64
mask_layers = [8]
mask_hidden = 8

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.001
momentum = 0.9

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 2

[checks]
allow = ["unsaved-training"]
"#;

const CHECKPOINTS: &str = r#"
[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint"]
"#;

/// A classifier, or a network for pixels, on images that are cut to one size.
fn on_images(nodes: &str) -> String {
    format!(
        r#"
[pipeline]
name = "case"
seed = 5
{nodes}
[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.all"
batch_size = 4
shuffle = true
workers = 2

[optimizer.adam]
type = "adam"
model = "model.net"
lr = 0.001

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.adam"
loader = "loader.train"
max_epochs = 1

[checks]
allow = ["unsaved-training"]
"#
    )
}

const CLASSIFIER: &str = r#"
[dataset.train]
type = "mnist"
root = "builtin:digits"
limit = 12

[transform.all]
type = "compose"
steps = [{ type = "grayscale", channels = 3 }, { type = "resize", size = 64 }]

[model.net]
type = "resnet"
num_classes = 10
"#;

const PIXELS: &str = r#"
[dataset.train]
type = "segmentation"
images = "plain"
masks = "masks"
class_names = ["dark", "grey", "bright"]

[transform.all]
type = "random_resized_crop"
size = 64

[model.net]
type = "fcn"
backbone = "resnet18"
num_classes = 3
"#;

fn pixels(pipe: &Pipe) {
    for folder in ["plain", "masks"] {
        std::fs::create_dir_all(pipe.path(folder)).expect("a folder");
    }
    for number in 0..8 {
        let image = (Tensor::arange(3 * 40 * 50, (Kind::Float, Device::Cpu)) * (0.05 + 0.1 * f64::from(number))).sin();
        let image = (image * 127.0 + 128.0).to_kind(Kind::Uint8).reshape([3, 40, 50]);
        let mask = image.narrow(0, 0, 1).floor_divide_scalar(86).to_kind(Kind::Uint8);
        for (folder, tensor) in [("plain", &image), ("masks", &mask)] {
            let file = pipe.path(&format!("{folder}/{number}.png"));
            std::fs::write(file, pipe_native::image::encode_png(tensor, 1).expect("a PNG")).expect("a file");
        }
    }
}

fn start(folder: &Path, text: &str) -> Running {
    let loaded = load(folder, text);
    let found = loaded.diagnostics.render_text(&loaded.sources, false);
    let plan = loaded.plan.unwrap_or_else(|| panic!("{found}"));
    let out = tempfile::tempdir_in(folder).expect("a folder").keep();
    let options = RunOptions { folder: out, device: Some("auto".into()), quiet: true, ..RunOptions::default() };
    Running::start(&plan, loaded.catalog, &options, Default::default()).expect("the run starts")
}

/// The peak of the device's memory that is predicted, and that of the run.
fn peaks(folder: &Path, text: &str) -> (u64, u64) {
    let running = start(folder, text);
    memory::forget(device()).unwrap();
    let found = preflight(&running.graph).expect("everything fits");
    let predicted = found.iter().map(|found| found.peak).max().expect("an engine was tried");
    memory::forget(device()).unwrap();
    running.drive().expect("the run goes well");
    (predicted, memory::max_allocated(device()).unwrap())
}

#[test]
fn the_peak_of_an_epoch_is_predicted() {
    let _alone = alone();
    device();
    let pipe = Pipe::new();
    images(&pipe, 40);
    pixels(&pipe);
    for (name, text) in
        [("Mask R-CNN", DETECTOR.to_owned()), ("ResNet-18", on_images(CLASSIFIER)), ("FCN", on_images(PIXELS))]
    {
        let (predicted, actual) = peaks(pipe.folder(), &text);
        let ratio = predicted as f64 / actual as f64;
        println!("{name}: predicted {predicted}, the run {actual} bytes: {ratio:.4}");
        assert!((0.95..=1.05).contains(&ratio), "{name}: {predicted} predicted, {actual} in the run");
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let _alone = alone();
    device();
    let pipe = Pipe::new();
    images(&pipe, 3);
    let (peak, _) = peaks(pipe.folder(), DETECTOR);
    images(&pipe, 800);
    pipe.write("case.toml", DETECTOR);
    let mut command = pipe.command(&["run", "case.toml", "--out", "run", "--device", "auto"]);
    command.env("LD_PRELOAD", library()).env("STAND_IN_CAPACITY", (peak + (8 << 20)).to_string());
    let said = Said::of(&mut command);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("does not fit, so the run does not begin"), "{}", said.stderr);
    assert!(said.stderr.contains("crowded.png") && said.stderr.contains("800 objects"), "{}", said.stderr);
    let records = pipe.records("run");
    assert!(records.iter().all(|record| record["node"] != "engine.trainer"), "no step was made: {records:?}");
    assert_eq!(pipe.json("run/run.json")["status"], "failed");
}

#[test]
fn the_largest_batch_size_is_found() {
    let _alone = alone();
    device();
    let pipe = Pipe::new();
    let with = |size: &str| on_images(CLASSIFIER).replace("batch_size = 4", &format!("batch_size = {size}"));
    let (capacity, _) = peaks(pipe.folder(), &with("5"));
    let running = start(pipe.folder(), &with("\"auto\""));
    let Instance::Engine(engine) = running.graph.node(&"engine.trainer".parse().unwrap()).unwrap() else { panic!() };
    set_capacity(capacity + (1 << 20)).unwrap();
    let found = largest_batch_size(&running.graph, &engine).expect("one fits");
    drop((running, engine));
    let survives = |size: usize| {
        let result = start(pipe.folder(), &with(&size.to_string())).drive();
        assert!(result.as_ref().err().is_none_or(is_out_of_memory), "{result:?}");
        result.is_ok()
    };
    let (same, more) = (survives(found), survives(found + 1));
    set_capacity(ALL).unwrap();
    assert!(same && !more, "{found} was found; it survives: {same}; one more survives: {more}");

    // The program says it, keeps it with the run, and goes on with it.
    pipe.write("case.toml", &(with("\"auto\"") + CHECKPOINTS));
    let run = |more: &[&str]| {
        let mut command = pipe.command(&[&["run", "case.toml", "--device", "auto"], more].concat());
        command.env("LD_PRELOAD", library()).env("STAND_IN_CAPACITY", (capacity + (1 << 20)).to_string());
        Said::of(&mut command)
    };
    let said = run(&["--out", "run", "--set", "engine.trainer.max_epochs=1"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(said.stderr.contains(&format!("batch_size = {found}, the largest")), "{}", said.stderr);
    assert!(pipe.read("run/pipeline.toml").contains(&format!("batch_size = {found}")));
    let said = run(&["--resume", "run", "--set", "engine.trainer.max_epochs=2"]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(!said.stderr.contains("the largest with which"), "it looked again: {}", said.stderr);
    assert!(pipe.read("run/pipeline.toml").contains(&format!("batch_size = {found}")));
}

#[test]
fn the_cpu_finds_no_batch_size() {
    let pipe = Pipe::new();
    images(&pipe, 3);
    pipe.write("case.toml", &DETECTOR.replace("batch_size = 2", "batch_size = \"auto\""));
    let said = Said::of(&mut pipe.command(&["run", "case.toml", "--out", "run", "--device", "cpu"]));
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("goes by the memory of an accelerator"), "{}", said.stderr);
}
