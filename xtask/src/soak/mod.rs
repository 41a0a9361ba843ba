//! `cargo xtask soak`: what runs for as long as one likes, looking for faults that tests did not think of.

mod elastic;
mod export;
mod fuzz;
mod gpu_suite;
mod runs;
mod trackers;
mod wheel;

use std::path::Path;

use anyhow::{Result, bail};

use crate::setup::{Options, setup};
use crate::shell::{cargo, must};
use crate::suites::NO_FEATURES;

/// The parts, for the help text.
pub(crate) const HELP: &str = "\
  soak fuzz [--minutes N] [TARGET…]
        feeds damaged and hostile files to every reader (default: 10 minutes, shared by all), guided by the code they reach;
        findings go to target/fuzz/findings. Fails when there are any
  soak kills [--each N] [PIPELINE…]
        kills runs of the pipelines of tests/kills (default: all, 50 times each) inside checkpoint writes, between targets, in nested
        engines and at any time, asks others to end there, goes on with each, and compares what they leave with a run that nothing
        happened to; a hundred times a second Ctrl-C
  soak gpu-suite --python EXE [--coco FOLDER] [--only PARTS]
        tries scripts/gpu_suite.py, as far as that goes without a GPU, on the stand-in accelerator, small; EXE is a Python with torch and
        torchvision
  soak export --python EXE [MODEL…]
        trains each detector that can be exported for some steps, exports it (scripts/export_onnx.py) and compares what onnxruntime and
        `pipe predict` find; EXE is a Python with torch, torchvision, onnx, onnxscript, onnxruntime and safetensors
  soak elastic --python EXE
        kills one of three machines under torchrun's agents, and compares what the other two leave with a run of one process; EXE is a Python
        with torch
  soak runs
        prints the figures of many runs and of their page: curves, size on the disk, index, answers, the page in Chromium, what capture costs
  soak sweep [--trials N] [--kills N] [--python EXE]
        kills `pipe sweep` and its trials (default: 20 times while 50 trials run), goes on, and compares what they leave with a sweep that
        nothing happened to; with EXE, a Python with optuna, has Optuna go on with a journal of ours
  soak trackers --python EXE
        sends a run to a real MLflow server that is away at first, and has ClearML's SDK import one; EXE is a Python with mlflow and clearml
  soak wheel [--python EXE]
        builds the wheel, installs it into a fresh virtual environment (with the packages of a Python that has torch, otherwise with
        the libraries of the set-up), and runs the demo there
";

const DOUBLE_SIGNALS: &str = "100";

/// Runs a part.
pub(crate) fn soak(root: &Path, arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((part, rest)) if part == "fuzz" => fuzz::fuzz(root, rest),
        Some((part, rest)) if part == "kills" => kills(root, rest),
        Some((part, rest)) if part == "gpu-suite" => gpu_suite::gpu_suite(root, rest),
        Some((part, rest)) if part == "export" => export::export(root, rest),
        Some((part, rest)) if part == "elastic" => elastic::elastic(root, rest),
        Some((part, rest)) if part == "runs" => runs::runs(root, rest),
        Some((part, rest)) if part == "sweep" => sweep(root, rest),
        Some((part, rest)) if part == "trackers" => trackers::trackers(root, rest),
        Some((part, rest)) if part == "wheel" => wheel::wheel(root, rest),
        _ => bail!("`soak` takes one of:\n\n{HELP}"),
    }
}

fn kills(root: &Path, arguments: &[String]) -> Result<()> {
    let (each, cases) = match arguments.split_first() {
        Some((flag, rest)) if flag == "--each" => match rest.split_first() {
            Some((number, rest)) => (number.as_str(), rest),
            None => bail!("--each takes a number"),
        },
        _ => ("50", arguments),
    };
    let cases = if cases.is_empty() { "all".to_owned() } else { cases.join(",") };
    let filters = ["kills::", "signals::a_second_signal"];
    let arguments = ["test", "--workspace", "--test", "it", "--", "--nocapture", "--test-threads=1"];
    let libtorch = setup(root, &Options::default())?;
    let mut command = cargo(root, &libtorch);
    command.args(arguments).args(filters).env("PIPE_SOAK_KILLS", each).env("PIPE_SOAK_CASES", cases);
    must(command.env("PIPE_DOUBLE_SIGNALS", DOUBLE_SIGNALS))
}

fn sweep(root: &Path, arguments: &[String]) -> Result<()> {
    let (mut trials, mut kills, mut python) = ("50", "20", None);
    for pair in arguments.chunks(2) {
        match pair {
            [flag, number] if flag == "--trials" => trials = number,
            [flag, number] if flag == "--kills" => kills = number,
            [flag, exe] if flag == "--python" => python = Some(exe),
            _ => bail!("`soak sweep` takes --trials N, --kills N and --python EXE"),
        }
    }
    let libtorch = setup(root, &Options::default())?;
    let mut command = cargo(root, &libtorch);
    command.args([
        "test",
        "--workspace",
        NO_FEATURES,
        "--test",
        "it",
        "--",
        "--nocapture",
        "sweep::whatever_is_killed",
    ]);
    if let Some(python) = python {
        command.arg("journal::optuna_goes_on").env("PIPE_TEST_PYTHON", python);
    }
    must(command.env("PIPE_SOAK_SWEEP", format!("{trials},{kills}")))
}
