//! What would stop a GPU in a training step: waits of the host, and uploads from pageable memory.

use std::fmt::Write;

use pipe_stand_in::{Count, Kind};

use crate::device::device;
use crate::program::alone;
use crate::run::train;

/// A detector on small images.
const PIPELINE: &str = r#"
[pipeline]
name = "traffic"
# Nobody looks at what it does, and each wait that is counted costs the reading of a backtrace.
preflight = false

[dataset.train]
type = "coco"
root = "builtin:shapes"
empty = "drop"
limit = 24

[transform.resize]
type = "resize"
size = 64

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.resize"
batch_size = BATCH
workers = 0

[model.net]
num_classes = "dataset.train:num_classes"
MODEL

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.001

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_iterations = 3

[checks]
allow = ["unsaved-training", "unshuffled-training"]
"#;

const MASK_RCNN: &str = r#"
type = "mask_rcnn"
backbone = "resnet18"
min_size = 64
max_size = 64
rpn_post_nms_top_n_train = 64
box_batch_size_per_image = 32
box_representation_size = 32
mask_layers = [8]
mask_hidden = 8
"#;

const KEYPOINT_RCNN: &str = r#"
type = "keypoint_rcnn"
num_keypoints = "dataset.train:num_keypoints"
backbone = "resnet18"
min_size = 64
max_size = 64
rpn_post_nms_top_n_train = 64
box_batch_size_per_image = 32
box_representation_size = 32
keypoint_layers = [8]
"#;

/// What stops the second step, which logs nothing.
fn step(model: &str, batch: usize) -> Vec<Count> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let keypoints = if model.contains("keypoint") { "masks = false\nkeypoints = true\n" } else { "" };
    let text = PIPELINE.replace("limit = 24\n", &format!("limit = 24\n{keypoints}"));
    let text = text.replace("BATCH", &batch.to_string()).replace("MODEL", model);
    train(folder.path(), &text, "auto", "run", None).remove(1)
}

fn times(counts: &[Count], kind: Kind) -> usize {
    counts.iter().filter(|count| count.kind == kind).map(|count| count.times).sum()
}

/// A row a kind, operator and place.
fn table(small: &[Count], large: &[Count]) -> String {
    let mut rows: Vec<(Kind, &str, &str)> =
        small.iter().chain(large).map(|c| (c.kind, c.operator.as_str(), c.place.as_str())).collect();
    rows.sort();
    rows.dedup();
    let at = |counts: &[Count], row: &(Kind, &str, &str)| {
        let found = counts.iter().find(|c| (c.kind, c.operator.as_str(), c.place.as_str()) == *row);
        found.map_or(0, |count| count.times)
    };
    let mut text = String::from("| | operator | place | batch 2 | batch 8 |\n|---|---|---|---|---|\n");
    let name = |kind| if kind == Kind::Wait { "wait" } else { "pageable upload" };
    for row @ (kind, operator, place) in &rows {
        let (few, many) = (at(small, row), at(large, row));
        let _ = writeln!(text, "| {} | `{operator}` | {place} | {few} | {many} |", name(*kind));
    }
    for kind in [Kind::Wait, Kind::PageableUpload] {
        let _ = writeln!(text, "| {} | all | | {} | {} |", name(kind), times(small, kind), times(large, kind));
    }
    text
}

/// Holds a model against the most that may stop it in batches of 2 and of 8.
fn check(model: &str, most: [(Kind, usize, usize); 2]) {
    let _alone = alone();
    assert_eq!(device(), tch::Device::Mps);
    let (small, large) = (step(model, 2), step(model, 8));
    let table = table(&small, &large);
    println!("{table}");
    for (kind, few, many) in most {
        assert!(times(&small, kind) <= few && times(&large, kind) <= many, "more than before: {table}");
    }
}

#[test]
fn what_stops_a_gpu_in_a_step_of_mask_rcnn() {
    // What docs/benchmarks.md has. Less is better: lower these then.
    check(MASK_RCNN, [(Kind::Wait, 7, 7), (Kind::PageableUpload, 0, 0)]);
}

#[test]
fn what_stops_a_gpu_in_a_step_of_keypoint_rcnn() {
    check(KEYPOINT_RCNN, [(Kind::Wait, 7, 7), (Kind::PageableUpload, 0, 0)]);
}

/// The count of the foreground, and the losses.
#[test]
fn what_stops_a_gpu_in_a_step_of_one_stage() {
    for model in [
        "type = \"retinanet\"\nbackbone = \"resnet18\"\nmin_size = 64\nmax_size = 64",
        "type = \"fcos\"\nbackbone = \"resnet18\"\nmin_size = 64\nmax_size = 64",
        "type = \"ssd\"\nbackbone = \"resnet18\"\nsize = 64",
    ] {
        check(model, [(Kind::Wait, 2, 2), (Kind::PageableUpload, 0, 0)]);
    }
}
