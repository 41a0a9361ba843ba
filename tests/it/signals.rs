//! Signals to a run: each ends it with a checkpoint and its own exit status, a second one at once.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pipe_test_support::skip;

use super::program::{Pipe, Said};

/// A run of 16 iterations that a script may disturb after the fifth.
const PIPELINE: &str = r#"
[handler.checkpoint]
type = "checkpoint"
keep_last = 10

[handler.script]
type = "process"
command = ["sh", "script.sh"]
answer = true
dir = "."
timeout = "120s"
on_failure = "raise"

[[on]]
event = "engine.trainer:iteration_completed"
once = [5]
run = ["handler.script"]

[[on]]
event = "engine.trainer:completed"
run = ["handler.checkpoint"]
"#;

/// A folder whose pipeline runs `script` in the middle of the run, which waits for its end.
pub fn disturbed(script: &str) -> Pipe {
    let pipe = Pipe::digits("life.toml", PIPELINE);
    let around = format!(
        "read -r hello\nn=0\nwhile read -r line; do\n  case \"$line\" in *'\"type\":\"finish\"'*) exit 0 ;; esac\n  \
         n=$((n + 1))\n  {script}\n  echo \"{{\\\"type\\\":\\\"answer\\\",\\\"id\\\":$n}}\"\ndone\n"
    );
    pipe.write("script.sh", &around);
    pipe
}

const RUN: [&str; 5] = ["run", "life.toml", "--quiet", "--out", "run"];

/// Waits for something that comes, or fails after a time that nothing takes.
pub fn wait_for(what: &str, mut come: impl FnMut() -> bool) {
    let start = Instant::now();
    while !come() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what} did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn kill(signal: &str, process: u32) {
    let sent = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}

pub fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

#[test]
fn each_signal_ends_a_run_with_a_checkpoint_and_its_own_status() {
    let expected = disturbed("true");
    expected.ok(&RUN);
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let pipe = disturbed(&format!("kill -{signal} $PPID; sleep 1"));
        let cut = pipe.run(&RUN);
        assert_eq!(cut.status, Some(status), "{signal}: {}", cut.stderr);
        assert!(cut.stderr.contains("resume with: pipe run life.toml --resume run"), "{signal}: {}", cut.stderr);
        assert_eq!(pipe.json("run/run.json")["status"], "interrupted");
        assert_eq!(pipe.json("run/run.json")["checkpoints"], serde_json::json!(["step_000005"]));
        pipe.ok(&["run", "life.toml", "--quiet", "--resume", "run"]);
        assert_eq!(pipe.scalars("run"), expected.scalars("run"), "{signal}");
    }
}

#[test]
fn a_hangup_that_is_to_be_ignored_and_sigusr2_end_nothing() {
    let pipe = disturbed("kill -HUP $PPID; kill -USR2 $PPID; sleep 0.2");
    let said = Said::of(&mut pipe.command_after("trap '' HUP;", &RUN));
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert_eq!(pipe.json("run/run.json")["status"], "done");
    let said = pipe.read("run/console.log");
    assert!(said.contains("checkpoint run/checkpoints/step_") && said.contains("was saved"), "{said}");
}

#[test]
fn a_second_signal_ends_a_run_at_once_and_cleanly() {
    let count = std::env::var("PIPE_DOUBLE_SIGNALS").ok().and_then(|count| count.parse().ok()).unwrap_or(20);
    for attempt in 0..count {
        // In the midst of training, of a checkpoint, of the end; every other one while the run waits for the script.
        let pipe =
            disturbed(&format!("kill -INT $PPID; sleep 0.{:03}; kill -INT $PPID; sleep 2", 4 + attempt * 7 % 60));
        let (answer, out) = (format!("handler.script.answer={}", attempt % 2 == 0), format!("run{attempt}"));
        let more = ["--set", &answer, "--set", "engine.trainer.max_epochs=100000", "--out", &out];
        let output = pipe.command(&[&RUN[..3], &more].concat()).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.signal(), None, "attempt {attempt}: {said}");
        assert_eq!(output.status.code(), Some(130), "attempt {attempt}: {said}");
    }
}

#[test]
fn a_signal_while_the_run_is_built_ends_it_at_once_and_says_so() {
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("USR1", 138)] {
        let pipe = disturbed("true");
        // The data are drawn first, which takes its time.
        let mut run = start(pipe.command(&RUN).env("PIPE_CACHE", pipe.path("cache")));
        wait_for("run.json", || pipe.path("run/run.json").exists());
        kill(signal, run.id());
        assert_eq!(run.wait().expect("it ends").code(), Some(status), "{signal}");
        let info = pipe.json("run/run.json");
        assert_eq!((info["status"].as_str(), info["ended"].is_number()), (Some("interrupted"), true), "{info}");
        assert!(!pipe.path("run/checkpoints").exists());
    }
}

#[test]
fn a_step_that_takes_long_is_said_to() {
    let pipe = disturbed("kill -TERM $PPID; sleep 11");
    let said = pipe.run(&RUN);
    assert_eq!(said.status, Some(143), "{}", said.stderr);
    assert!(
        said.stderr.contains("the step is still running, or its checkpoint being written (10 s)"),
        "{}",
        said.stderr
    );
}

#[test]
fn as_the_first_process_of_a_container_too() {
    let allowed = Command::new("unshare").args(["-Urfp", "--mount-proc", "true"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        return skip!("no namespace of processes can be made here");
    }
    let pipe = disturbed("echo $PPID > parent; kill -TERM $PPID; sleep 1");
    let mut command = Command::new("unshare");
    command.args(["-Urfp", "--mount-proc", env!("CARGO_BIN_EXE_pipe")]).args(RUN);
    let own = pipe.command(&[]);
    command.current_dir(pipe.folder());
    own.get_envs().for_each(|(name, value)| match value {
        Some(value) => drop(command.env(name, value)),
        None => drop(command.env_remove(name)),
    });
    let said = Said::of(&mut command);
    assert_eq!(said.status, Some(143), "{}", said.stderr);
    assert_eq!(pipe.read("parent"), "1\n");
    assert_eq!(pipe.names("run/checkpoints"), ["step_000005"]);
}
