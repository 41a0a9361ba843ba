//! Child processes through the program: the example that posts metrics, children that fail, secrets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use pipe_test_support::skip;
use serde_json::Value;

use super::program::{Pipe, Said};

const PIPELINE: &str = r#"
[dataset.train]
limit = 128

[loader.train]
batch_size = 32

[engine.trainer]
max_epochs = 3
"#;

/// The program in a folder with the pipeline and what is added to it.
fn pipe(more: &str) -> Pipe {
    Pipe::digits("children.toml", &format!("{PIPELINE}{more}"))
}

const RUN: [&str; 6] = ["run", "children.toml", "--device", "cpu", "--out", "run"];

fn python() -> Option<PathBuf> {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
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
    let Some(python) = python() else {
        return skip!("there is no python3");
    };
    let (address, posts) = server();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/post_metrics.py");
    let sink = format!(
        "[sink.post]\ntype = \"process\"\ncommand = [{python:?}, {example:?}, \"{address}\", \"--interval\", \"0\"]\n\
         kinds = [\"scalar\"]\nenv = {{ API_TOKEN = \"${{env:PIPE_TEST_VALUE}}\" }}\ntimeout = \"60s\"\n"
    );
    let pipe = pipe(&sink);
    let secret = |arguments: &[&str]| Said::of(pipe.command(arguments).env("PIPE_TEST_VALUE", "s3cr3t-value"));
    let Said { status, stdout, stderr: log } = secret(&RUN);
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("sink.post: posting to http://127.0.0.1"), "{log}");

    let mut scalars = Vec::new();
    while let Ok((header, body)) = posts.recv_timeout(Duration::from_millis(200)) {
        assert!(header.to_lowercase().contains("authorization: bearer s3cr3t-value"), "{header}");
        scalars.extend(body["scalars"].as_array().expect("a list").clone());
    }
    let recorded = pipe.scalars("run");
    assert!(recorded.len() >= 36, "{} recorded", recorded.len());
    assert_eq!(scalars.len(), recorded.len());
    for (posted, record) in scalars.iter().zip(&recorded) {
        assert_eq!(
            (&posted["tag"], &posted["value"], &posted["step"]),
            (&record["tag"], &record["value"], &record["step"])
        );
    }

    let shown = secret(&["show", "children.toml"]).stdout;
    assert!(shown.contains("<secret>"), "{shown}");
    let mut everything = log + &stdout + &shown;
    for file in ["run/run.json", "run/pipeline.toml", "run/records.jsonl"] {
        everything += &pipe.read(file);
    }
    assert!(!everything.contains("s3cr3t-value"), "{everything}");
}

#[test]
fn children_that_fail_neither_stop_nor_change_a_run() {
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
    let pipe = pipe(&(sinks + handler));
    let log = pipe.ok(&RUN).stderr;
    assert!(log.contains("sink.dying: the child process failed (exit status: 3); it is restarted"), "{log}");
    assert!(
        log.contains("sink.dying: the child process failed (exit status: 3); the run continues without it"),
        "{log}"
    );
    assert!(log.contains("sink.hanging: the child process"), "{log}");
    assert!(log.contains("handler.dead: the child process ended by itself"), "{log}");
    let records = pipe.read("run/records.jsonl");
    assert_eq!(records.lines().filter(|line| line.contains("train/loss")).count(), 12);
}

#[test]
fn answers_are_recorded_and_can_end_the_run() {
    let script = r#"read -r hello; n=0
while read -r line; do n=$((n+1)); case "$line" in *finish*) exit 0;; esac
[ $n = 2 ] && end='"run"' || end=null
echo "{\"type\":\"answer\",\"id\":$n,\"scalars\":{\"calls\":$n},\"terminate\":$end}"; done"#;
    let handler = "[handler.answer]\ntype = \"process\"\ncommand = [\"sh\", \"answer.sh\"]\nanswer = true\ndir = \".\"\n\
                   timeout = \"60s\"\n\n[[on]]\nevent = \"engine.trainer:epoch_completed\"\nrun = [\"handler.answer\"]\n";
    let pipe = pipe(handler);
    pipe.write("answer.sh", script);
    pipe.ok(&RUN);
    let mut calls = pipe.scalars("run");
    calls.retain(|record| record["tag"] == "calls");
    let seen: Vec<_> = calls.iter().map(|record| (record["value"].as_f64(), record["node"].as_str())).collect();
    assert_eq!(
        seen,
        [(Some(1.0), Some("handler.answer")), (Some(2.0), Some("handler.answer"))],
        "the run ended after two epochs"
    );
}

#[test]
fn with_raise_a_dead_child_ends_the_run_and_is_named() {
    let sink = "[sink.needed]\ntype = \"process\"\ncommand = [\"sh\", \"-c\", \"exit 9\"]\non_failure = \"raise\"\n\
                restart = { policy = \"never\" }\n";
    let Said { status, stderr: log, .. } = pipe(sink).run(&RUN);
    assert_eq!(status, Some(1), "{log}");
    assert!(log.contains("sink.needed") && log.contains("exit status: 9"), "{log}");
}
