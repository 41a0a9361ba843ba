//! Children that behave, and those that do not.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::*;

fn child(folder: &Path, script: &str, more: Value) -> Child {
    let mut table = json!({ "command": ["sh", "-c", script], "dir": folder.display().to_string(), "timeout": "300ms",
        "restart": { "policy": "never" } });
    table.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Child::start("sink.test", serde_json::from_value(table).unwrap(), folder).unwrap()
}

fn lines(folder: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits for what other threads do; fails after a time that is long for any machine.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_line_arrives_in_order_between_a_greeting_and_an_end() {
    let folder = tempfile::tempdir().unwrap();
    let env = json!({ "env": { "WHERE": "out" }, "timeout": "60s" });
    let mut child = child(folder.path(), "cat > $WHERE", env);
    for i in 0..500 {
        child.send(&json!({ "i": i })).unwrap();
    }
    child.finish(&json!({ "type": "finish" })).unwrap();
    child.finish(&json!({ "type": "twice" })).unwrap();
    let got = lines(folder.path(), "out");
    assert_eq!((got[0]["type"].as_str(), got[0]["protocol"].as_u64()), (Some("hello"), Some(1)));
    assert!((0..500).all(|i| got[i + 1]["i"] == i));
    assert_eq!(got[501..], [json!({ "type": "finish" })]);
}

#[test]
fn a_child_that_does_not_read_is_stopped_and_never_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = child(folder.path(), "exec sleep 600", json!({ "queue": 2 }));
    // More than a pipe holds, so that writing stands still.
    let long = json!("x".repeat(300_000));
    for _ in 0..20 {
        child.send(&long).unwrap();
    }
    assert!(child.lost >= 17, "{} lost", child.lost);
    until("the end of the child", || {
        child.send(&long).unwrap();
        child.shared.ended().is_some()
    });
    assert_eq!(child.shared.ended().unwrap(), "read nothing for 300ms and was stopped");
    child.finish(&json!({})).unwrap();
}

#[test]
fn with_block_the_run_waits_for_a_slow_child_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let script = "while read -r line; do echo \"$line\" >> out; sleep 0.002; done";
    let mut child = child(folder.path(), script, json!({ "queue": 1, "when_full": "block", "timeout": "60s" }));
    let long = "y".repeat(5_000);
    for i in 0..40 {
        child.send(&json!({ "i": i, "text": long })).unwrap();
    }
    child.finish(&json!({})).unwrap();
    assert_eq!((child.lost, lines(folder.path(), "out").len()), (0, 42));
}

#[test]
fn a_child_that_dies_is_started_again_and_then_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let restart = json!({ "restart": { "max": 2, "backoff": "1ms" }, "timeout": "60s" });
    let mut child = child(folder.path(), "read -r line; echo \"$line\" >> out; exit 3", restart);
    until("the last life", || {
        child.send(&json!({})).unwrap();
        child.shared.ended().is_some()
    });
    assert_eq!(lines(folder.path(), "out").iter().filter(|line| line["type"] == "hello").count(), 3);
    assert_eq!(child.shared.ended().unwrap(), "failed (exit status: 3)");
    child.send(&json!({})).unwrap();
    child.finish(&json!({})).unwrap();
    assert!(child.lost >= 2, "what came after the end is counted");
}

#[test]
fn a_child_that_says_goodbye_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = child(folder.path(), "echo life >> lives", json!({ "restart": { "backoff": "1ms" } }));
    until("its end", || child.shared.ended().is_some());
    assert_eq!(child.shared.ended().unwrap(), "ended by itself, with status 0");
    child.finish(&json!({})).unwrap();
    assert_eq!(std::fs::read_to_string(folder.path().join("lives")).unwrap(), "life\n");
}

#[test]
fn garbage_is_only_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let script = "head -c 300000 /dev/urandom; head -c 300000 /dev/zero; cat > out; head -c 300000 /dev/urandom >&2";
    let mut child = child(folder.path(), script, json!({ "timeout": "60s" }));
    for i in 0..100 {
        child.send(&json!({ "i": i })).unwrap();
    }
    child.finish(&json!({})).unwrap();
    assert_eq!(lines(folder.path(), "out").len(), 102);
}

#[test]
fn a_failure_can_stop_the_run_and_names_the_node() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = child(folder.path(), "exit 7", json!({ "on_failure": "raise" }));
    let mut error = None;
    until("the error", || {
        error = child.send(&json!({})).err();
        error.is_some()
    });
    assert_eq!(error.unwrap().to_string(), "sink.test: the child process failed (exit status: 7)");
    assert!(child.finish(&json!({})).is_err());
}

#[test]
fn a_child_that_does_not_end_is_ended() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = child(folder.path(), "cat > out; exec sleep 600", json!({}));
    child.finish(&json!({})).unwrap();
    assert!(child.shared.gone());
    assert!(child.shared.ended().unwrap().contains("did not exit within 300ms"));
    assert_eq!(lines(folder.path(), "out").len(), 2);
}

#[test]
fn answers_are_matched_and_missing_ones_are_failures() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"read -r hello; read -r one; echo '{"type":"answer","id":0}'; echo '{"type":"answer","id":1,"x":2}'
                    exec sleep 600"#;
    let mut child = child(folder.path(), script, json!({ "timeout": "2s" }));
    child.send(&json!({ "id": 1 })).unwrap();
    assert_eq!(child.answer(1).unwrap().unwrap()["x"], 2);
    child.send(&json!({ "id": 2 })).unwrap();
    assert!(child.answer(2).unwrap().is_none());
    until("its end", || child.shared.ended().is_some());
    assert_eq!(child.shared.ended().unwrap(), "gave no answer for 2s and was stopped");
}

#[test]
fn a_program_that_is_not_there_is_an_error_at_the_start() {
    let config = serde_json::from_value(json!({ "command": ["/nowhere/program"] })).unwrap();
    let error = Child::start("sink.test", config, Path::new(".")).err().unwrap();
    assert!(format!("{error:#}").starts_with("cannot start `/nowhere/program`: "), "{error:#}");
}

#[test]
fn secrets_are_not_in_what_is_printed() {
    let table = json!({ "command": ["true"], "env": { "TOKEN": "hunter2" } });
    let config: ChildConfig = serde_json::from_value(table).unwrap();
    let printed = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!printed.contains("hunter2") && printed.contains("TOKEN"), "{printed}");
    assert_eq!(config.env["TOKEN"].reveal(), "hunter2");
}
