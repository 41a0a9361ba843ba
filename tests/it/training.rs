//! Runs of the program on the built-in digits: the same records with any number of workers, and after a resume.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const PIPELINE: &str = r#"
[pipeline]
name = "tiny"
seed = 7

[dataset.train]
type = "mnist"
root = "builtin:digits"
limit = 256

[transform.augment]
type = "compose"
steps = [{ type = "random_affine", degrees = 10 }, { type = "normalize", mean = [0.13], std = [0.3] }]

[loader.train]
type = "batch"
dataset = "dataset.train"
transform = "transform.augment"
batch_size = 32
shuffle = true
workers = 1

[loader.test]
type = "batch"
dataset = "dataset.train"
batch_size = 64

[model.net]
type = "sequential"
layers = [
  { type = "flatten" },
  { type = "dropout", p = 0.2 },
  { type = "linear", in_features = 784, out_features = 10 },
]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.05
momentum = 0.9

[scheduler.decay]
type = "exponential"
optimizer = "optimizer.sgd"
gamma = 0.9

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 4
log_interval = 1

[metric.accuracy]
type = "accuracy"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = ["metric.accuracy"]

[handler.checkpoint]
type = "checkpoint"
keep_last = 10

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.decay", "handler.checkpoint", "engine.evaluator"]
"#;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("tiny.toml"), PIPELINE).expect("written");
        Folder(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn pipe(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pipe"))
            .args(arguments)
            .current_dir(self.path())
            .env("PIPE_CACHE", cache())
            .env("OMP_NUM_THREADS", "2")
            .output()
            .expect("the program runs")
    }

    fn run(&self, out: &str, more: &[&str]) {
        let arguments = [&["run", "tiny.toml", "--device", "cpu", "--quiet", "--out", out], more].concat();
        let output = self.pipe(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The records of a run without their times.
    fn records(&self, out: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path().join(out).join("records.jsonl")).expect("records");
        let records = text.lines().map(|line| {
            let mut record: serde_json::Value = serde_json::from_str(line).expect("a record");
            record.as_object_mut().expect("a table").remove("time");
            record
        });
        records.filter(|record| record["kind"] == "scalar").map(|record| record.to_string()).collect()
    }
}

/// One cache of the built-in digits for all tests of this file.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

#[test]
fn records_do_not_depend_on_the_number_of_workers() {
    let folder = Folder::new();
    folder.run("one", &[]);
    folder.run("four", &["--set", "loader.train.workers=4"]);
    let (one, four) = (folder.records("one"), folder.records("four"));
    assert!(one.len() > 60, "only {} records", one.len());
    assert_eq!(one, four);
}

#[test]
fn a_resumed_run_goes_on_with_the_same_numbers() {
    let folder = Folder::new();
    folder.run("whole", &[]);
    folder.run("parts", &["--set", "engine.trainer.max_epochs=2"]);
    folder.run("parts", &["--resume", "parts"]);
    let (whole, parts) = (folder.records("whole"), folder.records("parts"));
    assert_eq!(whole, parts);
}

#[test]
fn a_finished_run_is_not_begun_again() {
    let folder = Folder::new();
    folder.run("run", &["--set", "engine.trainer.max_epochs=1"]);
    let before = folder.records("run");
    let resumed = folder.pipe(&[
        "run",
        "tiny.toml",
        "--device",
        "cpu",
        "--out",
        "run",
        "--resume",
        "run",
        "--set",
        "engine.trainer.max_epochs=1",
    ]);
    assert!(resumed.status.success());
    assert!(String::from_utf8_lossy(&resumed.stderr).contains("had already finished"), "{resumed:?}");
    assert_eq!(folder.records("run"), before);
}

#[test]
fn the_run_folder_holds_what_is_promised() {
    let folder = Folder::new();
    folder.run("run", &["--set", "engine.trainer.max_epochs=1"]);
    let run = folder.path().join("run");
    let info: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.join("run.json")).expect("run.json")).expect("JSON");
    assert_eq!(info["status"], "done");
    assert_eq!(info["seed"], 7);
    assert!(info["values"]["metric.accuracy:accuracy"].as_f64().is_some_and(|value| value > 0.5), "{info}");
    let resolved = std::fs::read_to_string(run.join("pipeline.toml")).expect("pipeline.toml");
    assert!(resolved.contains("max_epochs = 1"), "{resolved}");
    let checkpoint = run.join("checkpoints/step_000008");
    for file in ["model.net.safetensors", "state.safetensors", "state.json", "pipeline.toml"] {
        assert!(checkpoint.join(file).exists(), "{file} is missing");
    }
}

