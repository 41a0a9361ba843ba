//! What a run says to people: on standard output what it measured, each number once or twice, never more.

use std::process::{Command, Stdio};

use pipe_test_support::skip;
use serde_json::Value;

use super::program::Pipe;

const PIPELINE: &str = r#"
[metric.confusion]
type = "confusion_matrix"

[engine.evaluator]
metrics = ["metric.accuracy", "metric.confusion"]

[handler.checkpoint]
type = "checkpoint"
best = { monitor = "metric.accuracy:accuracy", mode = "max" }

[[on]]
event = "engine.trainer:epoch_completed"
run = ["handler.checkpoint", "engine.evaluator"]
"#;

const RUN: [&str; 4] = ["run", "told.toml", "--out", "run"];

fn pipe() -> Pipe {
    Pipe::digits("told.toml", PIPELINE)
}

/// The number behind a name in a line.
fn number(line: &str, name: &str) -> f64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|word| *word == name).unwrap_or_else(|| panic!("no {name} in {line}"));
    let at = if words[at + 1] == "=" { at + 2 } else { at + 1 };
    words[at].trim_end_matches(')').parse().unwrap_or_else(|error| panic!("{error}: {name} in {line}"))
}

fn of_tag(records: &[Value], tag: &str, epoch: u64) -> Vec<f64> {
    let own = records.iter().filter(|record| record["tag"] == tag && record["epoch"] == epoch);
    own.map(|record| record["value"].as_f64().expect("a number")).collect()
}

#[test]
fn epochs_and_evaluations_are_lines_on_standard_output() {
    let pipe = pipe();
    let said = pipe.ok(&RUN);
    let lines = |engine: &str| -> Vec<&str> {
        said.stdout.lines().filter(|line| line.starts_with("epoch ") && line.contains(engine)).collect()
    };
    let (trained, evaluated) = (lines("  trainer  "), lines("  evaluator  "));
    assert_eq!((trained.len(), evaluated.len()), (4, 4), "{}", said.stdout);
    let records = pipe.records("run");
    let mut best = f64::NEG_INFINITY;
    for epoch in 1..=4 {
        let line = trained[epoch - 1];
        let losses = of_tag(&records, "train/loss", epoch as u64);
        let mean = losses.iter().sum::<f64>() / losses.len() as f64;
        assert!(line.starts_with(&format!("epoch {epoch}/4")), "{line}");
        assert!((number(line, "loss") / mean - 1.0).abs() < 1e-3, "the mean of all batches is {mean}: {line}");
        let line = evaluated[epoch - 1];
        let accuracy = of_tag(&records, "val/accuracy", epoch as u64)[0];
        best = accuracy.max(best);
        assert!((number(line, "accuracy") - accuracy).abs() < 1e-3, "{line}");
        let (_, of_best) = line.split_once("(best ").expect("the best so far");
        assert!((number(of_best, "accuracy") - best).abs() < 1e-3, "{line}");
    }
    assert_eq!(said.stdout.matches("label \\ prediction").count(), 1, "{}", said.stdout);
    assert!(!said.stdout.contains('|') && !said.stderr.contains("prediction"), "no Markdown: {}", said.stdout);
    let named = said.stdout.lines().find_map(|line| line.trim().strip_prefix("best ")).expect("the best checkpoint");
    let path = named.rsplit_once(": ").expect("a path").1;
    assert!(pipe.path(path).join("complete.json").is_file(), "{named}");
    let noted = &pipe.json("run/checkpoints/best.json")["best"][0];
    assert!(path.ends_with(noted["name"].as_str().expect("a name")), "{named}, {noted}");
    let kept = pipe.read("run/console.log");
    assert!(said.stdout.lines().all(|line| kept.contains(line)), "{kept}");
}

#[test]
fn the_best_is_remembered_when_a_run_goes_on() {
    let pipe = pipe();
    pipe.ok(&RUN);
    let best = &pipe.json("run/checkpoints/best.json")["best"][0];
    // Nothing is learned any more, so the next is not better.
    let more = ["--set", "engine.trainer.max_epochs=5", "--set", "optimizer.sgd.lr=1e-12", "--resume", "run"];
    let said = pipe.ok(&[&["run", "told.toml"][..], &more].concat());
    let line = said.stdout.lines().find(|line| line.starts_with("epoch 5/5  evaluator")).expect("an evaluation");
    assert!(line.ends_with(&format!(" at step {})", best["step"])), "{line}, {best}");
}

#[test]
fn a_quiet_run_says_where_it_is_and_what_is_wrong() {
    let pipe = pipe();
    let said = pipe.ok(&[&RUN[..], &["--quiet"]].concat());
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("run\n", ""));
    let set =
        ["--quiet", "--resume", "run", "--set", "loader.train.shuffle=false", "--set", "engine.trainer.max_epochs=5"];
    let said = pipe.ok(&[&["run", "told.toml"][..], &set].concat());
    assert!(said.stderr.contains("warning[unshuffled-training]"), "{said:?}");
    assert_eq!(said.stdout, "run\n");
}

#[test]
fn an_evaluation_alone_prints_each_value_once() {
    let pipe = pipe();
    pipe.ok(&[&RUN[..], &["--quiet"]].concat());
    let said = pipe.ok(&["eval", "told.toml", "--weights", "run"]);
    assert_eq!(said.stdout.matches("metric.accuracy:accuracy").count(), 1, "{}", said.stdout);
    assert_eq!(said.stdout.matches("label \\ prediction").count(), 1, "{}", said.stdout);
    assert!(!said.stderr.contains("accuracy 0") && !said.stderr.contains("epoch 1/1"), "{}", said.stderr);
}

#[test]
fn no_color_and_dumb_terminals_get_plain_text() {
    let pipe = pipe();
    // A terminal of its own, as `script` of util-linux makes it.
    let said = |arguments: &str, variables: &[(&str, &str)]| {
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_pipe"));
        let mut command = Command::new("script");
        command
            .args(["-qec", &line, "/dev/null"])
            .current_dir(pipe.folder())
            .env("PIPE_CACHE", super::program::cache());
        command.env_remove("NO_COLOR").env("TERM", "xterm").envs(variables.iter().copied()).stdin(Stdio::null());
        command.output().ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let wrong = "check told.toml --set a.b=1";
    let Some(colored) = said(wrong, &[]).filter(|text| text.contains('\u{1b}')) else {
        return skip!("there is no `script` that makes a terminal");
    };
    assert!(colored.contains("error"), "{colored}");
    for (number, variables) in [[("NO_COLOR", "1"), ("TERM", "dumb")], [("X", ""), ("TERM", "dumb")]].iter().enumerate()
    {
        let run = format!("run told.toml --out plain{number}");
        for arguments in [wrong, &run] {
            let plain = said(arguments, variables).expect("as before");
            assert!(!plain.contains('\u{1b}'), "{variables:?}: {plain:?}");
        }
    }
    let plain = said(wrong, &[("NO_COLOR", "1")]).expect("as before");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
}
