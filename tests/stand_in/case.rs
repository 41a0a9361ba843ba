//! A pipeline that is run on the accelerator and on the CPU, and what is compared.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use pipe_coco::synthetic::{ShapesSpec, write_shape_keypoints, write_shapes};
use pipe_stand_in::library;
use tch::{Device, Kind, Tensor};

use crate::device::device;
use crate::program::{Pipe, Said, alone};
use crate::run::train;

/// What is compared of a detector. On the CPU RoIAlign is the program's own kernel, elsewhere torchvision's, which rounds otherwise: the
/// losses of the first step are equal within a millionth. From then on a last bit may choose another box or change a normalization of
/// few numbers.
pub const DETECTOR: Tolerance = Tolerance { first: 1e-6, later: 0.02 };

/// The largest differences that are let be, each as a part of the number.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// In the first step, whose weights are equal.
    pub first: f64,
    /// In later steps.
    pub later: f64,
}

pub struct Case {
    /// Dataset, transform, model, loss, optimizer, metric.
    pub nodes: String,
    /// What is edited after the first step, and to what; none where that says nothing new.
    pub edits: &'static [(&'static str, &'static str)],
    /// How far its numbers may differ from the CPU's.
    pub tolerance: Tolerance,
    /// Arguments of `pipe predict`; none where it refuses the model.
    pub predict: &'static [&'static str],
    /// The type in which the model computes.
    pub precision: &'static str,
}

/// What all have: loaders, an optimizer unless the case has its own, a trainer, an evaluator, checkpoints.
const FRAME: &str = r#"
[pipeline]
name = "case"
seed = 3
precision = "PRECISION"
deterministic = EXACT

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.all"
batch_size = 3
shuffle = true
workers = 2

[loader.test]
type = "batch"
dataset = "dataset.train"
transform = "transform.all"
batch_size = 2
workers = 0

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.steps"
loader = "loader.train"
epoch_length = 2
max_epochs = EPOCHS
log_interval = 1
clip_grad_norm = 5.0

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = METRICS

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator", "handler.checkpoint"]
"#;

/// Images of three classes, grey.
pub const GREY: &str = r#"
[dataset.train]
type = "image_folder"
root = "sets"

[transform.all]
type = "compose"
steps = [{ type = "grayscale" }, { type = "normalize", mean = [0.4], std = [0.3] }]

[metric.measure]
type = "accuracy"
"#;

/// Images of three classes, and a model that takes the class for a number.
pub const NUMBERS: &str = r#"
[dataset.train]
type = "image_folder"
root = "sets"

[transform.all]
type = "normalize"
mean = [0.4, 0.4, 0.4]
std = [0.3, 0.3, 0.3]

[metric.measure]
type = "regression"
target = "label"

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 432, out_features = 1 }]
"#;

/// Images with boxes and masks.
pub const SHAPES: &str = r#"
[dataset.train]
type = "coco"
root = "SHAPES"
empty = "drop"
limit = 6

[transform.all]
type = "resize"
size = 64

[metric.measure]
type = "coco_ap"
dataset = "dataset.train"
"#;

pub const SGD: &str = "[optimizer.steps]\ntype = \"sgd\"\nmodel = \"model.net\"\nlr = 0.01\nmomentum = 0.9\n";
pub const ADAM: &str = "[optimizer.steps]\ntype = \"adam\"\nmodel = \"model.net\"\nlr = 0.01\n";
pub const ADAMW: &str = "[optimizer.steps]\ntype = \"adamw\"\nmodel = \"model.net\"\nlr = 0.01\nweight_decay = 0.1\n";

pub const RATE: (&str, &str) = ("lr = 0.01", "lr = 0.004");
pub const PICTURES: &[&str] = &["--images", "sets/*/*.png"];

/// A folder with the images of all cases.
fn world() -> Pipe {
    pipe_stand_in::open().expect("before the first tensor");
    let pipe = Pipe::new();
    let save = |file: &str, tensor: &Tensor| {
        let path = pipe.path(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, pipe_native::image::encode_png(tensor, 1).expect("an image")).expect("a file");
    };
    for number in 0..9 {
        let pixels = (Tensor::arange(3 * 144, (Kind::Float, Device::Cpu)) * (0.05 + 0.1 * f64::from(number))).sin();
        let image = (pixels * 127.0 + 128.0).to_kind(Kind::Uint8).reshape([3, 12, 12]);
        let class = ["ant", "bee", "cow"][number as usize % 3];
        save(&format!("sets/{class}/{number}.png"), &image);
        save(&format!("plain/{number}.png"), &image);
        save(&format!("masks/{number}.png"), &image.narrow(0, 0, 1).floor_divide_scalar(86).to_kind(Kind::Uint8));
    }
    pipe
}

fn shapes() -> String {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stand-in-shapes");
    let spec = ShapesSpec { train: 8, val: 2, size: (64, 64), ..ShapesSpec::default() };
    write_shapes(&root, &spec).expect("shapes");
    write_shape_keypoints(&root, &spec).expect("keypoints");
    root.display().to_string()
}

/// The program on a device.
fn pipe_on(device: &str, mut command: Command) -> Said {
    if device == "auto" {
        command.env("LD_PRELOAD", library());
    }
    let said = Said::of(command.args(["--device", device]));
    assert_eq!(said.status, Some(0), "{device}: {}", said.stderr);
    said
}

/// Numbers that a run has recorded: tag, step, value.
fn numbers(pipe: &Pipe, run: &str) -> Vec<(String, u64, f64)> {
    // Not how busy the machine is.
    let of_training = |r: &serde_json::Value| r["node"] != "handler.system" && r["node"] != "handler.profiler";
    let scalars = pipe.scalars(run).into_iter().filter(of_training);
    let number = |value: &serde_json::Value| value.as_f64().unwrap_or(f64::NAN);
    scalars.map(|r| (r["tag"].as_str().unwrap().to_owned(), r["step"].as_u64().unwrap(), number(&r["value"]))).collect()
}

