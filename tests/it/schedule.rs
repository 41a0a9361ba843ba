//! What `pipe show --schedule` says is what a run then records; `pipe find-lr`.

use serde_json::Value;

use super::program::Pipe;

const MORE: &str = r#"
[engine.trainer]
max_epochs = 3
clip_grad_norm = 2.0

[scheduler.clipping]
type = "polynomial"
target = "engine.trainer:clip_grad_norm"
total_iters = 12

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.settings", "scheduler.warmup", "scheduler.decay", "scheduler.cycles", "scheduler.clipping"]

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:iteration_completed"
once = 6
run = ["handler.checkpoint"]

[handler.settings]
type = "optimizer_settings"
optimizer = "optimizer.sgd"

[scheduler.warmup]
type = "linear_warmup"
optimizer = "optimizer.sgd"
iterations = 5

[scheduler.decay]
type = "concatenated"
target = "optimizer.sgd:weight_decay"
durations = [3]
schedulers = [{ type = "exponential", gamma = 0.5 }, { type = "cosine", t_max = "engine.trainer:iterations" }]

[scheduler.cycles]
type = "cyclical"
target = "optimizer.sgd:momentum"
max_lr = 0.6
step_size_up = 4

[scheduler.step]
type = "step"
optimizer = "optimizer.sgd"
step_size = 1

[scheduler.plateau]
type = "plateau"
optimizer = "optimizer.sgd"
monitor = "metric.accuracy:accuracy"
mode = "max"
patience = 100

[[on]]
event = "engine.trainer:epoch_completed"
after = 1
run = ["engine.evaluator", "scheduler.plateau"]

[[on]]
event = "engine.evaluator:completed"
run = ["scheduler.step"]
"#;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|value| value.as_f64().expect("a number")).collect()
}

#[test]
fn a_schedule_is_what_the_run_records() {
    let pipe = Pipe::digits("run.toml", MORE);
    let sets = ["--set", "optimizer.sgd.weight_decay=0.01"];
    pipe.ok(&[&["run", "run.toml", "--quiet", "--out", "run"], &sets[..]].concat());
    let schedule = |more: &[&str]| -> Value {
        let said = pipe.ok(&[&["show", "run.toml", "--schedule", "--format", "json"], &sets[..], more].concat());
        serde_json::from_str(&said.stdout).expect("JSON")
    };
    let shown = schedule(&[]);
    let records = pipe.records("run");
    let recorded: Vec<&Value> = records.iter().filter(|record| record["tag"] == "train/lr").collect();
    assert_eq!(recorded.len(), 12);
    pipe.ok(&[&["run", "run.toml", "--quiet", "--out", "parts", "--resume", "run/checkpoints/step_000006"], &sets[..]]
        .concat());
    let after = |run: &str| -> Vec<Value> {
        pipe.scalars(run).into_iter().filter(|record| record["step"].as_u64() > Some(6)).collect()
    };
    assert_eq!(after("parts"), after("run"), "a resumed run goes on with the same settings");
    let of = |key: &str| recorded.iter().map(|record| record[key].as_f64().expect("a number")).collect::<Vec<_>>();
    assert_eq!(numbers(&shown["step"]), of("step"));
    assert_eq!(numbers(&shown["epoch"]), of("epoch"));
    assert_eq!(numbers(&shown["values"]["optimizer.sgd:lr"]), of("value"), "to the last bit");
    let lrs = of("value");
    assert!(lrs.windows(2).any(|pair| pair[1] > pair[0]) && lrs.windows(2).any(|pair| pair[1] < pair[0]), "{lrs:?}");
    let settings =
        ["lr", "weight_decay", "momentum"].map(|name| (format!("sgd/{name}"), format!("optimizer.sgd:{name}")));
    let clipping = ("trainer/clip_grad_norm".to_owned(), "engine.trainer:clip_grad_norm".to_owned());
    for (tag, setting) in settings.into_iter().chain([clipping]) {
        let of = records.iter().filter(|record| record["tag"] == tag);
        let of: Vec<f64> = of.map(|record| record["value"].as_f64().expect("a number")).collect();
        assert_eq!(numbers(&shown["values"][&setting]), of, "{setting}");
    }
    let clipping = numbers(&shown["values"]["engine.trainer:clip_grad_norm"]);
    assert!(clipping[0] == 2.0 && (clipping[6] - 1.0).abs() < 1e-12, "{clipping:?}");
    let decay = numbers(&shown["values"]["optimizer.sgd:weight_decay"]);
    assert_eq!(decay[..4], [0.01, 0.005, 0.0025, 0.01]);
    let momentum = numbers(&shown["values"]["optimizer.sgd:momentum"]);
    assert!((momentum[4] - 0.6).abs() < 1e-12 && (momentum[8] - 0.9).abs() < 1e-12, "{momentum:?}");
    assert!(
        shown["notes"][0].as_str().expect("a note").contains("scheduler.plateau follows a measured value"),
        "{shown}"
    );

    assert_eq!(schedule(&["--epoch-length", "4", "--set", "dataset.train.root='/nowhere'"]), shown);
    let said =
        pipe.run(&[&["show", "run.toml", "--schedule", "--set", "dataset.train.root='/nowhere'"], &sets[..]].concat());
    assert_eq!(said.status, Some(1));
    assert!(said.stderr.contains("--epoch-length N"), "{}", said.stderr);
    let said = pipe.ok(&[&["show", "run.toml", "--schedule", "--every", "5"], &sets[..]].concat());
    assert_eq!(said.stdout.lines().take_while(|line| !line.is_empty()).count(), 5, "{}", said.stdout);
}

