//! Every model and every loss trains, evaluates, goes on from a checkpoint, is edited while it trains and predicts on an
//! accelerator, and its numbers are those of the CPU. A tensor on the wrong device is an error there, so nothing mixes devices.
//!
//! The numbers are equal bit for bit, after a resume and an edit too, but for those of detectors: see `DETECTOR`.

use pipe_core::Kind;

use crate::case::{ADAM, ADAMW, Case, DETECTOR, GREY, NUMBERS, PICTURES, RATE, SGD, SHAPES, exact};

#[test]
fn sequential_with_every_layer() {
    let layers = r#"
[model.net]
type = "sequential"
layers = [
  { type = "conv2d", in_channels = 1, out_channels = 6, kernel_size = 3, padding = 1 },
  { type = "batch_norm2d", num_features = 6 },
  { type = "relu" },
  { type = "max_pool2d", kernel_size = 2 },
  { type = "conv2d", in_channels = 6, out_channels = 8, kernel_size = 3, padding = 1 },
  { type = "gelu" },
  { type = "avg_pool2d", kernel_size = 2 },
  { type = "dropout", p = 0.25 },
  { type = "global_average_pool" },
  { type = "flatten" },
  { type = "linear", in_features = 8, out_features = 3 },
]
loss = { type = "cross_entropy", label_smoothing = 0.1, class_weights = [1, 2, 0.5] }
"#;
    exact(&[GREY, layers, SGD], &[RATE, ("label_smoothing = 0.1", "label_smoothing = 0.2")], PICTURES).check();
}

#[test]
fn mean_squared_error() {
    exact(&[NUMBERS, "loss = { type = \"mse\", target = \"label\" }\n", ADAM], &[RATE, ("\"mse\"", "\"l1\"")], &[])
        .check();
}

#[test]
fn mean_absolute_error() {
    exact(&[NUMBERS, "loss = { type = \"l1\", target = \"label\" }\n", ADAMW], &[RATE, ("\"l1\"", "\"mse\"")], &[])
        .check();
}

#[test]
fn smooth_l1() {
    let loss = "loss = { type = \"smooth_l1\", target = \"label\", beta = 0.5 }\n";
    exact(&[NUMBERS, loss, SGD], &[RATE, ("beta = 0.5", "beta = 0.25")], &[]).check();
}

#[test]
fn resnet_and_its_average() {
    let nodes = r#"
[model.net]
type = "resnet"
num_classes = 3
loss = { type = "focal", gamma = 1.5, class_weights = [1, 2, 0.5] }

[model.average]
type = "ema"
model = "model.net"

[handler.ema]
type = "ema"
model = "model.average"
momentum = 0.1

[engine.average]
type = "evaluate"
model = "model.average"
loader = "loader.test"
metrics = ["metric.average"]
tags = [{ value = "metric.average:loss", tag = "average/loss" }]

[metric.average]
type = "loss"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.ema"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.average"]
"#;
    let grey = GREY.replace("{ type = \"grayscale\" }", "{ type = \"grayscale\", channels = 3 }");
    let edits = &[RATE, ("gamma = 1.5", "gamma = 2.0"), ("momentum = 0.1", "momentum = 0.2")];
    exact(&[&grey, nodes, ADAMW], edits, PICTURES).check();
}

#[test]
fn torchscript_classification() {
    let nodes = "[model.net]\ntype = \"torchscript\"\nfile = \"SCRIPTS/net.pt\"\nloss = { type = \"cross_entropy\", \
                 label_smoothing = 0.1 }\n";
    exact(&[GREY, nodes, SGD], &[RATE, ("label_smoothing = 0.1", "label_smoothing = 0.2")], PICTURES).check();
}

