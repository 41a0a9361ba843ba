//! Child processes through the program: the example that posts metrics, children that fail, secrets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;

const PIPELINE: &str = r#"
[pipeline]
name = "children"

[dataset.train]
type = "mnist"
root = "builtin:digits"
limit = 128

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 32
workers = 0

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.05

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 3
log_interval = 1
"#;

fn pipe(folder: &Path, more: &str, arguments: &[&str], env: &[(&str, &str)]) -> Output {
    std::fs::write(folder.join("children.toml"), format!("{PIPELINE}{more}")).expect("written");
    Command::new(env!("CARGO_BIN_EXE_pipe"))
        .args(arguments)
        .current_dir(folder)
        .env("PIPE_CACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"))
        .envs(env.iter().copied())
        .output()
        .expect("the program runs")
}

const RUN: [&str; 6] = ["run", "children.toml", "--device", "cpu", "--out", "run"];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn python() -> Option<PathBuf> {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("skipped: there is no python3");
    }
    found.then(|| PathBuf::from("python3"))
}

/// A server that takes posts on a free port of this machine: header lines and bodies.
fn server() -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}/metrics", listener.local_addr().expect("an address"));
    let (send, posts) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut header = String::new();
            while reader.read_line(&mut header).is_ok_and(|read| read > 2) {}
            let length = header
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let answered =
                reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
            if answered.is_err() || send.send((header, body)).is_err() {
                return;
            }
        }
    });
    (address, posts)
}

#[test]
fn the_example_posts_every_number_of_a_run() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let (address, posts) = server();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/post_metrics.py");
    let sink = format!(
        "[sink.post]\ntype = \"process\"\ncommand = [{python:?}, {example:?}, \"{address}\", \"--interval\", \"0\"]\n\
         kinds = [\"scalar\"]\nenv = {{ API_TOKEN = \"${{env:PIPE_TEST_VALUE}}\" }}\ntimeout = \"60s\"\n"
    );
    let output = pipe(folder.path(), &sink, &RUN, &[("PIPE_TEST_VALUE", "s3cr3t-value")]);
    let log = text(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert!(log.contains("sink.post: posting to http://127.0.0.1"), "{log}");

    let mut scalars = Vec::new();
    while let Ok((header, body)) = posts.recv_timeout(Duration::from_millis(200)) {
        assert!(header.to_lowercase().contains("authorization: bearer s3cr3t-value"), "{header}");
        scalars.extend(body["scalars"].as_array().expect("a list").clone());
    }
    let records = std::fs::read_to_string(folder.path().join("run/records.jsonl")).expect("records");
    let records = records.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let recorded: Vec<Value> = records.filter(|record| record["kind"] == "scalar").collect();
    assert!(recorded.len() >= 36, "{} recorded", recorded.len());
    assert_eq!(scalars.len(), recorded.len());
    for (posted, record) in scalars.iter().zip(&recorded) {
        assert_eq!(
            (&posted["tag"], &posted["value"], &posted["step"]),
            (&record["tag"], &record["value"], &record["step"])
        );
    }

    let shown = pipe(folder.path(), &sink, &["show", "children.toml"], &[("PIPE_TEST_VALUE", "s3cr3t-value")]);
    assert!(text(&shown.stdout).contains("<secret>"), "{}", text(&shown.stdout));
    let mut everything = log + &text(&output.stdout) + &text(&shown.stdout);
    for file in ["run/run.json", "run/pipeline.toml", "run/records.jsonl"] {
        everything += &std::fs::read_to_string(folder.path().join(file)).expect(file);
    }
    assert!(!everything.contains("s3cr3t-value"), "{everything}");
}

#[test]
fn children_that_fail_neither_stop_nor_change_a_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let sinks: String = [
        ("dying", "exit 3", "restart = { max = 2, backoff = \"1ms\" }"),
        ("hanging", "exec sleep 600", "restart = { policy = \"never\" }\nqueue = 1"),
        ("babbling", "head -c 200000 /dev/urandom; exec cat > /dev/null", ""),
    ]
    .iter()
    .map(|(name, script, more)| {
        format!(
            "[sink.{name}]\ntype = \"process\"\ncommand = [\"sh\", \"-c\", \"{script}\"]\ntimeout = \"1s\"\n{more}\n"
        )
    })
    .collect();
    let handler = "[handler.dead]\ntype = \"process\"\ncommand = [\"true\"]\nanswer = true\n\n[[on]]\n\
                   event = \"engine.trainer:epoch_completed\"\nrun = [\"handler.dead\"]\n";
    let output = pipe(folder.path(), &(sinks + handler), &RUN, &[]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert!(log.contains("sink.dying: the child process failed (exit status: 3); it is restarted"), "{log}");
    assert!(
        log.contains("sink.dying: the child process failed (exit status: 3); the run continues without it"),
        "{log}"
    );
    assert!(log.contains("sink.hanging: the child process"), "{log}");
    assert!(log.contains("handler.dead: the child process ended by itself"), "{log}");
    let records = std::fs::read_to_string(folder.path().join("run/records.jsonl")).expect("records");
    assert_eq!(records.lines().filter(|line| line.contains("train/loss")).count(), 12);
}

#[test]
fn answers_are_recorded_and_can_end_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = r#"read -r hello; n=0
while read -r line; do n=$((n+1)); case "$line" in *finish*) exit 0;; esac
[ $n = 2 ] && end='"run"' || end=null
echo "{\"type\":\"answer\",\"id\":$n,\"scalars\":{\"calls\":$n},\"terminate\":$end}"; done"#;
    std::fs::write(folder.path().join("answer.sh"), script).expect("written");
    let handler = "[handler.answer]\ntype = \"process\"\ncommand = [\"sh\", \"answer.sh\"]\nanswer = true\ndir = \".\"\n\
                   timeout = \"60s\"\n\n[[on]]\nevent = \"engine.trainer:epoch_completed\"\nrun = [\"handler.answer\"]\n";
    let output = pipe(folder.path(), handler, &RUN, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let records = std::fs::read_to_string(folder.path().join("run/records.jsonl")).expect("records");
    let calls: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|record| record["tag"] == "calls")
        .collect();
    let seen: Vec<_> = calls.iter().map(|record| (record["value"].as_f64(), record["node"].as_str())).collect();
    assert_eq!(
        seen,
        [(Some(1.0), Some("handler.answer")), (Some(2.0), Some("handler.answer"))],
        "the run ended after two epochs"
    );
}

#[test]
fn with_raise_a_dead_child_ends_the_run_and_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let sink = "[sink.needed]\ntype = \"process\"\ncommand = [\"sh\", \"-c\", \"exit 9\"]\non_failure = \"raise\"\n\
                restart = { policy = \"never\" }\n";
    let output = pipe(folder.path(), sink, &RUN, &[]);
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("sink.needed") && log.contains("exit status: 9"), "{log}");
}