#[test]
fn failures_end_with_status_1_and_say_why() {
    let folder = Folder::new();
    let output =
        folder.pipe(&["run", "tiny.toml", "--device", "cpu", "--out", "run", "--set", "dataset.train.root=nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("cannot build dataset.train") && text.contains("nowhere"), "{text}");
}

#[test]
fn a_rehearsal_runs_every_engine_once() {
    let folder = Folder::new();
    let output = folder.pipe(&["check", "tiny.toml", "--rehearse", "--device", "cpu"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("dry run passed"), "{text}");
}

/// What is added to the pipeline for an average of its weights.
const AVERAGE: &str = r#"
[model.average]
type = "ema"
model = "model.net"

[handler.ema]
type = "ema"
model = "model.average"
momentum = 0.2

[handler.profiler]
type = "profiler"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.ema"]
"#;

#[test]
fn an_average_is_evaluated_saved_and_goes_on() {
    let folder = Folder::new();
    let pipeline = PIPELINE.replace("[handler.checkpoint]", &format!("{AVERAGE}\n[handler.checkpoint]")).replace(
        "[engine.evaluator]\ntype = \"evaluate\"\nmodel = \"model.net\"",
        "[engine.evaluator]\ntype = \"evaluate\"\nmodel = \"model.average\"",
    );
    std::fs::write(folder.path().join("tiny.toml"), pipeline).expect("written");
    folder.run("whole", &[]);
    folder.run("parts", &["--set", "engine.trainer.max_epochs=2"]);
    folder.run("parts", &["--resume", "parts"]);
    assert_eq!(folder.records("whole"), folder.records("parts"));
    let plain = Folder::new();
    plain.run("whole", &[]);
    let losses = |records: Vec<String>| records.into_iter().filter(|r| r.contains("\"train/")).collect::<Vec<_>>();
    assert_eq!(losses(folder.records("whole")), losses(plain.records("whole")), "evaluating it changes no training");
    assert_ne!(folder.records("whole"), plain.records("whole"), "but its accuracy is its own");
    assert!(folder.path().join("whole/checkpoints/step_000032/model.average.safetensors").exists());

    let weights = "whole/checkpoints/step_000032";
    let evaluated = folder.pipe(&["eval", "tiny.toml", "--weights", weights, "--device", "cpu", "--format", "json"]);
    let text = String::from_utf8_lossy(&evaluated.stdout);
    let values: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let last = folder.records("whole").into_iter().rfind(|record| record.contains("\"accuracy\"")).expect("a record");
    let last: serde_json::Value = serde_json::from_str(&last).expect("JSON");
    assert_eq!(values["metric.accuracy:accuracy"], last["value"]);

    let records = std::fs::read_to_string(folder.path().join("whole/records.jsonl")).expect("records");
    let table = records.lines().find(|line| line.contains("\"handler.profiler\"")).expect("the profiler's table");
    for row in ["data wait", "forward", "backward", "optimizer step", "handler.ema on iteration_completed", "metrics"] {
        assert!(table.contains(row), "{row} is not in {table}");
    }
}

#[test]
fn properties_of_loaders_and_engines_are_read() {
    let folder = Folder::new();
    let scheduler = r#"[scheduler.decay]
type = "one_cycle"
optimizer = "optimizer.sgd"
total_steps = "engine.trainer:iterations"

[scheduler.warmup]
type = "linear_warmup"
optimizer = "optimizer.sgd"
iterations = "loader.train:batches"
"#;
    let (before, after) = PIPELINE.split_once("[scheduler.decay]").expect("a scheduler");
    let (_, after) = after.split_once("\n\n").expect("an end");
    let step =
        "[[on]]\nevent = \"engine.trainer:iteration_completed\"\nrun = [\"scheduler.decay\", \"scheduler.warmup\"]\n";
    let after = after.replace("\"scheduler.decay\", ", "");
    std::fs::write(folder.path().join("tiny.toml"), format!("{before}{scheduler}\n{after}\n{step}")).expect("written");
    folder.run("run", &[]);
    let rates: Vec<f64> = folder
        .records("run")
        .iter()
        .map(|record| serde_json::from_str::<serde_json::Value>(record).expect("JSON"))
        .filter(|record| record["tag"] == "train/lr")
        .map(|record| record["value"].as_f64().expect("a number"))
        .collect();
    // 256 samples in batches of 32 over 4 epochs: the warm-up ends after 8 steps, the cycle after 32 with its lowest rate.
    assert_eq!(rates.len(), 32);
    assert!(rates[0] < 0.05 / 25.0 * 0.01, "{rates:?}");
    let top = rates.iter().copied().fold(0.0, f64::max);
    assert!((top - 0.05).abs() < 1e-3 && rates[31] < 0.05 / 25.0, "{rates:?}");

    let wrong = |value: &str| {
        let set = format!("scheduler.warmup.iterations='{value}'");
        let output = folder.pipe(&["check", "tiny.toml", "--set", &set]);
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(wrong("loader.train:batchs").contains("did you mean `loader.train:batches`?"));
    assert!(wrong("model.net:num_classes").contains("has no property"));
    assert!(wrong("dataset.train:class_names").contains("is an array of strings"));
}

#[test]
fn with_a_json_log_every_line_is_json() {
    let folder = Folder::new();
    let arguments = ["run", "tiny.toml", "--device", "cpu", "--out", "run", "--log-format", "json"];
    let output = folder.pipe(&arguments);
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["fields"]["kind"] == kind).count();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()), "{text}");
    assert!(of_kind("progress") >= 8 && of_kind("scalar") == 4 && of_kind("summary") == 1, "{text}");

    let failed = folder.pipe(&[&arguments[..], &["--set", "dataset.train.root=nowhere"]].concat());
    let text = String::from_utf8_lossy(&failed.stderr);
    let last: serde_json::Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((failed.status.code(), last["level"].as_str()), (Some(1), Some("ERROR")));
    let wrong = folder.pipe(&[&arguments[..], &["--set", "optimizer.sgd.lrr=1"]].concat());
    let text = String::from_utf8_lossy(&wrong.stderr);
    let line: serde_json::Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!((wrong.status.code(), line["fields"]["code"].as_str()), (Some(2), Some("unknown-key")));
}

#[test]
fn engines_one_after_another_share_one_time() {
    let folder = Folder::new();
    let second = r#"
[optimizer.fine]
type = "sgd"
model = "model.net"
lr = 0.001

[engine.fine]
type = "train"
model = "model.net"
optimizer = "optimizer.fine"
loader = "loader.train"
max_epochs = 2
log_interval = 1

[[on]]
event = "engine.fine:epoch_completed"
run = ["handler.checkpoint"]
"#;
    let pipeline = PIPELINE.replace("max_epochs = 4", "max_epochs = 2") + second;
    std::fs::write(folder.path().join("tiny.toml"), pipeline).expect("written");
    folder.run("whole", &[]);
    let mut names: Vec<String> = std::fs::read_dir(folder.path().join("whole/checkpoints"))
        .expect("checkpoints")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["step_000008", "step_000016", "step_000024", "step_000032"]);
    let steps: Vec<u64> = folder
        .records("whole")
        .iter()
        .map(|record| {
            serde_json::from_str::<serde_json::Value>(record).expect("JSON")["step"].as_u64().expect("a step")
        })
        .collect();
    assert!(steps.is_sorted() && steps.last() == Some(&32), "{steps:?}");
    folder.run("parts", &["--set", "engine.fine.max_epochs=1"]);
    folder.run("parts", &["--resume", "parts"]);
    assert_eq!(folder.records("whole"), folder.records("parts"));
}