/// The length of training may be named by a scheduler of its own.
#[test]
fn a_schedule_takes_the_length_of_training_from_the_engine() {
    let more = r#"
[scheduler.decay]
type = "polynomial"
optimizer = "optimizer.sgd"
total_iters = "engine.trainer:iterations"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.decay"]
"#;
    let pipe = Pipe::digits("run.toml", more);
    for length in [&[][..], &["--epoch-length", "4", "--set", "dataset.train.root='/nowhere'"]] {
        let said = pipe.ok(&[&["show", "run.toml", "--schedule", "--format", "json"], length].concat());
        let shown: Value = serde_json::from_str(&said.stdout).expect("JSON");
        let lrs = numbers(&shown["values"]["optimizer.sgd:lr"]);
        assert_eq!(lrs.len(), 16);
        assert!((lrs[15] - 0.05 / 16.0).abs() < 1e-12, "{lrs:?}");
    }
}

#[test]
fn a_learning_rate_is_found_and_nothing_is_left_behind() {
    let pipe = Pipe::digits("run.toml", "");
    let said = pipe.ok(&["find-lr", "run.toml", "--iterations", "30", "--format", "json"]);
    let found: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let (lrs, losses) = (numbers(&found["lr"]), numbers(&found["loss"]));
    assert_eq!(lrs.len(), losses.len());
    assert!(lrs.len() > 10 && lrs[0] == 1e-6 && lrs.is_sorted(), "{lrs:?}");
    let suggestion = found["suggestion"].as_f64().expect("a suggestion");
    assert!(lrs.contains(&suggestion) && suggestion < 10.0, "{found}");
    assert_eq!(pipe.names("."), ["digits.toml", "run.toml"]);
    let again = pipe.ok(&["find-lr", "run.toml", "--iterations", "30", "--format", "json"]);
    assert_eq!(again.stdout, said.stdout);
    assert!(
        pipe.ok(&["find-lr", "run.toml", "--iterations", "10", "--end", "1e-5"]).stdout.contains("did not diverge")
    );
    // Steps of three batches, and of the one that is left of each epoch.
    let sets = ["--set", "engine.trainer.accumulate=3", "--iterations", "9", "--end", "1e-3", "--smooth", "1"];
    let said = pipe.ok(&[&["find-lr", "run.toml", "--format", "json"], &sets[..]].concat());
    let found: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(numbers(&found["lr"]).len(), 9);
    let said = pipe.run(&["find-lr", "run.toml", "--start", "1", "--end", "0.5"]);
    assert!(said.status == Some(1) && said.stderr.contains("--end 0.5 is not above"), "{}", said.stderr);
}
