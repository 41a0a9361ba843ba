//! Runs of the program on the built-in digits: the same records with any number of workers, and after a resume.

use serde_json::Value;

use super::program::Pipe;

const PIPELINE: &str = r#"
[dataset.train]
limit = 256

[transform.augment]
type = "compose"
steps = [{ type = "random_affine", degrees = 10 }, { type = "normalize", mean = [0.13], std = [0.3] }]

[loader.train]
transform = "transform.augment"
batch_size = 32
workers = 1

[loader.test]
batch_size = 64

[handler.checkpoint]
type = "checkpoint"
keep_last = 10
"#;

/// What each epoch ends with.
const DECAY: &str = r#"
[scheduler.decay]
type = "exponential"
optimizer = "optimizer.sgd"
gamma = 0.9

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.decay", "handler.checkpoint", "engine.evaluator"]
"#;

fn folder() -> Pipe {
    with("")
}

/// The pipeline with more to it.
fn with(more: &str) -> Pipe {
    Pipe::digits("tiny.toml", &format!("{PIPELINE}{DECAY}{more}"))
}

/// A run on the CPU that goes well.
#[track_caller]
fn run(pipe: &Pipe, out: &str, more: &[&str]) {
    pipe.ok(&[&["run", "tiny.toml", "--device", "cpu", "--quiet", "--out", out], more].concat());
}

/// The number of a record.
fn value(record: &Value) -> f64 {
    record["value"].as_f64().expect("a number")
}

#[test]
fn records_do_not_depend_on_the_number_of_workers() {
    let pipe = folder();
    run(&pipe, "one", &[]);
    run(&pipe, "four", &["--set", "loader.train.workers=4"]);
    let (one, four) = (pipe.scalars("one"), pipe.scalars("four"));
    assert!(one.len() > 60, "only {} records", one.len());
    assert_eq!(one, four);
}

#[test]
fn a_resumed_run_goes_on_with_the_same_numbers() {
    let pipe = folder();
    run(&pipe, "whole", &[]);
    run(&pipe, "parts", &["--set", "engine.trainer.max_epochs=2"]);
    run(&pipe, "parts", &["--resume", "parts"]);
    let (whole, parts) = (pipe.scalars("whole"), pipe.scalars("parts"));
    assert_eq!(whole, parts);
}

#[test]
fn a_finished_run_is_not_begun_again() {
    let pipe = folder();
    run(&pipe, "run", &["--set", "engine.trainer.max_epochs=1"]);
    let before = pipe.scalars("run");
    let arguments = ["run", "tiny.toml", "--device", "cpu", "--out", "run", "--resume", "run"];
    let resumed = pipe.ok(&[&arguments[..], &["--set", "engine.trainer.max_epochs=1"]].concat());
    assert!(resumed.stderr.contains("run is done, and its pipeline is the same"), "{resumed:?}");
    assert_eq!(pipe.scalars("run"), before);
    let other = pipe
        .ok(&[&arguments[..], &["--set", "engine.trainer.max_epochs=1", "--set", "optimizer.sgd.lr=0.01"]].concat());
    assert!(other.stderr.contains("had already finished"), "{other:?}");
    assert_eq!(pipe.scalars("run"), before);
}

#[test]
fn the_run_folder_holds_what_is_promised() {
    let pipe = folder();
    run(&pipe, "run", &["--set", "engine.trainer.max_epochs=1"]);
    let info = pipe.json("run/run.json");
    assert_eq!(info["status"], "done");
    assert_eq!(info["seed"], 7);
    assert!(info["values"]["metric.accuracy:accuracy"].as_f64().is_some_and(|value| value > 0.5), "{info}");
    let resolved = pipe.read("run/pipeline.toml");
    assert!(resolved.contains("max_epochs = 1"), "{resolved}");
    let checkpoint = pipe.path("run/checkpoints/step_000008");
    for file in ["model.net.safetensors", "state.safetensors", "state.json", "pipeline.toml"] {
        assert!(checkpoint.join(file).exists(), "{file} is missing");
    }
}

#[test]
fn failures_end_with_status_1_and_say_why() {
    let pipe = folder();
    let output =
        pipe.run(&["run", "tiny.toml", "--device", "cpu", "--out", "run", "--set", "dataset.train.root=nowhere"]);
    assert_eq!(output.status, Some(1));
    let text = output.stderr;
    assert!(text.contains("cannot build dataset.train") && text.contains("nowhere"), "{text}");
}

