//! The test programs: built once, then run several beside each other, as most of them leave cores idle.

use std::collections::VecDeque;
use std::io::{Read, pipe};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::lint::Lint;
use crate::shell::{cargo, words};

/// What takes long, by its source: begun first, in this order; and in how many seconds each should end on two slow cores, beside others.
const LONG: [(&str, u64); 3] =
    [("tests/it/main.rs", 300), ("tests/stand_in/main.rs", 300), ("crates/vision/tests/it/main.rs", 200)];

/// The seconds of any other.
const SHORT: u64 = 60;

/// How many run at once.
const BESIDE: usize = 2;

/// Tests that are run by one command.
pub(crate) struct Suite {
    /// The file with the program's `main` or the library's root, in the checkout.
    pub(crate) name: String,
    command: Command,
}

/// What a suite came to.
pub(crate) struct Ended {
    pub(crate) name: String,
    /// Standard output and standard error, as they came.
    pub(crate) output: String,
    pub(crate) status: ExitStatus,
    took: Duration,
}

/// Without the allocator of the released program, whose C takes a minute on two cores.
pub(crate) const NO_FEATURES: &str = "--no-default-features";

/// Builds all test programs; the suites, with the tests of documentation.
pub(crate) fn build(root: &Path, libtorch: &Path, lint: &Lint) -> Result<Vec<Suite>> {
    let mut build = cargo(root, libtorch);
    lint.tell(&mut build);
    build.args([
        "test",
        "--workspace",
        NO_FEATURES,
        "--no-run",
        "--quiet",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let output = build.stderr(Stdio::inherit()).output().with_context(|| format!("cannot run {}", words(&build)))?;
    if !output.status.success() {
        bail!("`{}` failed ({})", words(&build), output.status);
    }
    let programs = programs(root, &String::from_utf8_lossy(&output.stdout));
    let mut suites: Vec<_> = programs
        .into_iter()
        .map(|(name, program, package)| {
            // In the surroundings that cargo gives a test.
            let mut command = Command::new(program);
            command.envs(cargo(root, libtorch).get_envs().filter_map(|(name, value)| Some((name, value?))));
            command.env("CARGO_MANIFEST_DIR", &package).current_dir(package);
            Suite { name, command }
        })
        .collect();
    let mut documentation = cargo(root, libtorch);
    documentation.args(["test", "--workspace", NO_FEATURES, "--doc", "--no-fail-fast", "--quiet"]);
    suites.push(Suite { name: "documentation".into(), command: documentation });
    suites.sort_by_key(|suite| LONG.iter().position(|(name, _)| *name == suite.name).unwrap_or(LONG.len()));
    Ok(suites)
}

/// Source, program and package's folder of each test program that cargo's messages name.
fn programs(root: &Path, messages: &str) -> Vec<(String, PathBuf, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let tests = messages.filter(|message| message["profile"]["test"] == true);
    let program = |message: Value| {
        let text = |value: &Value| value.as_str().map(PathBuf::from);
        let source = text(&message["target"]["src_path"])?;
        let name = source.strip_prefix(root).unwrap_or(&source).display().to_string();
        Some((name, text(&message["executable"])?, text(&message["manifest_path"])?.parent()?.to_path_buf()))
    };
    tests.filter_map(program).collect()
}

/// Runs them all, several beside each other. `set` says what more each command is told, `ended` gets each as it ends.
pub(crate) fn run(suites: Vec<Suite>, set: impl Fn(&mut Command) + Sync, mut ended: impl FnMut(&Ended)) -> Result<()> {
    let waiting = Mutex::new(VecDeque::from(suites));
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let (sender, receiver) = mpsc::channel();
    let mut times = Vec::new();
    thread::scope(|scope| {
        for _ in 0..BESIDE {
            let (sender, next, set) = (sender.clone(), &next, &set);
            scope.spawn(move || {
                while let Some(mut suite) = next() {
                    set(&mut suite.command);
                    // Nobody listens any more after an error.
                    if sender.send(suite.run()).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for suite in receiver {
            let suite = suite?;
            ended(&suite);
            times.push(suite.time());
        }
        anyhow::Ok(())
    })?;
    print!("\n{}", times.concat());
    Ok(())
}

impl Suite {
    fn run(self) -> Result<Ended> {
        let Self { name, mut command } = self;
        let begin = Instant::now();
        let (mut reader, writer) = pipe().context("make a pipe")?;
        command.stdin(Stdio::null()).stdout(writer.try_clone().context("share a pipe")?).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", words(&command)))?;
        // It holds the writing end.
        drop(command);
        let mut output = Vec::new();
        reader.read_to_end(&mut output).with_context(|| format!("read what {name} says"))?;
        let output = String::from_utf8_lossy(&output).into_owned();
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        Ok(Ended { name, output, status, took: begin.elapsed() })
    }
}

impl Ended {
    /// A line for one that took long, or longer than it should.
    fn time(&self) -> String {
        let long = LONG.iter().find(|(name, _)| *name == self.name);
        let (budget, took) = (long.map_or(SHORT, |(_, budget)| *budget), self.took.as_secs());
        match (took > budget, long) {
            (true, _) => format!("{}: {took} s, and should take {budget} s at most\n", self.name),
            (false, Some(_)) => format!("{}: {took} s of {budget}\n", self.name),
            (false, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_those_that_cargo_names() {
        let message = |test: bool, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/r/a/Cargo.toml","target":{{"src_path":"/r/a/src/lib.rs"}},"profile":{{"test":{test}}},"executable":{executable}}}"#
            )
        };
        let messages = [message(true, "\"/t/a-1\""), message(false, "\"/t/a\""), message(true, "null"), "{}".into()];
        let found = programs(Path::new("/r"), &messages.join("\n"));
        assert_eq!(found, [("a/src/lib.rs".to_owned(), "/t/a-1".into(), "/r/a".into())]);
    }

    #[cfg(unix)]
    #[test]
    fn each_is_run_once_and_told_what_it_needs() {
        let suite = |number: usize| {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("echo \"$SAID {number}\"; echo again >&2; exit {number}")]);
            Suite { name: number.to_string(), command }
        };
        let mut seen = Vec::new();
        let set = |command: &mut Command| {
            command.env("SAID", "said");
        };
        run((0..5).map(suite).collect(), set, |ended| {
            seen.push((ended.name.clone(), ended.output.clone(), ended.status.code()));
        })
        .unwrap();
        seen.sort();
        let wanted = |number: i32| (number.to_string(), format!("said {number}\nagain\n"), Some(number));
        assert_eq!(seen, (0..5).map(wanted).collect::<Vec<_>>());
    }
}
