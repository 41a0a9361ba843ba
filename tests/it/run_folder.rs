//! The folder of a run: one writer, how it stands, and the commands that go on with it.

use pipe_test_support::skip;
use serde_json::{Value, json};

use super::program::{Pipe, Said};
use super::signals::{disturbed, kill, start, wait_for};

const RUN: [&str; 3] = ["run", "life.toml", "--quiet"];

fn run(pipe: &Pipe, more: &[&str]) -> Said {
    pipe.run(&[&RUN[..], more].concat())
}

#[track_caller]
fn ok(pipe: &Pipe, more: &[&str]) -> Said {
    pipe.ok(&[&RUN[..], more].concat())
}

/// A command line that is refused before anything is done.
#[track_caller]
fn refused(pipe: &Pipe, more: &[&str]) -> String {
    let said = run(pipe, more);
    assert_eq!(said.status, Some(2), "{more:?}: {}", said.stderr);
    said.stderr
}

/// The only run under `runs/digits` that is not in `before`.
fn new_run(pipe: &Pipe, before: &[String]) -> String {
    let names = pipe.names("runs/digits");
    let mut new: Vec<&String> = names.iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(new.len(), 1, "{names:?}");
    format!("runs/digits/{}", new.remove(0))
}

/// Cuts runs off after iteration 5 while there is a file `cut`; without a checkpoint while there is a file `kill`.
const CUT: &str = "if [ -e kill ]; then kill -KILL $PPID; elif [ -e cut ]; then kill -TERM $PPID; sleep 1; fi";

/// A run under `runs/digits` that was cut off at iteration 5 as `how` says.
fn cut(pipe: &Pipe, how: &str, more: &[&str]) -> String {
    let before = if pipe.path("runs/digits").exists() { pipe.names("runs/digits") } else { Vec::new() };
    pipe.write(how, "");
    let said = run(pipe, more);
    assert_eq!(said.status, if how == "kill" { None } else { Some(143) }, "{}", said.stderr);
    std::fs::remove_file(pipe.path(how)).expect("removed");
    new_run(pipe, &before)
}

#[test]
fn of_four_that_start_in_one_folder_one_runs() {
    let pipe = disturbed("sleep 1");
    let children: Vec<_> = (0..4).map(|_| start(&mut pipe.command(&[&RUN[..], &["--out", "run"]].concat()))).collect();
    let ended = children.into_iter().map(|child| child.wait_with_output().expect("it ends"));
    let mut ended: Vec<_> =
        ended.map(|output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())).collect();
    ended.sort();
    assert_eq!(ended.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [0, 2, 2, 2].map(Some), "{ended:?}");
    assert!(ended[1..].iter().all(|(_, said)| said.contains("run") && said.contains("--out")), "{ended:?}");
    assert_eq!(pipe.scalars("run").iter().filter(|record| record["tag"] == "train/loss").count(), 16);
}

#[test]
fn a_folder_that_holds_something_is_not_mixed_up_with_a_new_run() {
    let pipe = disturbed("true");
    ok(&pipe, &["--out", "run"]);
    let before = pipe.read("run/records.jsonl");
    let said = refused(&pipe, &["--out", "run"]);
    assert!(said.contains("run holds a run already (done)") && said.contains("`--resume run`"), "{said}");
    std::fs::create_dir(pipe.path("mine")).expect("made");
    pipe.write("mine/notes.txt", "mine");
    assert!(refused(&pipe, &["--out", "mine"]).contains("no run's (notes.txt)"));
    assert_eq!(pipe.names("mine"), ["notes.txt"]);
    assert_eq!(pipe.read("run/records.jsonl"), before);
    let failed = run(&pipe, &["--out", "digits.toml/run"]);
    assert_eq!(failed.status, Some(1));
    assert!(failed.stderr.contains("digits.toml/run") && failed.stderr.contains("Not a directory"), "{failed:?}");
}

