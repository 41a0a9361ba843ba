//! `cargo xtask soak export`: trains each detector that can be exported for some steps, exports it as ONNX, and compares what is found.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::target;
use crate::setup::{Options, setup};
use crate::shell::{cargo, must, step};

/// Name, and the options of the model.
const MODELS: [(&str, &str); 8] = [
    (
        "mask_rcnn",
        "type = \"mask_rcnn\"\nbackbone = \"resnet18\"\nreturned_layers = [2, 3]\nanchor_sizes = [[24], [48], [96]]",
    ),
    ("mask_rcnn_v2", "type = \"mask_rcnn\"\nversion = \"v2\"\nbackbone = \"resnet18\"\nbox_batch_size_per_image = 64"),
    ("faster_rcnn", "type = \"faster_rcnn\"\nbackbone = \"resnet18\"\nnorm = \"frozen\""),
    (
        "faster_rcnn_mobilenet",
        "type = \"faster_rcnn\"\nbackbone = \"mobilenet_v3_large\"\nbox_batch_size_per_image = 64\nrpn_score_thresh = 0.0\n\
         box_score_thresh = 0.01",
    ),
    (
        "keypoint_rcnn",
        "type = \"keypoint_rcnn\"\nbackbone = \"resnet18\"\nnum_keypoints = \"dataset.train:num_keypoints\"\n\
         keypoint_layers = [128, 128]\nbox_batch_size_per_image = 64",
    ),
    ("retinanet", "type = \"retinanet\"\nbackbone = \"resnet18\""),
    ("retinanet_v2", "type = \"retinanet\"\nversion = \"v2\"\nbackbone = \"resnet18\""),
    ("ssd", "type = \"ssd\""),
];

/// Options of every R-CNN and RetinaNet: small images, and detections after few steps.
const SMALL: &str = "min_size = 160\nmax_size = 240\n";

const PIPELINE: &str = r#"
[pipeline]
name = "export"
device = "cpu"
seed = 5
[dataset.train]
type = "coco"
root = "builtin:shapes"
keypoints = true
empty = "drop"
limit = 80
[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 4
shuffle = true
workers = 1
[optimizer.adam]
type = "adamw"
model = "model.net"
lr = 0.0005
[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.adam"
loader = "loader.train"
max_iterations = 60
clip_grad_norm = 5.0
[handler.checkpoint]
type = "checkpoint"
[[on]]
event = "engine.trainer:completed"
run = ["handler.checkpoint"]
[model.net]
num_classes = "dataset.train:num_classes"
"#;

/// Builds the program, trains, exports, compares.
pub(crate) fn export(root: &Path, arguments: &[String]) -> Result<()> {
    let [flag, python, only @ ..] = arguments else { bail!("`soak export` takes --python EXE, and names of models") };
    if flag != "--python" {
        bail!("--python EXE: a Python with torch 2.11, torchvision, onnx, onnxscript, onnxruntime and safetensors");
    }
    let libtorch = setup(root, &Options::default())?;
    must(cargo(root, &libtorch).args(["build", "--release", "--bin", "pipe"]))?;
    let pipe = target(root)?.join("release/pipe");
    let folder = target(root)?.join("export");
    for (name, model) in MODELS.iter().filter(|(name, _)| only.is_empty() || only.iter().any(|one| one == name)) {
        step(name);
        let run = folder.join(name);
        let _ = fs::remove_dir_all(&run);
        fs::create_dir_all(&run).with_context(|| run.display().to_string())?;
        let small = if *name == "ssd" { "" } else { SMALL };
        fs::write(run.join("export.toml"), format!("{PIPELINE}{model}\n{small}"))?;
        let cache = folder.join("cache");
        let mut training = Command::new(&pipe);
        training.env("PIPE_CACHE", &cache).arg("run").arg(run.join("export.toml"));
        must(training.arg("--out").arg(run.join("run")).arg("--quiet"))?;
        let weights = newest(&run.join("run/checkpoints"))?.join("model.net.safetensors");
        let mut script = Command::new(python);
        script.current_dir(root).args(["-W", "ignore", "scripts/export_onnx.py"]).arg(run.join("run"));
        script.arg("--out").arg(run.join("net.onnx")).arg("--weights").arg(weights).arg("--pipe").arg(&pipe);
        must(script.arg("--check").arg(cache.join("shapes/val2017")))?;
    }
    Ok(())
}

fn newest(checkpoints: &Path) -> Result<std::path::PathBuf> {
    let entries = fs::read_dir(checkpoints).with_context(|| checkpoints.display().to_string())?;
    let folders = entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.max().with_context(|| format!("{} has no checkpoint", checkpoints.display()))
}
