//! `pipe replay`: a step of a run once more, with its images and what each of them added to the loss.

use serde_json::Value;

use super::detection_pipeline::PIPELINE;
use super::program::Pipe;

const STEPS: &str = r#"
[transform.train]
type = "compose"
steps = [
  { type = "random_affine", degrees = 10 },
  { type = "compose", steps = [{ type = "normalize", mean = [0.13], std = [0.3] }] },
]

[loader.train]
transform = "transform.train"
workers = 1

[handler.checkpoint]
type = "checkpoint"
keep_last = 10

[[on]]
event = "engine.trainer:iteration_completed"
every = 5
run = ["handler.checkpoint"]
"#;

fn replayed(pipe: &Pipe, run: &str, step: u64) -> Value {
    let said = pipe.ok(&["replay", run, "--step", &step.to_string(), "--format", "json"]);
    serde_json::from_str(&said.stdout).unwrap()
}

/// Every value is as it was recorded, and what the images add makes up the losses, which their objects make up.
#[track_caller]
fn assert_adds_up(found: &Value, images: usize) {
    let all = |key: &str| found[key].as_array().unwrap().clone();
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    assert!(all("values").iter().all(|value| value["same"] == true), "{:?}", all("values"));
    let total = number(&all("values").iter().find(|value| value["tag"] == "train/loss").unwrap()["value"]);
    let rounding: f64 = all("losses").iter().map(|loss| number(&loss["rounding"])).sum();
    assert_eq!(all("images").len(), images);
    let sum: f64 = all("images").iter().map(|image| number(&image["total"])).sum();
    assert!((sum + rounding - total).abs() < 1e-6 && rounding.abs() < 1e-5, "{sum}, {rounding}, {total}");
    for image in all("images") {
        let Some(objects) = image["objects"].as_array() else { continue };
        let sum: f64 = objects.iter().map(|object| number(&object["total"])).sum();
        assert!((sum - number(&image["total"])).abs() < 1e-9, "{image}");
    }
}

#[test]
fn a_step_is_made_again_with_its_images() {
    let pipe = Pipe::digits("steps.toml", STEPS);
    pipe.ok(&["run", "steps.toml", "--out", "run", "--quiet"]);
    let records = pipe.read("run/records.jsonl");
    // Of the first epoch, from the beginning; behind a checkpoint; the first of an epoch.
    for step in [2, 6, 9] {
        let found = replayed(&pipe, "run", step);
        assert_adds_up(&found, 16);
        assert_eq!(found["losses"][0]["name"], "cross_entropy");
    }
    assert_eq!(pipe.read("run/records.jsonl"), records, "it is recorded nowhere");
    let page = pipe.read("run/replays/step_000009.html");
    let captions = |name: &str| page.matches(&format!("<figcaption>{name}</figcaption>")).count();
    assert_eq!(["dataset.train", "random_affine", "normalize"].map(captions), [16; 3]);
    let text = pipe.ok(&["replay", "run", "--step", "7", "--page", "page.html"]).stdout;
    assert!(text.starts_with("step 7 of run, epoch 2: made again from step_000005, the last of 2 steps\n"), "{text}");
    assert!(text.contains("as recorded, to the bit") && text.contains("… and 8 more"), "{text}");
    assert!(pipe.read("page.html").starts_with("<!doctype html>"));
}

#[test]
fn losses_of_a_detector_come_from_objects_and_background() {
    let weighted = "loss_weights = { loss_mask = 2.0 }\nmax_epochs = 2";
    let pipe = Pipe::with("mask.toml", &PIPELINE.replace("max_epochs = 1", weighted));
    pipe.ok(&["run", "mask.toml", "--out", "run", "--quiet"]);
    let found = replayed(&pipe, "run", 3);
    assert_adds_up(&found, 2);
    let objects = found["images"][0]["objects"].as_array().unwrap();
    assert!(objects.iter().any(|object| object["name"] == "background" && object["object"].is_null()), "{objects:?}");
    assert!(objects.iter().any(|object| object["losses"]["loss_mask"].is_number()), "{objects:?}");
    let page = pipe.read("run/replays/step_000003.html");
    assert_eq!(page.matches("<figcaption>transform.resize</figcaption>").count(), 2);
}

#[test]
fn what_is_no_step_of_a_run_is_told() {
    let pipe = Pipe::digits("steps.toml", "");
    pipe.ok(&["run", "steps.toml", "--out", "run", "--quiet"]);
    let late = pipe.run(&["replay", "run", "--step", "1000"]);
    assert_eq!(late.status, Some(1));
    assert!(late.stderr.contains("the run ended at step 80"), "{}", late.stderr);
    let none = pipe.run(&["replay", "steps.toml", "--step", "1"]);
    assert!(none.stderr.contains("steps.toml is not the folder of a run"), "{}", none.stderr);
    pipe.write("mine.html", "my own notes");
    let taken = pipe.run(&["replay", "run", "--step", "1", "--page", "mine.html"]);
    assert!(taken.stderr.contains("mine.html exists and is no HTML page"), "{}", taken.stderr);
    assert_eq!(pipe.read("mine.html"), "my own notes");
}