#[test]
fn a_full_disk_and_one_that_cannot_be_written_are_named_at_once() {
    let mount = |more: &str| format!("mkdir disk && mount -t tmpfs -o size=4k{more} tmpfs disk");
    for (script, because) in [
        (format!("{} && head -c 4096 /dev/zero > disk/x", mount("")), "No space left on device"),
        (mount(",ro"), "Read-only file system"),
    ] {
        let pipe = disturbed("true");
        let own = pipe.command_after(&format!("{script} || exit 99;"), &[&RUN[..], &["--out", "disk/run"]].concat());
        let mut command = std::process::Command::new("unshare");
        command.arg("-Urm").arg(own.get_program()).args(own.get_args()).current_dir(pipe.folder());
        own.get_envs().filter_map(|(name, value)| Some((name, value?))).for_each(|(name, value)| {
            command.env(name, value);
        });
        let said = Said::of(&mut command);
        if said.status != Some(1) || !said.stderr.contains("disk/run") {
            assert!(said.stderr.contains("unshare") || said.status == Some(99), "{}", said.stderr);
            return skip!("no file system can be mounted here");
        }
        assert!(said.stderr.contains(because), "{}", said.stderr);
    }
}

#[test]
fn a_run_at_work_is_known_and_one_that_was_killed_is_lost() {
    let pipe = disturbed("touch there; sleep 600");
    let mut child = start(&mut pipe.command(&[&RUN[..], &["--out", "run"]].concat()));
    wait_for("the iteration", || pipe.path("there").exists());
    let said = refused(&pipe, &["--resume", "auto", "--out", "run"]);
    assert!(said.contains(&format!("a run at work (process {} on", child.id())), "{said}");
    kill("KILL", child.id());
    child.wait().expect("it ends");
    assert_eq!(pipe.json("run/run.json")["status"], "running", "it could not say");
    let said = refused(&pipe, &["--out", "run"]);
    assert!(said.contains("holds a run already (lost)"), "{said}");
}

#[test]
fn auto_is_one_command_for_every_life() {
    let whole = disturbed("true");
    ok(&whole, &["--out", "run"]);
    for out in [&[][..], &["--out", "run"]] {
        let pipe = disturbed(CUT);
        std::fs::create_dir_all(pipe.path("runs/digits")).expect("made");
        let auto = |pipe: &Pipe| run(pipe, &[&["--resume", "auto"], out].concat());
        // The first life ends before there is a checkpoint, the second with one.
        for (how, status) in [("kill", None), ("cut", Some(143))] {
            pipe.write(how, "");
            let said = auto(&pipe);
            assert_eq!(said.status, status, "{}", said.stderr);
            std::fs::remove_file(pipe.path(how)).expect("removed");
        }
        assert_eq!(auto(&pipe).status, Some(0));
        let folder = if out.is_empty() { new_run(&pipe, &[]) } else { "run".into() };
        assert_eq!(pipe.scalars(&folder), whole.scalars("run"));
        let info = pipe.json(&format!("{folder}/run.json"));
        assert_eq!((info["status"].clone(), info["earlier"].as_array().map(Vec::len)), (json!("done"), Some(2)));
        assert_eq!(info["created"], info["earlier"][0]["created"]);
        // One that is done is not begun again in its folder; without one, a new one begins.
        let last = auto(&pipe);
        assert_eq!(last.status, Some(0), "{}", last.stderr);
        if !out.is_empty() {
            assert!(last.stderr.contains("run is done, and its pipeline is the same"), "{}", last.stderr);
            assert_eq!(pipe.json("run/run.json"), info, "nothing was written");
        }
        assert_eq!(pipe.scalars(&folder), whole.scalars("run"));
        if out.is_empty() {
            assert_eq!(pipe.names("runs/digits").len(), 2);
        }
    }
}

#[test]
fn latest_is_the_newest_by_its_creation_and_no_other() {
    let pipe = disturbed(CUT);
    assert!(refused(&pipe, &["--resume", "latest"]).contains("there is no run of `digits` under runs"));
    // By its name it would be the newest for ever.
    let first = cut(&pipe, "cut", &["--out", "runs/digits/zzz"]);
    let second = cut(&pipe, "cut", &[]);
    ok(&pipe, &["--resume", "latest"]);
    assert_eq!(pipe.json(&format!("{second}/run.json"))["status"], "done");
    assert_eq!(pipe.json(&format!("{first}/run.json"))["status"], "interrupted");
    let third = cut(&pipe, "kill", &[]);
    let said = refused(&pipe, &["--resume", "latest"]);
    assert!(said.contains(&format!("the newest run, {third} (lost), has no checkpoint")), "{said}");
    assert!(said.contains(&format!("the next older one is {second} (done) at step 16; `--resume {second}`")), "{said}");
    // A run given in place of a file is the one that is meant.
    pipe.ok(&["run", &first, "--quiet", "--resume", "latest"]);
    assert_eq!(pipe.json(&format!("{first}/run.json"))["status"], "done");
    assert!(refused(&pipe, &["--resume", "nowhere"]).contains("there is no run at nowhere"));
}

