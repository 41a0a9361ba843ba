//! Ctrl-C while the program evaluates: it leaves a checkpoint, and a resume ends with the same numbers as a run that was left
//! alone.

use super::program::{Pipe, Said};

const PIPELINE: &str = r#"
[scheduler.plateau]
type = "plateau"
optimizer = "optimizer.sgd"
monitor = "metric.accuracy:accuracy"
mode = "max"
patience = 1

[handler.stop]
type = "early_stopping"
monitor = "metric.accuracy:accuracy"
mode = "max"
patience = 100
engine = "engine.trainer"

[handler.checkpoint]
type = "checkpoint"
keep_last = 10

[handler.ctrl_c]
type = "process"
command = ["sh", "ctrl_c.sh"]
env = { EVALUATION = "${evaluation}" }
answer = true
dir = "."
timeout = "120s"
on_failure = "raise"

# In the middle of each evaluation.
[[on]]
event = "engine.evaluator:iteration_completed"
once = [3]
run = ["handler.ctrl_c"]

# What looks at the evaluation comes after it.
[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator", "handler.stop", "scheduler.plateau", "handler.checkpoint"]

[vars]
evaluation = "0"
"#;

/// Interrupts the program that started it in the middle of an evaluation, the first time that this is asked of it. The program
/// waits for the answer, so the evaluation is not over when the signal comes.
const CTRL_C: &str = r#"read -r hello
n=0
while read -r line; do
  case "$line" in *'"type":"finish"'*) exit 0 ;; esac
  n=$((n + 1))
  if [ "$n" = "$EVALUATION" ] && mkdir interrupted 2>/dev/null; then
    kill -INT "$PPID"
    sleep 1
  fi
  echo "{\"type\":\"answer\",\"id\":$n}"
done
"#;

/// A run that is interrupted in the evaluation of that number; none for 0.
fn run(pipe: &Pipe, out: &str, evaluation: u32, more: &[&str]) -> Said {
    let set = format!("vars.evaluation='{evaluation}'");
    let arguments = [&["run", "cut.toml", "--quiet", "--out", out, "--set", &set], more].concat();
    pipe.run(&arguments)
}

#[test]
fn an_evaluation_that_is_interrupted_is_done_again_and_the_run_ends_with_the_same_numbers() {
    let pipe = Pipe::digits("cut.toml", PIPELINE);
    pipe.write("ctrl_c.sh", CTRL_C);
    let whole = run(&pipe, "whole", 0, &[]);
    assert_eq!(whole.status, Some(0), "{}", whole.stderr);
    let expected = pipe.scalars("whole");
    let accuracies = expected.iter().filter(|record| record["node"] == "metric.accuracy").count();
    assert_eq!(accuracies, 4, "one an epoch: {expected:?}");
    // In the first epoch nothing has been measured yet; in a later one there is an older value to take by mistake.
    for (evaluation, step) in [(1, 4), (3, 12)] {
        let out = format!("cut_{evaluation}");
        let cut = run(&pipe, &out, evaluation, &[]);
        assert!(pipe.path("interrupted").is_dir(), "the signal was sent: {}", cut.stderr);
        std::fs::remove_dir(pipe.path("interrupted")).expect("removed");
        assert_eq!(cut.status, Some(130), "{}", cut.stderr);
        assert_eq!(pipe.json(&format!("{out}/run.json"))["status"], "interrupted");
        let checkpoint = format!("step_{step:06}");
        assert_eq!(pipe.names(&format!("{out}/checkpoints")).last(), Some(&checkpoint));
        let before = pipe.scalars(&out);
        let last = |records: &[serde_json::Value]| records.last().map(|record| record["step"].clone());
        assert_eq!(last(&before), Some(step.into()), "it stopped in this epoch");
        assert!(before.len() < expected.len());

        let resumed = run(&pipe, &out, 0, &["--resume", &out]);
        assert_eq!(resumed.status, Some(0), "{}", resumed.stderr);
        assert_eq!(pipe.json(&format!("{out}/run.json"))["status"], "done");
        assert_eq!(pipe.scalars(&out), expected, "interrupted in evaluation {evaluation}");
    }
}