#[test]
fn torchscript_segmentation() {
    let nodes = r#"
[dataset.train]
type = "segmentation"
images = "plain"
masks = "masks"
class_names = ["dark", "grey", "bright"]

[transform.all]
type = "compose"
steps = [{ type = "grayscale" }, { type = "normalize", mean = [0.4], std = [0.3] }]

[metric.measure]
type = "mean_iou"

[model.net]
type = "torchscript"
file = "SCRIPTS/segment.pt"
task = "segmentation"
logits = "out"
loss = { type = "cross_entropy", label_smoothing = 0.1, class_weights = [1, 2, 0.5] }
"#;
    let edits = &[RATE, ("label_smoothing = 0.1", "label_smoothing = 0.2")];
    exact(&[nodes, ADAM], edits, &["--images", "plain"]).check();
}

/// A classifier of torchvision's, of images of 32 × 32.
fn classifier(model: &str, arch: &str) {
    let grey = GREY.replace(
        "{ type = \"grayscale\" }",
        "{ type = \"grayscale\", channels = 3 }, { type = \"resize\", size = 32 }",
    );
    let nodes = format!("[model.net]\ntype = \"{model}\"\narch = \"{arch}\"\nnum_classes = 3\n");
    exact(&[&grey, &nodes, SGD], &[RATE], PICTURES).check();
}

#[test]
#[ignore = "a gigabyte a checkpoint: minutes on a slow disk"]
fn vgg() {
    classifier("vgg", "vgg11_bn");
}

#[test]
fn mobilenet_v3() {
    classifier("mobilenet_v3", "mobilenet_v3_small");
}

/// A network for masks on a small backbone.
fn segmentation(model: &str) {
    let nodes = format!(
        r#"
[dataset.train]
type = "segmentation"
images = "plain"
masks = "masks"
class_names = ["dark", "grey", "bright"]

[transform.all]
type = "normalize"
mean = [0.4]
std = [0.3]

[metric.measure]
type = "mean_iou"

[model.net]
type = "{model}"
backbone = "resnet18"
out_layer = 2
aux_loss = true
num_classes = "dataset.train:num_classes"
"#
    );
    exact(&[&nodes, SGD], &[RATE], &["--images", "plain"]).check();
}

#[test]
#[ignore = "deeplabv3 but for its head: for time"]
fn fcn() {
    segmentation("fcn");
}

#[test]
fn deeplabv3() {
    segmentation("deeplabv3");
}

#[test]
fn torchscript_with_losses_of_its_own() {
    let nodes = "[model.net]\ntype = \"torchscript\"\nfile = \"SCRIPTS/own.pt\"\ntask = \"own\"\n\
                 inputs = [\"image\", \"label\"]\noutputs = [\"logits\"]\n";
    let grey = GREY.replace("{ type = \"grayscale\" }", "{ type = \"grayscale\" }, { type = \"resize\", size = 2 }");
    exact(&[&grey, nodes, SGD], &[RATE, ("outputs = [\"logits\"]", "outputs = [\"logits\"] # again")], &[]).check();
}

/// An R-CNN on images of 64 × 64.
fn rcnn(model: &str, more: &str) -> Case {
    let nodes = format!(
        r#"
backbone = "resnet18"
min_size = 64
max_size = 64
returned_layers = [2, 3]
out_channels = 64
anchor_sizes = [[16], [32], [64]]
rpn_nms_thresh = 0.7
rpn_post_nms_top_n_train = 64
rpn_post_nms_top_n_test = 32
box_batch_size_per_image = 32
{more}
"#
    );
    let edits = &[("lr = 0.0001", "lr = 0.00005"), ("rpn_nms_thresh = 0.7", "rpn_nms_thresh = 0.6")];
    detector(model, &nodes, edits)
}

/// A detector with these options.
fn detector(model: &str, options: &str, edits: &'static [(&'static str, &'static str)]) -> Case {
    let nodes = format!("[model.net]\ntype = \"{model}\"\nnum_classes = \"dataset.train:num_classes\"\n{options}\n");
    // Small steps, lest a difference in the last bit grow.
    let nodes = [SHAPES, &nodes, &SGD.replace("lr = 0.01", "lr = 0.0001")].concat();
    let images = &["--images", "sets/ant/0.png", "--threshold", "0.0"];
    Case { nodes, edits, tolerance: DETECTOR, predict: images, precision: "fp32" }
}