#[test]
fn a_run_whose_checkpoints_are_all_damaged_is_not_begun_again() {
    let pipe = disturbed(CUT);
    pipe.write("cut", "");
    run(&pipe, &["--out", "run"]);
    pipe.write("run/checkpoints/step_000005/state.json", "{");
    for resume in ["auto", "run"] {
        let out: &[&str] = if resume == "auto" { &["--out", "run"] } else { &[] };
        let said = refused(&pipe, &[&["--resume", resume], out].concat());
        assert!(said.contains("none of step_000005 is whole"), "{said}");
    }
}

#[test]
fn a_checkpoint_begins_a_new_run_and_the_old_one_only_in_place() {
    let pipe = disturbed("true");
    let each = ["--set", "engine.trainer.max_epochs=4", "--set", "handler.checkpoint.keep_last=9"];
    let more = "[[on]]\nevent = \"engine.trainer:epoch_completed\"\nrun = [\"handler.checkpoint\"]\n";
    pipe.write("life.toml", &format!("{}{more}", pipe.read("life.toml")));
    ok(&pipe, &[&["--out", "run"], &each[..]].concat());
    let whole = pipe.scalars("run");
    let before = pipe.read("run/records.jsonl");
    ok(&pipe, &["--resume", "run/checkpoints/step_000008"]);
    let fork = new_run(&pipe, &[]);
    assert_eq!(pipe.scalars(&fork), whole, "its charts are whole");
    assert_eq!(pipe.read("run/records.jsonl"), before, "the old run is as it was");
    let from = pipe.json(&format!("{fork}/run.json"))["forked_from"].clone();
    assert_eq!(from, json!({ "run": "run", "checkpoint": "step_000008", "step": 8 }));

    // The changes are said of a fork, too.
    let arguments = ["run", "life.toml", "--resume", "run", "--out", "other", "--set", "optimizer.sgd.lr=0.01"];
    let said = pipe.ok(&arguments).stderr;
    assert!(said.contains("changed since the last run") && said.contains("optimizer.sgd.lr"), "{said}");
    assert!(pipe.path("other/run.json").exists());

    assert!(refused(&pipe, &["--resume", "run/checkpoints/step_000008", "--out", "run"]).contains("--in-place"));
    let arguments = ["run", "life.toml", "--resume", "run/checkpoints/step_000008", "--in-place"];
    assert!(pipe.ok(&arguments).stderr.contains("resuming from step 8"));
    assert_eq!(pipe.scalars("run"), whole);
    assert_eq!(pipe.json("run/run.json")["earlier"].as_array().map(Vec::len), Some(1));
}

#[test]
fn other_data_are_refused_and_other_versions_are_said() {
    let pipe = disturbed(CUT);
    pipe.write("cut", "");
    run(&pipe, &["--out", "run"]);
    std::fs::remove_file(pipe.path("cut")).expect("removed");
    let mut info = pipe.json("run/run.json");
    let data = &info["data"]["dataset.train"];
    assert_eq!((data["type"].as_str(), data["samples"].as_u64()), (Some("mnist"), Some(64)), "{info}");
    assert!(data["fingerprint"].as_str().is_some_and(|text| text.starts_with("crc32:")), "{info}");
    let other = ["--resume", "run", "--set", "dataset.train.split='test'"];
    let before = pipe.read("run/records.jsonl");
    // A second try is no way round it.
    for _ in 0..2 {
        let said = run(&pipe, &other);
        assert_eq!(said.status, Some(1));
        assert!(said.stderr.contains("dataset.train has other content, as many samples"), "{}", said.stderr);
        assert!(said.stderr.contains("--accept data-changed"), "{}", said.stderr);
    }
    assert_eq!(pipe.read("run/records.jsonl"), before);

    info["versions"]["pipe"] = Value::from("0.0.1");
    pipe.write("run/run.json", &info.to_string());
    let accepted = [&["run", "life.toml", "--accept", "data-changed"], &other[..]].concat();
    let said = pipe.ok(&accepted).stderr;
    assert!(said.contains("changed since the last run: version of pipe: 0.0.1 → "), "{said}");
    assert!(said.contains("split"), "{said}");
}

