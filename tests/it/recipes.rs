//! What recipes are made of, together: samplers, augmentation of whole batches and of several images, losses, stages of training. The
//! numbers do not depend on the number of workers, nor on a resume.

use super::program::Pipe;

const CLASSIFIER: &str = r#"
[dataset.train]
limit = 100

[transform.train]
type = "compose"
steps = [
  { type = "trivial_augment_wide" },
  { type = "random_apply", p = 0.3, transforms = [{ type = "gaussian_blur", kernel_size = 3 }] },
  { type = "normalize", mean = [0.13], std = [0.3] },
  { type = "mixup", alpha = 0.4, num_classes = "dataset.train:num_classes" },
]

[loader.train]
transform = "transform.train"
shuffle = false
sampler = { type = "repeat_factor", threshold = 0.2 }
workers = 1

[model.net]
layers = [
  { type = "flatten" },
  { type = "linear", in_features = 784, out_features = 16 },
  { type = "relu" },
  { type = "linear", in_features = 16, out_features = 10 },
]
loss = { type = "focal", gamma = 1.5, class_weights = [1, 1, 2, 1, 1, 1, 0.5, 1, 1, 3] }

[optimizer.sgd]
weight_decay = 0.001
no_weight_decay = ["norm", "*.bias"]

[handler.unfreeze]
type = "unfreeze"
model = "model.net"
match = ["1.*"]

[handler.checkpoint]
type = "checkpoint"
keep_last = 10

[metric.training]
type = "accuracy"

[[on]]
event = "engine.trainer:epoch_started"
once = 3
run = ["handler.unfreeze"]

[[on]]
event = "engine.trainer:iteration_completed"
run = ["metric.training:update", "handler.checkpoint"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["metric.training", "metric.training:reset", "engine.evaluator"]
"#;

#[track_caller]
fn run(pipe: &Pipe, out: &str, more: &[&str]) {
    pipe.ok(&[&["run", "recipe.toml", "--device", "cpu", "--quiet", "--out", out], more].concat());
}

#[test]
fn a_recipe_for_imbalanced_images_goes_on_with_the_same_numbers() {
    let pipe = Pipe::digits("recipe.toml", CLASSIFIER);
    run(&pipe, "whole", &[]);
    let whole = pipe.scalars("whole");
    assert!(whole.iter().any(|record| record["tag"] == "train/focal"), "{:?}", whole[0]);
    run(&pipe, "four", &["--set", "loader.train.workers=4"]);
    assert_eq!(pipe.scalars("four"), whole);
    // Before and after the stage begins, in the middle of an epoch each time.
    for cut in ["12", "25"] {
        let parts = format!("parts_{cut}");
        run(&pipe, &parts, &["--set", &format!("engine.trainer.max_iterations={cut}")]);
        run(&pipe, &parts, &["--resume", &parts]);
        let values = |run: &str| -> Vec<String> {
            let kept = pipe.scalars(run).into_iter();
            let trained = kept.filter(|record| record["tag"].as_str().is_some_and(|tag| tag.starts_with("train/")));
            trained.map(|record| record.to_string()).collect()
        };
        let (whole, parts) = (values("whole"), values(&parts));
        assert!(parts.len() > 20 && whole == parts, "cut at {cut}");
    }
}

const DETECTOR: &str = r#"
[pipeline]
name = "recipe"
device = "cpu"

[dataset.train]
type = "coco"
root = "builtin:shapes"
empty = "drop"
limit = 6

# torchvision's preset for SSD, after a mosaic in the first epoch.
[transform.train]
type = "compose"
steps = [
  { type = "mosaic", size = 96, close_after = 1 },
  { type = "random_photometric_distort" },
  { type = "random_zoom_out", fill = [123, 117, 104] },
  { type = "random_iou_crop" },
  { type = "random_horizontal_flip" },
  { type = "choice", transforms = [{ type = "pad", padding = [2] }, { type = "random_rotation", degrees = [-5, 5] }] },
]

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.train"
batch_size = 2
sampler = { type = "weighted", num_samples = 4 }
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
max_epochs = 2
log_interval = 1
"#;

#[test]
fn a_recipe_for_detection_trains_alike_with_any_number_of_workers() {
    let pipe = Pipe::with("recipe.toml", DETECTOR);
    run(&pipe, "one", &[]);
    run(&pipe, "two", &["--set", "loader.train.workers=2"]);
    let one = pipe.scalars("one");
    assert!(one.len() > 8, "{one:?}");
    assert_eq!(pipe.scalars("two"), one);
}

#[test]
fn a_sampler_takes_the_place_of_shuffle() {
    let text = DETECTOR.replace("workers = 0", "workers = 0\nshuffle = true");
    let said = Pipe::with("recipe.toml", &text).run(&["check", "recipe.toml"]);
    assert_eq!(said.status, Some(2));
    assert!(said.stderr.contains("a sampler already gives every epoch a random order"), "{}", said.stderr);
}
