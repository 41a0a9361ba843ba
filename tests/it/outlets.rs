//! Nobody listens to the program: a pipe whose reader is gone, a full disk behind a redirection, closed files.

use std::process::Command;

use super::program::{Pipe, Said};
use super::signals::disturbed;

/// Runs a line of a shell in which `$PIPE` is the program; bash for the statuses of pipelines.
fn shell(pipe: &Pipe, line: &str) -> Said {
    let mut command = Command::new("bash");
    command.args(["-c", line]).current_dir(pipe.folder()).env("PIPE", env!("CARGO_BIN_EXE_pipe"));
    pipe.command(&[]).get_envs().for_each(|(name, value)| match value {
        Some(value) => drop(command.env(name, value)),
        None => drop(command.env_remove(name)),
    });
    Said::of(&mut command)
}

#[test]
fn a_run_goes_on_whoever_listens() {
    let ways = [
        "$PIPE run life.toml --out run 2>&1 | head -n 1; exit ${PIPESTATUS[0]}",
        "$PIPE run life.toml --out run 2>/dev/full",
        "$PIPE run life.toml --out run >/dev/full 2>&1",
        "$PIPE run life.toml --out run >&- 2>&-",
        "$PIPE run life.toml --out run --log-format json 2>/dev/full",
        "$PIPE run life.toml --out run --log-format json 2>&1 | true; exit ${PIPESTATUS[0]}",
    ];
    for way in ways {
        let pipe = disturbed("sleep 0.2");
        let said = shell(&pipe, way);
        assert_eq!(said.status, Some(0), "{way}: {}", said.stderr);
        assert_eq!(pipe.json("run/run.json")["status"], "done", "{way}");
        assert_eq!(pipe.names("run/checkpoints"), ["step_000016"], "{way}");
        let kept = pipe.read("run/console.log");
        assert!(kept.contains("done after"), "{way}: {kept}");
    }
}

#[test]
fn a_run_that_nobody_listens_to_is_interrupted_as_any_other() {
    let pipe = disturbed("kill -TERM $PPID; sleep 1");
    let said = shell(&pipe, "$PIPE run life.toml --out run 2>&1 | true; exit ${PIPESTATUS[0]}");
    assert_eq!(said.status, Some(143), "{}", said.stderr);
    assert_eq!(pipe.names("run/checkpoints"), ["step_000005"]);
}

#[test]
fn commands_whose_reader_is_gone_end_quietly() {
    let pipe = disturbed("true");
    for command in ["show life.toml", "graph life.toml", "components", "schema", "check life.toml --format json"] {
        let line = format!("$PIPE {command} | true; exit ${{PIPESTATUS[0]}}");
        let said = shell(&pipe, &line);
        assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{command}");
        let full = shell(&pipe, &format!("$PIPE {command} > /dev/full"));
        assert_eq!(full.status, Some(1), "{command}: what was asked for is not there");
        assert!(
            full.stderr.contains("No space left") && !full.stderr.contains("panicked"),
            "{command}: {}",
            full.stderr
        );
    }
    let wrong = shell(&pipe, "$PIPE check life.toml --set optimizer.sgd.lrr=1 2>/dev/full");
    assert_eq!(wrong.status, Some(2));
}

#[test]
fn what_a_run_says_is_kept_in_its_folder() {
    let pipe = disturbed("true");
    let said = pipe.ok(&["run", "life.toml", "--out", "run"]);
    let kept = pipe.read("run/console.log");
    for line in said.stderr.lines() {
        // Lines of the log carry the time as well.
        let text = line.trim_start().trim_start_matches("INFO ").trim();
        assert!(kept.contains(text), "{text:?} is not in {kept}");
    }
    pipe.ok(&["run", "life.toml", "--quiet", "--resume", "run", "--set", "engine.trainer.max_epochs=5"]);
    let both = pipe.read("run/console.log");
    assert!(both.starts_with(&kept) && both.contains("resuming from step 16"), "{both}");
    let failed = pipe.run(&["run", "life.toml", "--out", "other", "--set", "dataset.train.root=nowhere"]);
    assert_eq!(failed.status, Some(1));
    let kept = pipe.read("other/console.log");
    assert!(kept.contains("error: cannot build dataset.train"), "{kept}");
}