#[test]
fn a_folder_that_is_removed_under_a_run_ends_it_with_an_error() {
    let pipe = disturbed("mv run gone; sleep 0.1");
    let said = run(&pipe, &["--out", "run"]);
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("run, or records.jsonl in it, was removed or replaced"), "{}", said.stderr);
    assert!(!said.stderr.contains("done after"), "{}", said.stderr);
}

#[test]
fn names_stay_in_the_folder_of_runs() {
    let pipe = disturbed("true");
    let said = refused(&pipe, &["--set", "pipeline.name='../../x'"]);
    assert!(said.contains("cannot be the name of a folder"), "{said}");
}

/// A run with a checkpoint each epoch, at steps 4, 8, 12 and 16.
fn saved() -> Pipe {
    let more = "[handler.checkpoint]\ntype = \"checkpoint\"\nkeep_last = 20\n\n[[on]]\nevent = \"engine.trainer:epoch_completed\"\n\
                run = [\"engine.evaluator\", \"handler.checkpoint\"]\n";
    let pipe = Pipe::digits("saved.toml", more);
    pipe.ok(&["run", "saved.toml", "--quiet", "--out", "run"]);
    pipe
}

fn killed(pipe: &Pipe, arguments: &[&str], at: &str) {
    let mut command = pipe.command(&[&["run", "saved.toml", "--quiet"], arguments].concat());
    let said = Said::of(command.env("PIPE_TEST_KILL", at));
    assert_eq!(said.status, None, "{}", said.stderr);
}

#[test]
fn a_run_that_went_back_never_goes_on_from_what_it_left() {
    let pipe = saved();
    let (whole, names) = (pipe.scalars("run"), pipe.names("run/checkpoints"));
    let back = ["--resume", "run/checkpoints/step_000008", "--in-place"];
    killed(&pipe, &back, "step:2");
    let left = ["step_000004", "step_000008", "step_000012.abandoned", "step_000016.abandoned"];
    assert_eq!(pipe.names("run/checkpoints"), left);
    let said = pipe.ok(&["run", "saved.toml", "--resume", "auto", "--out", "run"]);
    assert!(said.stderr.contains("resuming from step 8"), "{}", said.stderr);
    assert_eq!((pipe.scalars("run"), pipe.names("run/checkpoints")), (whole.clone(), names.clone()));
    // Also one that is done trains what it went back behind.
    pipe.ok(&[&["run", "saved.toml", "--quiet"], &back[..]].concat());
    assert_eq!((pipe.scalars("run"), pipe.names("run/checkpoints")), (whole, names));
}

#[test]
fn a_fork_that_is_cut_off_at_once_begins_where_it_began() {
    let pipe = saved();
    killed(&pipe, &["--resume", "run/checkpoints/step_000008", "--out", "fork"], "step:1");
    // As if it had not come to a checkpoint of its own.
    std::fs::remove_dir_all(pipe.path("fork/checkpoints")).expect("removed");
    let said = pipe.ok(&["run", "saved.toml", "--resume", "auto", "--out", "fork"]);
    assert!(said.stderr.contains("begins again from"), "{}", said.stderr);
    assert_eq!(pipe.scalars("fork"), pipe.scalars("run"));
    // It has its own of the step that it began from.
    assert_eq!(pipe.names("fork/checkpoints"), ["step_000008", "step_000012", "step_000016"]);
    std::fs::remove_dir_all(pipe.path("fork/checkpoints")).expect("removed");
    std::fs::remove_dir_all(pipe.path("run")).expect("removed");
    pipe.write("fork/run.json", &pipe.read("fork/run.json").replace("\"done\"", "\"interrupted\""));
    let said = refused_file(&pipe, "saved.toml", &["--resume", "auto", "--out", "fork"]);
    assert!(said.contains("the one that it began from is not there"), "{said}");
}

fn refused_file(pipe: &Pipe, file: &str, more: &[&str]) -> String {
    let said = pipe.run(&[&["run", file], more].concat());
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    said.stderr
}
