//! A running training is edited twenty times and more, good and bad, one edit after another: what the program reported and what
//! the records show.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(super) const PIPELINE: &str = r#"
[pipeline]
name = "edited"
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
batch_size = 128
workers = 0

[model.net]
type = "sequential"
layers = [
  { type = "flatten" },
  { type = "linear", in_features = 784, out_features = 24 },
  { type = "relu" },
  { type = "linear", in_features = 24, out_features = 10 },
]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.05
momentum = 0.9

[scheduler.decay]
type = "exponential"
optimizer = "optimizer.sgd"
gamma = 0.999

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 100000
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
keep_last = 2

[[on]]
event = "engine.trainer:epoch_completed"
run = ["scheduler.decay", "handler.checkpoint", "engine.evaluator"]
"#;

/// Everything here may have to wait for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Session {
    folder: tempfile::TempDir,
    program: Child,
    text: String,
    /// Lines of the index that were looked at.
    seen: usize,
}

impl Session {
    fn start() -> Session {
        Session::of(PIPELINE.into(), |_| ())
    }

    /// A run of another pipeline, with files beside it that `prepare` makes.
    pub(super) fn of(text: String, prepare: impl FnOnce(&Path)) -> Session {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("edited.toml"), &text).expect("written");
        prepare(folder.path());
        let log = std::fs::File::create(folder.path().join("log.txt")).expect("a log");
        let program = Command::new(env!("CARGO_BIN_EXE_pipe"))
            .args(["run", "edited.toml", "--device", "cpu", "--out", "run", "--watch"])
            .current_dir(folder.path())
            .env("PIPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .env("OMP_NUM_THREADS", "1")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the program starts");
        let mut session = Session { folder, program, text, seen: 0 };
        assert_eq!(session.next_line()["outcome"], "started");
        session
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn index(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("run/pipelines/index.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    pub(super) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log.txt")).unwrap_or_default()
    }

    /// Waits until the run has said something more of an edit.
    pub(super) fn next_line(&mut self) -> Value {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(line) = self.index().get(self.seen) {
                self.seen += 1;
                return line.clone();
            }
            let ended = self.program.try_wait().expect("asked");
            assert!(ended.is_none(), "the run has ended: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("nothing was said of the edit: {}", self.log())
    }

    /// Saves the text as editors do: written aside, then renamed over the file.
    fn save(&mut self, text: String) -> Value {
        let aside = self.path(".edited.toml.swp");
        std::fs::write(&aside, &text).expect("written");
        std::fs::rename(&aside, self.path("edited.toml")).expect("renamed");
        self.text = text;
        self.next_line()
    }

    /// Replaces a piece of the text and saves.
    fn edit(&mut self, from: &str, to: &str) -> Value {
        assert_eq!(self.text.matches(from).count(), 1, "`{from}` in {}", self.text);
        let text = self.text.replace(from, to);
        self.save(text)
    }

    /// As [`Session::edit`], for one that must be applied; the step after which it was.
    fn applied(&mut self, from: &str, to: &str) -> (u64, Value) {
        let line = self.edit(from, to);
        assert_eq!(line["outcome"], "applied", "{line}");
        (line["step"].as_u64().expect("a step"), line)
    }

    /// As [`Session::applied`], for one that waits for the end of the epoch; the step after which all of it was applied.
    fn applied_at_epoch(&mut self, from: &str, to: &str) -> u64 {
        let (_, line) = self.applied(from, to);
        assert!(line["changes"].to_string().contains("next_epoch"), "{line}");
        let line = self.next_line();
        assert_eq!(line["outcome"], "completed", "{line}");
        line["step"].as_u64().expect("a step")
    }

    /// As [`Session::edit`], for one that must change nothing; then the text is put back, which says the same as before.
    fn rejected(&mut self, from: &str, to: &str, outcome: &str, reason: &str) {
        let before = self.text.clone();
        let line = self.edit(from, to);
        assert_eq!(line["outcome"], outcome, "{line}");
        let why = line["reason"].as_str().expect("a reason");
        assert!(why.contains(reason), "{why}");
        assert!(self.log().contains(reason), "people see it too");
        assert_eq!(self.save(before)["outcome"], "unchanged");
    }

    /// Waits for the end.
    fn end(&mut self) {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.program.try_wait().expect("asked") {
                assert!(status.success(), "{}", self.log());
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the run does not end: {}", self.log())
    }

    fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("run/records.jsonl")).expect("records");
        text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// `(step, value)` of the records with this tag.
fn curve(records: &[Value], tag: &str) -> Vec<(u64, f64)> {
    let own = records.iter().filter(|record| record["kind"] == "scalar" && record["tag"] == tag);
    own.map(|record| (record["step"].as_u64().unwrap(), record["value"].as_f64().unwrap())).collect()
}

fn at(curve: &[(u64, f64)], step: u64) -> f64 {
    curve.iter().find(|(s, _)| *s == step).unwrap_or_else(|| panic!("no value at step {step}")).1
}

fn place(line: &Value, change: usize) -> &str {
    line["changes"][change]["place"].as_str().expect("a place")
}

/// After which step the edits were applied whose traces are looked for.
#[derive(Debug, Default)]
struct Steps {
    lr: u64,
    gamma: u64,
    sink: u64,
    handler: u64,
    tag: u64,
    removed: u64,
    batch: u64,
    limit: u64,
    weight: u64,
    checkpoint: u64,
    interval: u64,
    end: u64,
}

/// Values, sinks and handlers.
fn edit_values(session: &mut Session, steps: &mut Steps) {
    // 1: a value of the optimizer, at its line.
    let (step, line) = session.applied("lr = 0.05", "lr = 0.02");
    steps.lr = step;
    assert_eq!((&line["changes"][0]["from"], &line["changes"][0]["to"]), (&0.05.into(), &0.02.into()));
    assert_eq!(line["changes"][0]["name"], "optimizer.sgd.lr");
    let number = session.text.lines().position(|line| line.starts_with("lr = ")).unwrap() + 1;
    assert_eq!(place(&line, 0), format!("edited.toml:{number}"));
    // 2, 3: a misspelt key, and the text put back.
    session.rejected("momentum = 0.9", "momentun = 0.9", "invalid", "did you mean `momentum`?");
    // 4: momentum, with its buffers kept.
    let (_, line) = session.applied("momentum = 0.9", "momentum = 0.8");
    assert!(line["rebuilt"].to_string().contains("scheduler.decay (holds optimizer.sgd)"), "{line}");
    // 5, 6: what a run cannot change, with something that it could: nothing of it is applied.
    session.rejected("seed = 7\n", "seed = 8\nprecision = \"bf16\"\n", "refused", "`pipeline.seed`");
    // 7: a scheduler's value. Its count goes on: see the rates below.
    steps.gamma = session.applied("gamma = 0.999", "gamma = 0.998").0;
    // 8: a sink is added.
    steps.sink = session.applied("[[on]]", "[sink.log]\ntype = \"json_lines\"\npath = \"more.jsonl\"\n\n[[on]]").0;
    // 9: a handler is added, with its event.
    let handler = "[handler.samples]\ntype = \"sample_images\"\nmax_images = 4\n";
    let event = "[[on]]\nevent = \"engine.trainer:iteration_completed\"\nevery = 2\nrun = [\"handler.samples\"]\n";
    steps.handler = session.applied("[sink.log]", &format!("{handler}\n{event}\n[sink.log]")).0;
    // 10: the handler is changed: it goes on under another tag.
    steps.tag = session.applied("max_images = 4", "max_images = 4\ntag = \"other\"").0;
    // 11: the handler is removed, with its event.
    let start = session.text.find("[handler.samples]").unwrap();
    let end = session.text.find("[sink.log]").unwrap();
    let without = format!("{}{}", &session.text[..start], &session.text[end..]);
    let line = session.save(without);
    assert_eq!(line["outcome"], "applied", "{line}");
    steps.removed = line["step"].as_u64().unwrap();
}

/// Data, model, loss, events, and the end.
fn edit_data_and_model(session: &mut Session, steps: &mut Steps) {
    // 12: batches of another size, from the next epoch on.
    steps.batch = session.applied_at_epoch("batch_size = 32", "batch_size = 16");
    // 13: fewer samples.
    steps.limit = session.applied_at_epoch("limit = 256", "limit = 128");
    // 14, 15: a transform, and workers.
    session.applied_at_epoch("degrees = 10", "degrees = 5");
    session.applied_at_epoch("workers = 1", "workers = 2");
    // 16: a wider model keeps what fits.
    let layer = "  { type = \"relu\" },\n  { type = \"linear\", in_features = 24, out_features = 10 },\n";
    let wider =
        format!("  {{ type = \"relu\" }},\n  {{ type = \"linear\", in_features = 24, out_features = 24 }},\n{layer}");
    let (_, line) = session.applied(layer, &wider);
    let weights = &line["weights"][0];
    assert_eq!(weights["kept"].to_string(), r#"["1.weight","1.bias"]"#, "{line}");
    assert_eq!(weights["new"].to_string(), r#"["3.weight","3.bias","5.weight","5.bias"]"#, "{line}");
    assert_eq!(weights["dropped"].to_string(), r#"["3.weight","3.bias"]"#, "{line}");
    // 17, 18: a model that can be built but not run.
    session.rejected(
        "in_features = 24, out_features = 10",
        "in_features = 23, out_features = 10",
        "refused",
        "engine.trainer: trying a batch",
    );
    // 19, 20: data that are not there.
    session.rejected("root = \"builtin:digits\"", "root = \"nowhere\"", "refused", "cannot build dataset.train");
    // 21, 22: a weight of a loss that the model does not have.
    session.rejected(
        "log_interval = 1",
        "log_interval = 1\nloss_weights = { crossentropy = 2.0 }",
        "refused",
        "the model's losses are cross_entropy",
    );
    // 23: a weight of one that it has.
    steps.weight = session.applied("log_interval = 1", "log_interval = 1\nloss_weights = { cross_entropy = 2.0 }").0;
    // 24: no more checkpoints.
    steps.checkpoint = session.applied("\"handler.checkpoint\", ", "").0;
    // 25: SIGHUP reads the file too; there is nothing new in it.
    let id = session.program.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().expect("kill runs").success());
    assert_eq!(session.next_line()["outcome"], "unchanged");
    // 26: fewer records.
    steps.interval = session.applied("log_interval = 1", "log_interval = 5").0;
    // 27: the end.
    steps.end = session.applied("max_epochs = 100000", "max_epochs = 1").0;
}

#[test]
fn a_training_is_edited_while_it_goes_on() {
    let mut session = Session::start();
    let mut steps = Steps::default();
    edit_values(&mut session, &mut steps);
    edit_data_and_model(&mut session, &mut steps);
    session.end();
    let records = session.records();
    check_rates(&records, &steps);
    check_losses(&records, &steps);
    check_handlers_and_sinks(&session, &records, &steps);
    check_versions(&session);
}

fn check_rates(records: &[Value], steps: &Steps) {
    let lr = curve(records, "train/lr");
    assert!(
        (at(&lr, steps.lr + 1) / at(&lr, steps.lr) - 0.4).abs() < 0.01,
        "0.05 → 0.02 right after step {}",
        steps.lr
    );
    let expected = 0.02 * 0.998f64.powi(at_epoch(records, steps.gamma + 1) - 1);
    // Between the epoch's last step and the next, the scheduler has stepped once more.
    let ratio = at(&lr, steps.gamma + 1) / expected;
    assert!((ratio - 1.0).abs() < 1e-9 || (ratio * 0.998 - 1.0).abs() < 1e-9, "the scheduler's count went on: {ratio}");
}

fn check_losses(records: &[Value], steps: &Steps) {
    // One curve, without a gap and without a new beginning.
    let loss = curve(records, "train/cross_entropy");
    let dense: Vec<u64> = loss.iter().map(|(step, _)| *step).take_while(|step| *step <= steps.interval).collect();
    assert_eq!(dense, (1..=steps.interval).collect::<Vec<_>>());
    let mean = |from: u64, to: u64| {
        let part: Vec<f64> = loss.iter().filter(|(step, _)| (from..to).contains(step)).map(|(_, loss)| *loss).collect();
        part.iter().sum::<f64>() / part.len() as f64
    };
    assert!(mean(steps.batch - 8, steps.batch) < 0.7 * mean(1, 4), "it had learnt");
    assert!(mean(steps.batch + 1, steps.batch + 9) < 0.7 * mean(1, 4), "and went on from there");
    assert!(loss.iter().filter(|(step, _)| *step > steps.interval).all(|(step, _)| step % 5 == 0));

    let total = curve(records, "train/loss");
    for (step, factor) in [(steps.weight, 1.0), (steps.weight + 1, 2.0)] {
        assert!((at(&total, step) / at(&loss, step) - factor).abs() < 1e-6, "loss weight at step {step}");
    }

    // Steps of an epoch: 256 / 32, then 256 / 16, then 128 / 16.
    let length = |step: u64| {
        let epoch = at_epoch(records, step);
        loss.iter().filter(|(step, _)| *step <= steps.interval && at_epoch(records, *step) == epoch).count()
    };
    assert_eq!((length(steps.batch), length(steps.batch + 1), length(steps.limit + 1)), (8, 16, 8));

    let last = loss.iter().map(|(step, _)| *step).max().unwrap_or_default();
    assert!(last < steps.end + 16, "the epoch was ended, and no other begun");
}

fn check_handlers_and_sinks(session: &Session, records: &[Value], steps: &Steps) {
    // The handler was called on even steps, under one tag and then the other, and then no more.
    let drawn = |tag: &str| -> Vec<u64> {
        let own = records.iter().filter(|record| record["kind"] == "image" && record["tag"] == tag);
        own.map(|record| record["step"].as_u64().unwrap()).collect()
    };
    let even = |from: u64, to: u64| (from + 1..=to).filter(|step| step % 2 == 0).collect::<Vec<_>>();
    assert_eq!(drawn("samples"), even(steps.handler, steps.tag));
    assert_eq!(drawn("other"), even(steps.tag, steps.removed));

    // The sink has what came after it was added.
    let more = std::fs::read_to_string(session.path("more.jsonl")).expect("the new sink's file");
    let first: Value = serde_json::from_str(more.lines().next().expect("a record")).expect("JSON");
    assert_eq!(first["step"], steps.sink + 1);

    let saved: Vec<u64> = records
        .iter()
        .filter(|record| record["tag"] == "checkpoint")
        .map(|record| record["step"].as_u64().unwrap())
        .collect();
    assert!(saved.iter().all(|step| *step <= steps.checkpoint), "{saved:?} after {}", steps.checkpoint);
}

fn check_versions(session: &Session) {
    // Every version is kept, the newest is the one of the last edit.
    let versions: Vec<String> = std::fs::read_dir(session.path("run/pipelines"))
        .expect("versions")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    let applied = session.index().iter().filter(|line| line["outcome"] == "applied").count();
    assert_eq!(versions.len(), applied + 1, "{versions:?}");
    let newest = std::fs::read_to_string(session.path("run/pipeline.toml")).expect("the newest");
    assert!(newest.contains("max_epochs = 1\n") && newest.contains("seed = 7\n"), "{newest}");
    let edits = session.index().iter().filter(|line| line["edit"].as_u64().is_some_and(|edit| edit > 0)).count();
    assert!(edits >= 20, "{edits} lines");
}

fn at_epoch(records: &[Value], step: u64) -> i32 {
    let record = records.iter().find(|record| record["step"] == step).expect("a record of the step");
    record["epoch"].as_i64().expect("an epoch") as i32
}

#[test]
fn a_resumed_run_says_what_was_changed_and_goes_on_from_its_own_version() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("edited.toml"), PIPELINE).expect("written");
    let pipe = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_pipe"))
            .args(arguments)
            .args(["--device", "cpu"])
            .current_dir(folder.path())
            .env("PIPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .output()
            .expect("the program runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        text
    };
    pipe(&["run", "edited.toml", "--out", "run", "--set", "engine.trainer.max_epochs=1"]);
    let edited = PIPELINE.replace("lr = 0.05", "lr = 0.01");
    std::fs::write(folder.path().join("edited.toml"), edited).expect("written");
    let text = pipe(&["run", "edited.toml", "--resume", "run", "--set", "engine.trainer.max_epochs=2"]);
    assert!(text.contains("changed since the last run: edited.toml:41  optimizer.sgd.lr: 0.05 → 0.01"), "{text}");
    assert!(text.contains("engine.trainer.max_epochs: 1 → 2"), "{text}");
    // The folder of a run stands for the newest version of its pipeline.
    let text = pipe(&["run", "run", "--resume", "run", "--set", "engine.trainer.max_epochs=3"]);
    assert!(text.contains("engine.trainer.max_epochs: 2 → 3") && !text.contains("optimizer.sgd.lr"), "{text}");
    let names = ["000_step_000000.toml", "001_step_000008.toml", "002_step_000016.toml"];
    for name in names {
        assert!(folder.path().join("run/pipelines").join(name).exists(), "{name}");
    }
}

#[test]
fn dev_gives_a_verdict() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let dev = |text: &str| {
        std::fs::write(folder.path().join("edited.toml"), text).expect("written");
        let output = Command::new(env!("CARGO_BIN_EXE_pipe"))
            .args(["dev", "edited.toml", "--once", "--device", "cpu", "--iterations", "3", "--picture", "batch.png"])
            .current_dir(folder.path())
            .env("PIPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
            .output()
            .expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, text) = dev(PIPELINE);
    assert_eq!(status, Some(0), "{text}");
    let losses = text.lines().find_map(|line| line.strip_prefix("engine.trainer: loss ")).expect("losses");
    assert_eq!(losses.split(' ').filter(|loss| loss.parse::<f64>().is_ok()).count(), 3, "{text}");
    assert!(text.contains("edited.toml: OK;") && text.contains("since the save"), "{text}");
    let picture = std::fs::read(folder.path().join("batch.png")).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG"));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no run's folder is left: {left:?}");
    let (status, text) = dev(&PIPELINE.replace("in_features = 24", "in_features = 23"));
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("failed ("), "{text}");
    let (status, text) = dev(&PIPELINE.replace("lr = 0.05", "lr = \"quick\""));
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("invalid ("), "{text}");
}
