//! What stands around a model: every metric and every handler that looks at tensors, and the precisions.

use crate::case::{Case, DETECTOR, GREY, SGD, SHAPES, Tolerance, exact};

/// Handlers that look at the trainer's weights, gradients and time.
const HANDLERS: &str = r#"
[handler.profiler]
type = "profiler"
synchronize = true

[handler.system]
type = "system_stats"

[handler.weights]
type = "weights_histogram"
model = "model.net"

[handler.gradients]
type = "gradients_histogram"
model = "model.net"

[handler.settings]
type = "optimizer_settings"
optimizer = "optimizer.steps"

[handler.nan]
type = "terminate_on_nan"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.nan", "handler.system", "handler.weights", "handler.gradients", "handler.settings"]

[[on]]
event = "engine.trainer:completed"
run = ["handler.profiler"]
"#;

#[test]
fn around_a_classifier() {
    let nodes = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 144, out_features = 3 }]

[handler.samples]
type = "sample_images"
dataset = "dataset.train"
max_images = 2

[metric.top]
type = "top_k_accuracy"
k = [1, 2]

[metric.precision]
type = "precision"

[metric.recall]
type = "recall"

[metric.f_beta]
type = "f_beta"

[metric.confusion]
type = "confusion_matrix"

[metric.auc]
type = "roc_auc"

[metric.ap]
type = "average_precision"

[engine.more]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = [
  "metric.top", "metric.precision", "metric.recall", "metric.f_beta", "metric.confusion", "metric.auc", "metric.ap",
]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.more"]

[[on]]
event = "engine.more:iteration_completed"
once = 1
run = ["handler.samples"]
"#;
    let pipe = exact(&[GREY, nodes, SGD, HANDLERS], &[], &[]).check();
    let records = |run| pipe.records(run).into_iter().map(|r| r["tag"].as_str().unwrap_or_default().to_owned());
    for tag in ["allocated_mib", "peak_mib", "reserved_mib", "memory_percent"].map(|name| format!("system/gpu_{name}"))
    {
        assert!(records("there").any(|t| t == tag) && !records("here").any(|t| t == tag), "{tag}");
    }
}

#[test]
fn around_a_detector() {
    let nodes = r#"
[model.net]
type = "mask_rcnn"
backbone = "resnet18"
num_classes = "dataset.train:num_classes"
min_size = 64
max_size = 64
returned_layers = [3]
out_channels = 64
anchor_sizes = [[32], [64]]
rpn_post_nms_top_n_train = 64
rpn_post_nms_top_n_test = 16
box_batch_size_per_image = 32
box_representation_size = 8
mask_layers = [8]
mask_hidden = 8

[metric.boundary]
type = "boundary_iou"

[transform.paste]
type = "copy_paste"

[handler.debug]
type = "debug_images"
dataset = "dataset.train"
threshold = 0.0
max_images = 2

[engine.more]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = ["metric.boundary"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.more"]

[[on]]
event = "engine.more:iteration_completed"
once = 1
run = ["handler.debug"]
"#;
    let nodes = [SHAPES, nodes, &SGD.replace("lr = 0.01", "lr = 0.0001"), HANDLERS].concat();
    Case { nodes, edits: &[], tolerance: DETECTOR, predict: &[], precision: "fp32" }.check();
}

/// A network whose numbers are computed in half the bits. Which operators are, autocast says of each device by a list of its own, so
/// these numbers differ more.
fn in_halves(precision: &'static str) {
    let nodes = r#"
[model.net]
type = "sequential"
layers = [
  { type = "conv2d", in_channels = 1, out_channels = 6, kernel_size = 3 },
  { type = "batch_norm2d", num_features = 6 },
  { type = "relu" },
  { type = "global_average_pool" },
  { type = "linear", in_features = 6, out_features = 3 },
]
"#;
    let mut case = exact(&[GREY, nodes, SGD], &[], &[]);
    case.precision = precision;
    case.tolerance = Tolerance { first: 1e-3, later: 0.02 };
    case.check();
}

#[test]
fn bf16() {
    in_halves("bf16");
}

#[test]
fn fp16() {
    in_halves("fp16");
}
