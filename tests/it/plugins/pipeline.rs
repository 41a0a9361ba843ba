//! Whole pipelines of a plugin's components, through the program.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use super::library;

const PIPELINE: &str = r#"
[pipeline]
name = "plugged"
device = "cpu"
seed = 3

[plugins]
paths = ["LIBRARY"]

[dataset.ramp]
type = "test_ramp"
count = 24

[dataset.more]
type = "test_repeat"
dataset = "dataset.ramp"
times = 2

[transform.bright]
type = "compose"
steps = [{ type = "test_brighten", by = 10, jitter = 3 }, { type = "test_brighten" }]

[loader.train]
type = "batch"
dataset = "dataset.more"
transform = "transform.bright"
batch_size = 8
shuffle = true
workers = 2

[loader.val]
type = "batch"
dataset = "dataset.more"
batch_size = 16

[model.line]
type = "test_line"
inputs = 4
classes = "dataset.ramp:num_classes"

[optimizer.plain]
type = "test_plain"
model = "model.line"
lr = 0.8

[scheduler.harmonic]
type = "test_harmonic"
optimizer = "optimizer.plain"

[engine.trainer]
type = "train"
model = "model.line"
optimizer = "optimizer.plain"
loader = "loader.train"
max_epochs = 9
log_interval = 1

[metric.error]
type = "test_error"

[engine.evaluator]
type = "evaluate"
model = "model.line"
loader = "loader.val"
metrics = ["metric.error"]

[handler.counter]
type = "test_counter"
enough = 4

[handler.checkpoint]
type = "checkpoint"
keep_last = 1

[sink.lines]
type = "test_lines"
file = "lines.txt"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.harmonic", "engine.evaluator", "handler.checkpoint"]

[[on]]
event = "engine.trainer:iteration_completed"
every = 6
run = ["handler.counter"]
"#;

fn pipe(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipe"));
    command.args(arguments).current_dir(folder).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The pipeline in a folder of its own, its library in another one that only its text names.
fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let libraries = folder.path().join("libraries");
    std::fs::create_dir(&libraries).unwrap();
    std::fs::copy(library("pipe_test_plugin"), libraries.join("libtest.so")).unwrap();
    std::fs::create_dir(folder.path().join("pipelines")).unwrap();
    let text = text.replace("LIBRARY", "../libraries/libtest.so");
    std::fs::write(folder.path().join("pipelines/plugged.toml"), text).unwrap();
    folder
}

#[test]
fn every_kind_of_a_loaded_plugin_takes_part_in_a_run() {
    let folder = folder(PIPELINE);
    let output = pipe(folder.path(), &["run", "pipelines/plugged.toml", "--out", "run", "--quiet"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let records = std::fs::read_to_string(folder.path().join("run/records.jsonl")).unwrap();
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |tag: &str| records.iter().filter(|r| r["tag"] == tag).map(|r| r["value"].clone()).collect::<Vec<_>>();
    // Four calls, six iterations apart, then the handler ended the run.
    assert_eq!(of("calls"), [1.0, 2.0, 3.0, 4.0].map(Value::from));
    assert_eq!(of("val/error/seen")[0]["count"], 1, "a metric's further records");
    let seen = of("seen")[0].as_str().unwrap().to_owned();
    assert!(seen.starts_with("engine.trainer iteration_completed: 8 samples, loss "), "{seen}");
    let rates: Vec<f64> = of("train/lr").iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!([rates[0], rates[6], rates[12], rates[18]], [0.8, 0.4, 0.8 / 3.0, 0.2]);
    let losses: Vec<f64> = of("train/cross_entropy").iter().map(|v| v.as_f64().unwrap()).collect();
    assert_eq!(losses.len(), 24);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&losses[18..]) < mean(&losses[..6]), "{losses:?}");
    // The handler ended the run in the last iteration of the fourth epoch, which is then not completed.
    assert_eq!(of("val/error").len(), 3, "one an epoch, of nine that were planned");
    let lines = std::fs::read_to_string(folder.path().join("pipelines/lines.txt")).unwrap();
    assert!(lines.contains("train/cross_entropy scalar\n") && lines.contains("seen text\n"), "{lines}");
    assert!(lines.ends_with("done\n"), "{lines}");
    let info: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("run/run.json")).unwrap()).unwrap();
    let plugin = &info["versions"]["plugins"]["pipe-test-plugin"];
    assert_eq!(plugin["version"], "0.1.0");
    assert!(plugin["library"].as_str().unwrap().ends_with("libraries/libtest.so"), "{plugin}");
}

#[test]
fn a_run_with_a_plugin_goes_on_from_its_checkpoint() {
    let folder = folder(&PIPELINE.replace("enough = 4", "enough = 100"));
    let run = |arguments: &[&str]| {
        let output = pipe(folder.path(), &[&["run", "pipelines/plugged.toml", "--quiet"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&["--out", "whole", "--set", "engine.trainer.max_epochs=4"]);
    run(&["--out", "half", "--set", "engine.trainer.max_epochs=2"]);
    run(&["--out", "half", "--set", "engine.trainer.max_epochs=4", "--resume", "half"]);
    let scalars = |run: &str| -> Vec<(String, Value)> {
        let records = std::fs::read_to_string(folder.path().join(run).join("records.jsonl")).unwrap();
        let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let scalars = records.filter(|r| r["kind"] == "scalar");
        scalars.map(|r| (format!("{}@{}", r["tag"].as_str().unwrap(), r["step"]), r["value"].clone())).collect()
    };
    assert_eq!(scalars("half"), scalars("whole"));
}

#[test]
fn a_panic_in_a_worker_ends_the_run_and_not_the_program() {
    let folder = folder(PIPELINE);
    let set = "transform.bright.steps=[{ type = \"test_brighten\", fault = \"panic\" }]";
    let output = pipe(folder.path(), &["run", "pipelines/plugged.toml", "--out", "run", "--quiet", "--set", set]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("transform.bright (plugin pipe-test-plugin 0.1.0) panicked: this transform panics"),
        "{said}"
    );
}

#[test]
fn a_library_that_cannot_be_loaded_is_found_at_its_place_and_hides_nothing() {
    let broken = PIPELINE.replace("\"LIBRARY\"", "\"LIBRARY\",\n  \"nothing.so\", \"plugged.toml\"");
    let folder = folder(&broken.replace("batch_size = 8", "batch_sise = 8"));
    let output = pipe(folder.path(), &["check", "pipelines/plugged.toml", "--format", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let at = |i: usize| {
        let one = &found[i];
        (one["code"].as_str().unwrap().to_owned(), one["line"].as_u64().unwrap(), one["column"].as_u64().unwrap())
    };
    assert_eq!(at(0), ("plugin".into(), 9, 3), "{found}");
    assert_eq!(at(1), ("plugin".into(), 9, 17), "{found}");
    let said = |i: usize| found[i]["message"].as_str().unwrap().to_owned();
    assert!(said(0).contains("cannot read") && said(0).contains("pipelines/nothing.so"), "{}", said(0));
    assert!(said(1).contains("is no plugin: it is no library of this machine"), "{}", said(1));
    assert!(found.as_array().unwrap().iter().any(|one| one["code"] == "unknown-key"), "{found}");
    assert!(!found.as_array().unwrap().iter().any(|one| one["code"] == "unknown-component"), "{found}");
}

#[test]
fn the_section_is_checked() {
    let folder = folder(&PIPELINE.replace("paths = [", "path = ["));
    let output = pipe(folder.path(), &["check", "pipelines/plugged.toml"]);
    let said = text(&output.stderr);
    assert!(said.contains("did you mean `paths`?"), "{said}");
}
