//! A training by the program itself that is edited while it goes on; `pipe dev`; a resume of an edited pipeline.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{Pipe, cache};

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

[checks]
allow = ["normalization-differs", "training-data-evaluated"]
"#;

/// Everything here may have to wait for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) struct Session {
    folder: tempfile::TempDir,
    pub(super) program: Child,
    pub(super) text: String,
    /// Lines of the index that were looked at.
    seen: usize,
}

impl Session {
    pub(super) fn start() -> Session {
        Session::of(PIPELINE.into(), |_| ())
    }

    /// A run of another pipeline, with files beside it that `prepare` makes.
    pub(super) fn of(text: String, prepare: impl FnOnce(&Path)) -> Session {
        Session::begin(text, &[], prepare)
    }

    /// A run with `--set` of the command line, of the pipeline as `change` makes it.
    pub(super) fn with_sets(sets: &[&str], change: impl FnOnce(&str) -> String) -> Session {
        Session::begin(change(PIPELINE), sets, |_| ())
    }

    fn begin(text: String, sets: &[&str], prepare: impl FnOnce(&Path)) -> Session {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("edited.toml"), &text).expect("written");
        prepare(folder.path());
        let log = std::fs::File::create(folder.path().join("log.txt")).expect("a log");
        let program = Command::new(env!("CARGO_BIN_EXE_pipe"))
            .args(["run", "edited.toml", "--device", "cpu", "--out", "run", "--watch"])
            .args(sets.iter().flat_map(|set| ["--set", set]))
            .current_dir(folder.path())
            .env("PIPE_CACHE", cache())
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

    pub(super) fn index(&self) -> Vec<Value> {
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
    pub(super) fn save(&mut self, text: String) -> Value {
        let aside = self.path(".edited.toml.swp");
        std::fs::write(&aside, &text).expect("written");
        std::fs::rename(&aside, self.path("edited.toml")).expect("renamed");
        self.text = text;
        self.next_line()
    }

    /// Replaces a piece of the text and saves.
    pub(super) fn edit(&mut self, from: &str, to: &str) -> Value {
        assert_eq!(self.text.matches(from).count(), 1, "`{from}` in {}", self.text);
        let text = self.text.replace(from, to);
        self.save(text)
    }

    /// As [`Session::edit`], for one that must be applied; the step after which it was.
    pub(super) fn applied(&mut self, from: &str, to: &str) -> (u64, Value) {
        let line = self.edit(from, to);
        assert_eq!(line["outcome"], "applied", "{line}");
        (line["step"].as_u64().expect("a step"), line)
    }

    /// As [`Session::applied`], for one that waits for the end of the epoch; the step after which all of it was applied.
    pub(super) fn applied_at_epoch(&mut self, from: &str, to: &str) -> u64 {
        let (_, line) = self.applied(from, to);
        assert!(line["changes"].to_string().contains("next_epoch"), "{line}");
        let line = self.next_line();
        assert_eq!(line["outcome"], "completed", "{line}");
        line["step"].as_u64().expect("a step")
    }

    /// As [`Session::edit`], for one that must change nothing; then the text is put back, which says the same as before.
    pub(super) fn rejected(&mut self, from: &str, to: &str, outcome: &str, reason: &str) {
        let before = self.text.clone();
        let line = self.edit(from, to);
        assert_eq!(line["outcome"], outcome, "{line}");
        let why = line["reason"].as_str().expect("a reason");
        assert!(why.contains(reason), "{why}");
        assert!(self.log().contains(reason), "people see it too");
        assert_eq!(self.save(before)["outcome"], "unchanged");
    }

    /// Waits for the end.
    pub(super) fn end(&mut self) {
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

    pub(super) fn records(&self) -> Vec<Value> {
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
pub(super) fn curve(records: &[Value], tag: &str) -> Vec<(u64, f64)> {
    let own = records.iter().filter(|record| record["kind"] == "scalar" && record["tag"] == tag);
    own.map(|record| (record["step"].as_u64().unwrap(), record["value"].as_f64().unwrap())).collect()
}

pub(super) fn at(curve: &[(u64, f64)], step: u64) -> f64 {
    curve.iter().find(|(s, _)| *s == step).unwrap_or_else(|| panic!("no value at step {step}")).1
}

pub(super) fn place(line: &Value, change: usize) -> &str {
    line["changes"][change]["place"].as_str().expect("a place")
}

#[test]
fn a_resumed_run_says_what_was_changed_and_goes_on_from_its_own_version() {
    let folder = Pipe::with("edited.toml", PIPELINE);
    let pipe = |arguments: &[&str]| folder.ok(&[arguments, &["--device", "cpu"]].concat()).stderr;
    pipe(&["run", "edited.toml", "--out", "run", "--set", "engine.trainer.max_epochs=1"]);
    let edited = PIPELINE.replace("lr = 0.05", "lr = 0.01");
    folder.write("edited.toml", &edited);
    let text = pipe(&["run", "edited.toml", "--resume", "run", "--set", "engine.trainer.max_epochs=2"]);
    assert!(text.contains("changed since the last run: edited.toml:41  optimizer.sgd.lr: 0.05 → 0.01"), "{text}");
    assert!(text.contains("engine.trainer.max_epochs: 1 → 2"), "{text}");
    // The folder of a run stands for the newest version of its pipeline.
    let text = pipe(&["run", "run", "--resume", "run", "--set", "engine.trainer.max_epochs=3"]);
    assert!(text.contains("engine.trainer.max_epochs: 2 → 3") && !text.contains("optimizer.sgd.lr"), "{text}");
    let names = ["000_step_000000.toml", "001_step_000008.toml", "002_step_000016.toml"];
    for name in names {
        assert!(folder.path(&format!("run/pipelines/{name}")).exists(), "{name}");
    }
}

#[test]
fn dev_gives_a_verdict() {
    let pipe = Pipe::new();
    let dev = |text: &str| {
        pipe.write("edited.toml", text);
        let arguments =
            ["dev", "edited.toml", "--once", "--device", "cpu", "--iterations", "3", "--picture", "batch.png"];
        let said = pipe.run(&arguments);
        (said.status, said.stderr)
    };
    let (status, text) = dev(PIPELINE);
    assert_eq!(status, Some(0), "{text}");
    let losses = text.lines().find_map(|line| line.strip_prefix("engine.trainer: loss ")).expect("losses");
    assert_eq!(losses.split(' ').filter(|loss| loss.parse::<f64>().is_ok()).count(), 3, "{text}");
    assert!(text.contains("edited.toml: OK;") && text.contains("since the save"), "{text}");
    let picture = std::fs::read(pipe.path("batch.png")).expect("a picture");
    assert!(picture.starts_with(b"\x89PNG"));
    assert_eq!(pipe.names("."), ["batch.png", "edited.toml"], "no run's folder is left");
    let (status, text) = dev(&PIPELINE.replace("in_features = 24", "in_features = 23"));
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("failed ("), "{text}");
    let (status, text) = dev(&PIPELINE.replace("lr = 0.05", "lr = \"quick\""));
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("invalid ("), "{text}");
}