#[test]
fn a_rehearsal_runs_every_engine_once() {
    let pipe = folder();
    let text = pipe.ok(&["check", "tiny.toml", "--rehearse", "--device", "cpu"]).stdout;
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

[engine.evaluator]
model = "model.average"

[handler.profiler]
type = "profiler"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.ema"]
"#;

#[test]
fn an_average_is_evaluated_saved_and_goes_on() {
    let pipe = with(AVERAGE);
    run(&pipe, "whole", &[]);
    run(&pipe, "parts", &["--set", "engine.trainer.max_epochs=2"]);
    run(&pipe, "parts", &["--resume", "parts"]);
    assert_eq!(pipe.scalars("whole"), pipe.scalars("parts"));
    let plain = folder();
    run(&plain, "whole", &[]);
    let of = |tag: &str, mut records: Vec<Value>| {
        records.retain(|record| record["tag"].as_str().is_some_and(|own| own.contains(tag)));
        records
    };
    let losses = |records: Vec<Value>| of("loss/", records);
    assert_eq!(losses(pipe.scalars("whole")), losses(plain.scalars("whole")), "evaluating it changes no training");
    assert_ne!(pipe.scalars("whole"), plain.scalars("whole"), "but its accuracy is its own");
    assert!(pipe.path("whole/checkpoints/step_000032/model.average.safetensors").exists());

    let weights = "whole/checkpoints/step_000032";
    let evaluated = pipe.ok(&["eval", "tiny.toml", "--weights", weights, "--device", "cpu", "--format", "json"]);
    let values: Value = serde_json::from_str(&evaluated.stdout).expect("JSON");
    let last = of("accuracy", pipe.scalars("whole")).pop().expect("a record");
    assert_eq!(values["metric.accuracy:accuracy"], last["value"]);

    let records = pipe.read("whole/records.jsonl");
    let table = records.lines().find(|line| line.contains("\"handler.profiler\"")).expect("the profiler's table");
    for row in ["data wait", "forward", "backward", "optimizer step", "handler.ema on iteration_completed", "metrics"] {
        assert!(table.contains(row), "{row} is not in {table}");
    }
}

#[test]
fn properties_of_loaders_and_engines_are_read() {
    let schedulers = r#"
[scheduler.decay]
type = "one_cycle"
optimizer = "optimizer.sgd"
total_steps = "engine.trainer:iterations"

[scheduler.warmup]
type = "linear_warmup"
optimizer = "optimizer.sgd"
iterations = "loader.train:batches"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.decay", "scheduler.warmup"]
"#;
    let pipe = Pipe::digits("tiny.toml", &format!("{PIPELINE}{schedulers}"));
    run(&pipe, "run", &[]);
    let rates = pipe.scalars("run");
    let rates: Vec<f64> = rates.iter().filter(|record| record["tag"] == "train/lr").map(value).collect();
    // 256 samples in batches of 32 over 4 epochs: the warm-up ends after 8 steps, the cycle after 32 with its lowest rate.
    assert_eq!(rates.len(), 32);
    assert!(rates[0] < 0.05 / 25.0 * 0.01, "{rates:?}");
    let top = rates.iter().copied().fold(0.0, f64::max);
    assert!((top - 0.05).abs() < 1e-3 && rates[31] < 0.05 / 25.0, "{rates:?}");

    let wrong = |value: &str| {
        let set = format!("scheduler.warmup.iterations='{value}'");
        let output = pipe.run(&["check", "tiny.toml", "--set", &set]);
        assert_eq!(output.status, Some(2));
        output.stderr
    };
    assert!(wrong("loader.train:batchs").contains("did you mean `loader.train:batches`?"));
    assert!(wrong("model.net:num_classes").contains("has no property"));
    assert!(wrong("dataset.train:class_names").contains("is an array of strings"));
}

#[test]
fn with_a_json_log_every_line_is_json() {
    let pipe = folder();
    let arguments = |out| ["run", "tiny.toml", "--device", "cpu", "--out", out, "--log-format", "json"];
    let text = pipe.ok(&arguments("run")).stderr;
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    let of_kind = |kind: &str| lines.iter().filter(|line| line["fields"]["kind"] == kind).count();
    assert!(lines.iter().all(|line| line["level"].is_string() && line["timestamp"].is_string()), "{text}");
    assert!(of_kind("progress") >= 8 && of_kind("scalar") == 4 && of_kind("summary") == 1, "{text}");

    let failed = pipe.run(&[&arguments("failed")[..], &["--set", "dataset.train.root=nowhere"]].concat());
    let last: Value = serde_json::from_str(failed.stderr.lines().last().expect("a line")).expect("JSON");
    assert_eq!((failed.status, last["level"].as_str()), (Some(1), Some("ERROR")));
    let wrong = pipe.run(&[&arguments("wrong")[..], &["--set", "optimizer.sgd.lrr=1"]].concat());
    let line: Value = serde_json::from_str(wrong.stderr.lines().next().expect("a line")).expect("JSON");
    assert_eq!((wrong.status, line["fields"]["code"].as_str()), (Some(2), Some("unknown-key")));
}

#[test]
fn engines_one_after_another_share_one_time() {
    let second = r#"
[engine.trainer]
max_epochs = 2

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
    let pipe = with(second);
    run(&pipe, "whole", &[]);
    let names = pipe.names("whole/checkpoints");
    assert_eq!(names, ["step_000008", "step_000016", "step_000024", "step_000032"]);
    let steps = pipe.scalars("whole");
    let steps: Vec<u64> = steps.iter().map(|record| record["step"].as_u64().expect("a step")).collect();
    assert!(steps.is_sorted() && steps.last() == Some(&32), "{steps:?}");
    run(&pipe, "parts", &["--set", "engine.fine.max_epochs=1"]);
    run(&pipe, "parts", &["--resume", "parts"]);
    assert_eq!(pipe.scalars("whole"), pipe.scalars("parts"));
}