fn is_close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(1.0)
}

#[track_caller]
fn same_numbers(pipe: &Pipe, runs: [&str; 2], tolerance: Tolerance) {
    let [there, here] = runs.map(|run| numbers(pipe, run));
    assert!(there.len() == here.len() && here.len() > 4, "{runs:?}: {there:?} {here:?}");
    for (a, b) in there.iter().zip(&here) {
        let tolerance = if b.1 == 1 { tolerance.first } else { tolerance.later };
        assert!((&a.0, a.1) == (&b.0, b.1) && is_close(a.2, b.2, tolerance), "{runs:?}: {a:?} {b:?}");
    }
}

/// The raw outputs that `pipe predict` wrote.
fn outputs(folder: &Path) -> BTreeMap<String, Tensor> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("raw outputs") {
        let path = entry.expect("an entry").path();
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        for (name, tensor) in pipe_vision::weights::read(&path).expect("tensors").tensors {
            all.insert(format!("{file} {name}"), tensor);
        }
    }
    all
}

fn same_outputs(there: &BTreeMap<String, Tensor>, here: &BTreeMap<String, Tensor>, tolerance: f64) {
    assert!(!here.is_empty() && there.keys().eq(here.keys()), "{:?} {:?}", there.keys(), here.keys());
    for (name, here) in here {
        let there = &there[name];
        assert_eq!(there.size(), here.size(), "{name}");
        // Of the largest number: boxes are in pixels.
        let of = |tensor: &Tensor| tensor.to_kind(Kind::Double).abs();
        let largest = if here.numel() == 0 { 0.0 } else { of(here).max().double_value(&[]) };
        let difference = if here.numel() == 0 { 0.0 } else { of(&(there - here)).max().double_value(&[]) };
        assert!(difference <= tolerance * largest.max(1.0), "{name}: {difference} of {largest}");
    }
}

impl Case {
    fn text(&self, epochs: &str) -> String {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/script").display().to_string();
        let text = format!("{FRAME}{}", self.nodes)
            .replace("EPOCHS", epochs)
            .replace("PRECISION", self.precision)
            // Otherwise the CPU alone computes with channels last.
            .replace("EXACT", if self.tolerance.first == 0.0 { "true" } else { "false" })
            .replace("SCRIPTS", &scripts);
        // A detector has no losses in evaluation.
        let losses = "[\"metric.measure\", \"metric.loss\"]\n\n[metric.loss]\ntype = \"loss\"";
        match text.contains("SHAPES") {
            true => text.replace("SHAPES", &shapes()).replace("METRICS", "[\"metric.measure\"]"),
            false => text.replace("METRICS", losses),
        }
    }

    /// By the program: training with evaluations and checkpoints, a resume, predictions.
    fn check_the_program(&self, pipe: &Pipe) {
        for (device, run) in [("auto", "there"), ("cpu", "here")] {
            pipe.write("case.toml", &self.text("1"));
            pipe_on(device, pipe.command(&["run", "case.toml", "--out", run, "--quiet"]));
            let on = pipe.json(&format!("{run}/run.json"))["device"].as_str().expect("a device").to_owned();
            assert!(on.starts_with(if run == "there" { "mps" } else { "cpu" }), "{on}");
            pipe.write("case.toml", &self.text("2"));
            pipe_on(device, pipe.command(&["run", "case.toml", "--resume", run, "--quiet"]));
        }
        same_numbers(pipe, ["there", "here"], self.tolerance);
        if self.predict.is_empty() {
            return;
        }
        // Of the same weights.
        let [there, here] = ["auto", "cpu"].map(|device| {
            let (out, raw) = (format!("{device}.out"), format!("{device}.raw"));
            let arguments = [&["predict", "here", "--out", &out, "--raw", &raw], self.predict].concat();
            pipe_on(device, pipe.command(&arguments));
            outputs(&pipe.path(&raw))
        });
        // Ten times, as what is small is a difference of what is large.
        same_outputs(&there, &here, 10.0 * self.tolerance.first);
    }

    /// In this process, so that the edit comes after the same step on both devices.
    fn check_an_edit(&self, pipe: &Pipe) {
        let _alone = alone();
        device();
        let text = self.text("2");
        let mut edited = text.clone();
        for (from, to) in self.edits {
            assert_eq!(edited.matches(from).count(), 1, "`{from}` in {edited}");
            edited = edited.replace(from, to);
        }
        for (device, run) in [("auto", "edited there"), ("cpu", "edited here")] {
            train(pipe.folder(), &text, device, run, Some((1, &edited)));
            let index = pipe.read(&format!("{run}/pipelines/index.jsonl"));
            assert!(index.contains("\"applied\""), "{index}");
        }
        same_numbers(pipe, ["edited there", "edited here"], self.tolerance);
    }

    /// Checks all of it; the folder with the runs `there` and `here`.
    pub fn check(&self) -> Pipe {
        let pipe = world();
        self.check_the_program(&pipe);
        if !self.edits.is_empty() {
            self.check_an_edit(&pipe);
        }
        pipe
    }
}

/// A case whose numbers are the CPU's bit for bit.
pub fn exact(nodes: &[&str], edits: &'static [(&'static str, &'static str)], predict: &'static [&'static str]) -> Case {
    Case { nodes: nodes.concat(), edits, tolerance: Tolerance { first: 0.0, later: 0.0 }, predict, precision: "fp32" }
}