#[test]
fn mask_rcnn() {
    rcnn("mask_rcnn", "box_representation_size = 32\nmask_layers = [8]\nmask_hidden = 8").check();
}

#[test]
#[ignore = "mask_rcnn but for norms and a deeper head: for time"]
fn mask_rcnn_v2() {
    rcnn("mask_rcnn", "version = \"v2\"\nmask_layers = [8]\nmask_hidden = 8").check();
}

#[test]
#[ignore = "a part of mask_rcnn: for time"]
fn faster_rcnn() {
    rcnn("faster_rcnn", "box_representation_size = 32").check();
}

#[test]
fn keypoint_rcnn() {
    let options =
        "num_keypoints = \"dataset.train:num_keypoints\"\nbox_representation_size = 32\nkeypoint_layers = [8]";
    let case = rcnn("keypoint_rcnn", options);
    let nodes = case
        .nodes
        .replace("empty = \"drop\"\n", "empty = \"drop\"\nmasks = false\nkeypoints = true\n")
        .replace("type = \"coco_ap\"\n", "type = \"coco_ap\"\niou_types = [\"bbox\", \"keypoints\"]\n");
    Case { nodes, ..case }.check();
}

/// A detector of one stage on images of 64 × 64.
fn one_stage(model: &str, options: &str) {
    let edits = &[("lr = 0.0001", "lr = 0.00005"), ("nms_thresh = 0.5", "nms_thresh = 0.4")];
    let case = detector(model, &format!("nms_thresh = 0.5\ndetections_per_img = 20\n{options}"), edits);
    // Scores of an SSDlite that has learnt nothing are nearly equal: which is better, a last bit decides.
    let predict = if model == "ssdlite" { &[] } else { case.predict };
    Case { predict, ..case }.check();
}

const PYRAMID: &str =
    "backbone = \"resnet18\"\nmin_size = 64\nmax_size = 64\nreturned_layers = [2, 3]\nout_channels = 64\n";

#[test]
#[ignore = "retinanet_v2 but for norms: for time"]
fn retinanet() {
    one_stage("retinanet", &format!("{PYRAMID}anchor_sizes = [[16], [24], [32], [64]]"));
}

#[test]
fn retinanet_v2() {
    one_stage("retinanet", &format!("{PYRAMID}anchor_sizes = [[16], [24], [32], [64]]\nversion = \"v2\""));
}

#[test]
fn fcos() {
    one_stage("fcos", PYRAMID);
}

#[test]
fn ssd() {
    one_stage("ssd", "backbone = \"resnet18\"\nsize = 64");
}

#[test]
#[ignore = "ssd on the network of mobilenet_v3: for time"]
fn ssdlite() {
    one_stage("ssdlite", "size = 96");
}

#[test]
fn none_is_left_out() {
    let catalog = pipe_run::plugins::catalog();
    let tested = [include_str!("models.rs"), include_str!("nodes.rs"), include_str!("case.rs")].concat();
    let is_tested = |name: &str| tested.contains(&format!("\"{name}\"")) || tested.contains(&format!("\\\"{name}\\\""));
    for model in catalog.of_kind(Kind::Model) {
        assert!(is_tested(model.name), "model.{}", model.name);
    }
    // Those that look at numbers alone.
    let numbers = ["expression", "mean", "running_average"];
    for metric in catalog.of_kind(Kind::Metric).filter(|metric| !numbers.contains(&metric.name)) {
        assert!(is_tested(metric.name), "metric.{}", metric.name);
    }
    let sequential = catalog.get(Kind::Model, "sequential").expect("a model");
    let losses = sequential.schema()["properties"]["loss"]["oneOf"].as_array().expect("losses");
    assert!(losses.len() >= 4);
    for loss in losses {
        let name = loss["properties"]["type"]["const"].as_str().expect("a name");
        assert!(is_tested(name), "the loss {name}");
    }
}
