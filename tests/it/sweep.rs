//! `pipe sweep`: many runs as `[sweep]` says, whatever is killed meanwhile. Few kills here; many with `cargo xtask soak sweep`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use pipe_sweep::{Journal, State, Study, Trial};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::program::Pipe;
use super::signals::{kill, wait_for};

/// An evaluation after each of two epochs, and what they are judged by.
const EVALUATED: &str = r#"
engine.trainer.max_epochs = 2

[handler.checkpoint]
type = "checkpoint"

[[on]]
event = "engine.trainer:epoch_completed"
run = ["engine.evaluator", "handler.checkpoint"]

[[sweep.objectives]]
metric = "metric.accuracy:accuracy"
direction = "max"
"#;

fn with(sweep: &str) -> Pipe {
    Pipe::digits("sweep.toml", &format!("{EVALUATED}\n{sweep}"))
}

fn journal(pipe: &Pipe, name: &str) -> Journal {
    Journal::open(&pipe.path(&format!("runs/sweeps/{name}/journal.log")), false).expect("a journal")
}

fn study(pipe: &Pipe, name: &str) -> Study {
    journal(pipe, name).replay().study(name).expect("the study").clone()
}

fn states(study: &Study) -> Vec<State> {
    study.trials.iter().map(|trial| trial.state).collect()
}

/// The last accuracy that a trial's run has recorded.
fn accuracy(pipe: &Pipe, run: &str) -> f64 {
    let records = pipe.scalars(&format!("runs/sweeps/{run}"));
    let last = records.iter().rfind(|record| record["tag"] == "val/accuracy").expect("an accuracy");
    last["value"].as_f64().expect("a number")
}

#[test]
fn a_grid_is_run_in_its_order_and_once() {
    let pipe = with(
        "[sweep]\nsampler = \"grid\"\nkeep = 1\n[sweep.parameters]\n\"optimizer.sgd.lr\" = { choice = [0.2, 0.001] }\n\
         \"optimizer.sgd.momentum\" = { range = [0.0, 0.5], step = 0.5 }\n\
         \"optimizer.sgd.nesterov\" = { choice = [true], when = { \"optimizer.sgd.momentum\" = 0.5 } }\n",
    );
    // Only a choice or an integer can be a condition.
    let refused = pipe.run(&["sweep", "sweep.toml"]);
    assert!(refused.status == Some(2) && refused.stderr.contains("is never 0.5"), "{}", refused.stderr);
    let text = pipe.read("sweep.toml").replace("range = [0.0, 0.5], step = 0.5", "choice = [0.0, 0.5]");
    pipe.write("sweep.toml", &text);
    let said = pipe.ok(&["sweep", "sweep.toml"]);
    let found = study(&pipe, "digits");
    let of = |trial: &Trial, name: &str| trial.outer(name);
    let (lr, momentum, nesterov) = ("optimizer.sgd.lr", "optimizer.sgd.momentum", "optimizer.sgd.nesterov");
    let points: Vec<[Option<Value>; 3]> =
        found.trials.iter().map(|trial| [lr, momentum, nesterov].map(|name| of(trial, name))).collect();
    let expected = [
        [Some(json!(0.2)), Some(json!(0.0)), None],
        [Some(json!(0.2)), Some(json!(0.5)), Some(json!(true))],
        [Some(json!(0.001)), Some(json!(0.0)), None],
        [Some(json!(0.001)), Some(json!(0.5)), Some(json!(true))],
    ];
    assert_eq!(points, expected);
    for trial in &found.trials {
        let run = format!("digits/trial-{:04}", trial.number);
        assert_eq!(
            (trial.state, &trial.values[..]),
            (State::Complete, &[accuracy(&pipe, &run)][..]),
            "{}",
            said.stderr
        );
        assert_eq!(trial.reports.len(), 2);
        let about = pipe.json(&format!("runs/sweeps/{run}/about.json"));
        assert_eq!(
            (&about["group"], &about["name"]),
            (&json!("digits"), &json!(format!("digits-{:04}", trial.number)))
        );
    }
    let best = found.best()[0].number;
    let kept: Vec<u64> =
        (0..4).filter(|at| pipe.path(&format!("runs/sweeps/digits/trial-{at:04}/checkpoints")).is_dir()).collect();
    assert_eq!(kept, [best], "checkpoints of the best alone");
    assert!(said.stdout.ends_with(&format!(
        "4 trials complete, 0 ended early, 0 failed; the best run is runs/sweeps/digits/trial-{best:04}\n"
    )));
    let before = pipe.read("runs/sweeps/digits/journal.log");
    assert_eq!(pipe.ok(&["sweep", "sweep.toml"]).stdout, said.stdout);
    assert_eq!(pipe.read("runs/sweeps/digits/journal.log"), before, "nothing was left to do");
    // Another space is another study.
    pipe.write("sweep.toml", &text.replace("[0.2, 0.001]", "[0.2, 0.002]"));
    let other = pipe.run(&["sweep", "sweep.toml"]);
    assert!(other.status == Some(2) && other.stderr.contains("or other choices"), "{}", other.stderr);
}

#[test]
fn mistakes_in_the_space_are_found_before_the_first_trial() {
    let pipe = with(
        "[sweep.parameters]\n\"optimizer.sgd.lr\" = { log = [-1.0, 1.0] }\n\"vars.width\" = { int = [1, 2] }\n\
         \"optimizer.sgd.momentum\" = { range = [0.9, 0.1], choice = [1] }\n",
    );
    let said = pipe.run(&["sweep", "sweep.toml"]);
    assert_eq!(said.status, Some(2));
    insta::assert_snapshot!(said.stderr);
    // Each value is well-formed: only the pipeline knows better.
    let pipe = with(
        "[sweep.parameters]\n\"optimizer.sgd.lr\" = { choice = [0.1, \"fast\"] }\n\"optimizer.sgd.momentum\" = { range = [-0.5, 0.5] }\n\
         \"loader.train.batch_size\" = { int = [0, 8] }\n",
    );
    let said = pipe.run(&["sweep", "sweep.toml"]);
    assert_eq!(said.status, Some(2));
    insta::assert_snapshot!(said.stderr);
    let checked = pipe.run(&["check", "sweep.toml"]);
    assert_eq!((checked.status, checked.stderr), (Some(2), said.stderr));
    // Values that do not go together.
    let pipe = with(
        "[sweep.parameters]\n\"optimizer.sgd.type\" = { choice = [\"sgd\", \"adam\"] }\n\"optimizer.sgd.momentum\" = { range = [0.0, 0.5] }\n",
    );
    let text = pipe.read("digits.toml").replace("momentum = 0.9\n", "");
    pipe.write("digits.toml", &text);
    let said = pipe.run(&["sweep", "sweep.toml"]);
    assert_eq!(said.status, Some(2));
    insta::assert_snapshot!(said.stderr);
    assert!(!pipe.path("runs").exists());
}

#[test]
fn a_run_knows_nothing_of_its_sweep() {
    let pipe = with("[sweep.parameters]\n\"optimizer.sgd.lr\" = { log = [0.1, 1.0] }\n");
    pipe.ok(&["run", "sweep.toml", "--quiet", "--out", "run", "--set", "engine.trainer.max_epochs=1"]);
    assert!(!pipe.read("run/pipeline.toml").contains("sweep"));
    let shown = pipe.ok(&["show", "sweep.toml"]).stdout;
    assert!(
        shown.contains("[sweep]\n") && shown.contains("parameters.\"optimizer.sgd.lr\".log = [0.1, 1.0]"),
        "{shown}"
    );
    let text = pipe.read("sweep.toml").replace("log = [0.1, 1.0]", "log = [0.2, 1.0]");
    pipe.write("sweep.toml", &text);
    let again = ["run", "sweep.toml", "--out", "run", "--resume", "run", "--set", "engine.trainer.max_epochs=1"];
    let said = pipe.ok(&again);
    assert!(said.stderr.contains("its pipeline is the same"), "{}", said.stderr);
}

#[test]
fn trials_that_fail_are_told_at_once_and_others_end_early() {
    let pipe = with(
        "[sweep]\nstudy = \"s\"\nsampler = \"grid\"\npruner = { type = \"median\", startup = 1 }\n[[sweep.constraints]]\n\
         metric = \"engine.trainer:loss\"\nmax = 1e9\n[sweep.parameters]\n\
         \"dataset.train.root\" = { choice = [\"builtin:digits\", \"nowhere\"] }\n\"optimizer.sgd.lr\" = { choice = [0.2, 1e-9] }\n",
    );
    // Long enough to be ended early.
    let said = pipe.run(&[
        "sweep",
        "sweep.toml",
        "--set",
        "engine.trainer.max_epochs=40",
        "--set",
        "handler.checkpoint.keep_last=1",
    ]);
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    let found = study(&pipe, "s");
    assert_eq!(states(&found), [State::Complete, State::Pruned, State::Failed, State::Failed], "{}", said.stderr);
    let ended = &found.trials[1];
    assert!(ended.reports.len() < 40 && ended.user["pipe:pruned"] == json!(ended.reports.len()), "{ended:?}");
    assert_eq!(ended.values, [ended.reports[&(ended.reports.len() as i64)]]);
    assert_eq!(found.trials[0].violation(), 0.0);
    assert!(found.trials[0].system["constraints:engine.trainer:loss max"].as_f64().is_some_and(|over| over < 0.0));
    let reason = found.trials[2].user["pipe:error"].as_str().expect("a reason");
    assert!(
        reason.contains("nowhere") && said.stderr.contains(&format!("trial 2 failed: {reason}\n")),
        "{}",
        said.stderr
    );
    assert!(said.stdout.contains("1 trials complete, 1 ended early, 2 failed"), "{}", said.stdout);
}

#[test]
fn the_mean_over_seeds_counts() {
    let pipe = with(
        "[sweep]\nstudy = \"s\"\nsampler = \"random\"\ntrials = 1\n[sweep.parameters]\n\"optimizer.sgd.lr\" = { log = [0.01, 0.1] }\n",
    );
    pipe.ok(&["sweep", "sweep.toml", "--seeds", "2", "--set", "pipeline.seed=11"]);
    let found = study(&pipe, "s");
    let both = [0, 1].map(|seed| accuracy(&pipe, &format!("s/trial-0000-{seed}")));
    assert_eq!(found.trials[0].values, [(both[0] + both[1]) / 2.0]);
    let seeds = [0, 1].map(|seed| pipe.json(&format!("runs/sweeps/s/trial-0000-{seed}/run.json"))["seed"].clone());
    assert_eq!(seeds, [json!(11), json!(12)]);
}

/// A driver at work, which is ended with the test, with the trials that it has begun.
struct Drive<'p> {
    pipe: &'p Pipe,
    child: Child,
}

/// A driver's process.
fn start(pipe: &Pipe, trials: &str) -> Child {
    let arguments = ["sweep", "sweep.toml", "--jobs", "2", "--trials", trials];
    pipe.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

impl Drive<'_> {
    fn start<'p>(pipe: &'p Pipe, trials: &str) -> Drive<'p> {
        Drive { pipe, child: start(pipe, trials) }
    }
}

impl Drop for Drive<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        workers(self.pipe).into_iter().for_each(|process| {
            let _ = std::process::Command::new("kill").args(["-KILL", &process.to_string()]).status();
        });
    }
}

/// The processes of runs at work.
fn workers(pipe: &Pipe) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(pipe.path("runs/sweeps/s")) else { return Vec::new() };
    let runs = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let process = |run: PathBuf| {
        let info: Value = serde_json::from_str(&std::fs::read_to_string(run.join("run.json")).ok()?).ok()?;
        let process = (info["status"] == "running").then(|| info["process"].as_u64())??;
        // A killed one has left its number behind.
        let command = std::fs::read(format!("/proc/{process}/cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains("sweep").then_some(process)
    };
    runs.filter_map(process).collect()
}

/// Of each trial its number, values and parameters.
fn outcome(study: &Study) -> BTreeMap<u64, (String, Vec<f64>)> {
    let one = |trial: &Trial| (trial.number, (format!("{:?}", trial.params), trial.values.clone()));
    study.trials.iter().map(one).collect()
}

#[test]
fn whatever_is_killed_no_trial_is_lost_or_run_twice() {
    let said = std::env::var("PIPE_SOAK_SWEEP").ok();
    let wanted =
        said.as_deref().and_then(|said| said.split_once(',')).map(|(trials, kills)| (trials.parse(), kills.parse()));
    let (trials, kills): (u64, u32) = match wanted {
        Some((trials, kills)) => (trials.expect("a number of trials"), kills.expect("a number of kills")),
        None => (4, 4),
    };
    let text = "[sweep]\nstudy = \"s\"\nsampler = \"random\"\n[sweep.parameters]\n\"optimizer.sgd.lr\" = { log = [0.01, 0.1] }\n";
    let (calm, pipe) = (with(text), with(text));
    let count = trials.to_string();
    let mut rng = ChaCha8Rng::seed_from_u64(trials);
    let (mut processes, mut killed) = (0, 0);
    let mut drive = Drive::start(&pipe, &count);
    while killed < kills {
        std::thread::sleep(Duration::from_millis(rng.random_range(0..1500)));
        // A worker every other time.
        let mut running = Vec::new();
        while running.is_empty() && killed % 2 == 1 && drive.child.try_wait().expect("a status").is_none() {
            running = workers(&pipe);
        }
        if drive.child.try_wait().expect("a status").is_some() {
            break;
        }
        if running.is_empty() {
            drive.child.kill().expect("killed");
            drive.child.wait().expect("it ends");
            drive.child = start(&pipe, &count);
        } else {
            // It may have come to its end meanwhile.
            let process = running[rng.random_range(0..running.len())].to_string();
            let _ = std::process::Command::new("kill").args(["-KILL", &process]).stderr(Stdio::null()).status();
            processes += 1;
        }
        killed += 1;
    }
    let status = drive.child.wait().expect("it ends");
    assert!(status.success(), "{status} after {killed} kills");
    eprintln!("{killed} kills, {processes} of them of trials");
    calm.ok(&["sweep", "sweep.toml", "--jobs", "2", "--trials", &count]);
    let (found, expected) = (study(&pipe, "s"), study(&calm, "s"));
    assert_eq!(found.trials.len() as u64, trials);
    assert_eq!(outcome(&found), outcome(&expected));
    for trial in &found.trials {
        let run = format!("runs/sweeps/s/trial-{:04}", trial.number);
        assert_eq!(pipe.scalars(&run), calm.scalars(&run), "trial {}", trial.number);
        assert_eq!((trial.state, trial.reports.len()), (State::Complete, 2));
    }
    assert!(workers(&pipe).is_empty());
}

#[test]
fn a_sweep_that_is_stopped_goes_on_and_takes_what_waits() {
    let pipe = with(
        "[sweep]\nstudy = \"s\"\nsampler = \"random\"\n[sweep.parameters]\n\"optimizer.sgd.lr\" = { log = [0.01, 0.1] }\n",
    );
    let text = pipe.read("sweep.toml").replace("max_epochs = 2", "max_epochs = 100000");
    pipe.write("sweep.toml", &text);
    let mut drive = Drive::start(&pipe, "1");
    wait_for("a checkpoint", || pipe.path("runs/sweeps/s/trial-0000/checkpoints").is_dir());
    let second = pipe.run(&["sweep", "sweep.toml"]);
    assert!(second.status == Some(2) && second.stderr.contains("another `pipe sweep` is at work"), "{}", second.stderr);
    kill("INT", drive.child.id());
    assert_eq!(drive.child.wait().expect("it ends").code(), Some(130));
    assert_eq!(pipe.json("runs/sweeps/s/trial-0000/run.json")["status"], "interrupted");
    assert_eq!(states(&study(&pipe, "s")), [State::Running]);
    // As Optuna's `enqueue_trial` writes it.
    let waiting = json!({
        "op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": null, "state": 4, "value": null, "values": null,
        "distributions": {}, "params": {}, "user_attrs": {}, "system_attrs": { "fixed_params": { "optimizer.sgd.lr": 0.05 } },
        "intermediate_values": {},
    });
    let path = "runs/sweeps/s/journal.log";
    pipe.write(path, &(pipe.read(path) + &format!("{waiting}\n")));
    // One that has come further ends at once.
    let said = pipe.ok(&["sweep", "sweep.toml", "--trials", "2", "--set", "engine.trainer.max_epochs=30"]);
    let found = study(&pipe, "s");
    assert_eq!(states(&found), [State::Complete; 2], "{}", said.stderr);
    assert_eq!(found.trials[1].outer("optimizer.sgd.lr"), Some(json!(0.05)));
    assert!(
        said.stderr.contains("going on with the study `s`: 0 trials are finished, 1 are to go on"),
        "{}",
        said.stderr
    );
}

/// Three members that end when they are told to.
const POPULATION: &str = "[sweep]\nstudy = \"s\"\nsampler = \"population\"\ntrials = 3\npopulation.interval = 2\n[sweep.parameters]\n\
     \"optimizer.sgd.lr\" = { log = [1e-6, 0.1] }\n";

/// What became of the members' going on from others: trial and note.
fn exchanges(study: &Study) -> Vec<(&Trial, &Value)> {
    let notes = study.trials.iter().flat_map(|trial| trial.user.iter().map(move |(key, note)| (trial, key, note)));
    notes.filter(|(_, key, _)| key.starts_with("pipe:exchange:")).map(|(trial, _, note)| (trial, note)).collect()
}

/// The trail of a member.
fn lives(pipe: &Pipe, number: u64) -> Vec<Value> {
    let index = pipe.read(&format!("runs/sweeps/s/trial-{number:04}/pipelines/index.jsonl"));
    index.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
}

/// The journal has what was measured, each going on from another came to something and is in the trail once. `lost` began again.
fn assert_went_on(pipe: &Pipe, found: &Study, end: u64, lost: Option<u64>) {
    for trial in &found.trials {
        let measured = pipe.scalars(&format!("runs/sweeps/s/trial-{:04}", trial.number));
        let measured: Vec<f64> = measured
            .iter()
            .filter(|record| record["tag"] == "val/accuracy")
            .map(|record| record["value"].as_f64().unwrap())
            .collect();
        assert_eq!(trial.reports.values().copied().collect::<Vec<_>>(), measured, "trial {}", trial.number);
        assert_eq!(measured.len() as u64, end);
    }
    for (trial, note) in exchanges(found) {
        assert!(note["outcome"] != "asked", "{note}");
        let trail = lives(pipe, trial.number);
        let weights = note["weights"].as_str().expect("a folder");
        let of = |line: &&Value| line["loaded"][0]["from"].as_str().is_some_and(|from| from.ends_with(weights));
        let count = trail.iter().filter(of).count();
        assert_eq!(count, usize::from(note["outcome"] == "applied"), "{note}");
        // One that began again has other steps.
        let began_again = lost == Some(trial.number);
        if note["outcome"] == "applied" && !began_again {
            let step = note["step"].as_u64().expect("a step");
            let records = pipe.scalars(&format!("runs/sweeps/s/trial-{:04}", trial.number));
            // What was applied after the last step shows at none.
            if records.iter().all(|record| record["step"].as_u64() <= Some(step)) {
                continue;
            }
            let lr = records.iter().find(|record| record["tag"] == "train/lr" && record["step"] == json!(step + 1));
            assert_eq!(lr.expect("the next step")["value"], note["set"]["optimizer.sgd.lr"], "{note}");
        }
    }
}

#[test]
fn the_worst_of_a_population_goes_on_from_the_best_without_a_restart() {
    let pipe = with(POPULATION);
    let text = pipe.read("sweep.toml").replace("max_epochs = 2", "max_epochs = 1000000");
    pipe.write("sweep.toml", &text.replace("type = \"checkpoint\"", "type = \"checkpoint\"\nkeep_last = 2"));
    let alone = pipe.run(&["sweep", "sweep.toml", "--jobs", "2"]);
    assert!(alone.status == Some(2) && alone.stderr.contains("all at work together: `--jobs 3`"), "{}", alone.stderr);
    let start = || {
        let mut command = pipe.command(&["sweep", "sweep.toml"]);
        command.env("OMP_NUM_THREADS", "1").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
    };
    let applied = || {
        // The journal is made before the study is in it.
        let there = pipe.path("runs/sweeps/s/journal.log").exists().then(|| journal(&pipe, "s"));
        let study = there.as_ref().and_then(|all| all.replay().study("s"));
        study.is_some_and(|study| exchanges(study).iter().any(|(_, note)| note["outcome"] == "applied"))
    };
    let mut drive = Drive { pipe: &pipe, child: start() };
    wait_for("one that goes on from another", applied);
    let first = study(&pipe, "s");
    let (trial, note) = exchanges(&first).into_iter().find(|(_, note)| note["outcome"] == "applied").expect("one");
    let report = note["report"].as_i64().expect("a report");
    let value = |trial: &Trial| trial.reports[&report];
    let from = &first.trials[note["from"].as_u64().expect("a trial") as usize];
    assert!(first.trials.iter().all(|one| value(trial) <= value(one) && value(one) <= value(from)), "{note}");
    let trail = lives(&pipe, trial.number);
    assert_eq!(trail.iter().filter(|line| line["outcome"] == "started").count(), 1, "it was not started anew");
    let line = trail.iter().find(|line| line["outcome"] == "applied").expect("its line");
    assert_eq!((&line["author"], &line["step"]), (&json!("sweep"), &note["step"]));
    let why =
        format!("after report {report} from trial {}, {}", from.number, note["checkpoint"].as_str().expect("a name"));
    assert_eq!(line["why"], json!(why));
    assert_eq!(line["loaded"][0]["with"], json!(["optimizer.sgd"]));
    // Whatever is killed, who was asked once is not asked twice.
    drive.child.kill().expect("killed");
    drive.child.wait().expect("it ends");
    assert_eq!(workers(&pipe).len(), 3, "members are at work without a driver");
    let compared = || study(&pipe, "s").user["pipe:compared"].as_u64().expect("a report");
    let before = compared();
    drive.child = start();
    wait_for("another comparison", || compared() > before);
    kill("INT", drive.child.id());
    assert_eq!(drive.child.wait().expect("it ends").code(), Some(130));
    // A report is an epoch; the last ones may not be in the journal.
    let epochs = |number: u64| {
        let records = pipe.scalars(&format!("runs/sweeps/s/trial-{number:04}"));
        records.iter().filter_map(|record| record["epoch"].as_u64()).max().unwrap_or_default()
    };
    let end = (0..3).map(epochs).max().unwrap_or_default() + 4;
    // One loses its checkpoints, and with them what it had gone on from: it is asked once more.
    let stopped = study(&pipe, "s");
    let latest = |trial: &Trial| {
        let own = exchanges(&stopped).into_iter().rfind(|(one, _)| one.number == trial.number)?;
        (own.1["outcome"] == "applied").then(|| (trial.number, own.1["report"].clone()))
    };
    let lost = stopped.trials.iter().find_map(latest);
    if let Some((number, _)) = &lost {
        std::fs::remove_dir_all(pipe.path(&format!("runs/sweeps/s/trial-{number:04}/checkpoints"))).expect("removed");
    }
    let said = pipe.ok(&["sweep", "sweep.toml", "--set", &format!("engine.trainer.max_epochs={end}")]);
    let found = study(&pipe, "s");
    assert_eq!(states(&found), [State::Complete; 3], "{}", said.stderr);
    if let Some((number, report)) = &lost {
        let all = exchanges(&found);
        let note =
            all.iter().find(|(trial, note)| trial.number == *number && note["report"] == *report).expect("its note").1;
        assert!(note["weights"].as_str().expect("a folder").ends_with(".again"), "{note}");
    }
    assert_went_on(&pipe, &found, end, lost.map(|(number, _)| number));
}

#[test]
fn a_population_takes_what_can_change_at_work_alone() {
    let pipe = with(
        "[sweep]\nsampler = \"population\"\ntrials = 1\nseeds = 2\npruner = { type = \"median\" }\n[sweep.parameters]\n\
         \"vars.width\" = { int = [1, 2] }\n",
    );
    pipe.write("digits.toml", &(pipe.read("digits.toml") + "\n[vars]\nwidth = 16\n"));
    let said = pipe.run(&["sweep", "sweep.toml"]);
    assert_eq!(said.status, Some(2));
    insta::assert_snapshot!(said.stderr);
    let pipe = with(
        "[sweep]\nsampler = \"population\"\n[sweep.parameters]\n\"optimizer.sgd.lr\" = { log = [0.01, 0.1] }\n\
         \"loader.train.batch_size\" = { choice = [8, 16] }\n",
    );
    let said = pipe.run(&["sweep", "sweep.toml"]);
    assert_eq!(said.status, Some(2));
    insta::assert_snapshot!(said.stderr);
    assert!(!pipe.path("runs").exists());
    let without = pipe
        .read("sweep.toml")
        .replace(", \"handler.checkpoint\"", "")
        .replace("\n[handler.checkpoint]\ntype = \"checkpoint\"\n", "");
    pipe.write("sweep.toml", &without.replace("\"loader.train.batch_size\" = { choice = [8, 16] }\n", ""));
    let said = pipe.run(&["check", "sweep.toml"]);
    assert!(said.status == Some(2) && said.stderr.contains("add a `handler.checkpoint`"), "{}", said.stderr);
}

#[test]
fn the_example_of_the_page_is_right() {
    let page = include_str!("../../docs/sweeps.md");
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let pipe =
        Pipe::digits("sweep.toml", &format!("vars.width = 16\nloader.test.batch_size = \"${{width}}\"\n{example}"));
    pipe.ok(&["check", "sweep.toml"]);
    let refused = pipe.run(&["check", "sweep.toml", "--set", "sweep.pruner.factor=1"]);
    assert!(refused.status == Some(2) && refused.stderr.contains("1 is out of range"), "{}", refused.stderr);
}

/// Jobs of this machine which wait until they may begin.
const SUBMITTED: &str = r#"
[submit.here]
type = "local"
setup = ["while [ ! -e go ]; do sleep 0.05; done"]

[submit.broken]
type = "local"
setup = ["echo 'error: no such module'; exit 1"]

[sweep]
study = "s"
sampler = "random"
[sweep.parameters]
"optimizer.sgd.lr" = { log = [0.01, 0.1] }
"#;

#[test]
fn trials_can_be_jobs_that_outlive_who_follows_them() {
    let (calm, pipe) = (with(SUBMITTED), with(SUBMITTED));
    let none = pipe.run(&["sweep", "sweep.toml", "--to", "there"]);
    assert!(none.status == Some(2) && none.stderr.contains("there is no [submit.there]"), "{}", none.stderr);
    let sweep = ["sweep", "sweep.toml", "--to", "here", "--jobs", "2", "--trials", "2"];
    let child = pipe.command(&sweep).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut drive = Drive { pipe: &pipe, child };
    let receipt = |trial: u64| format!("runs/sweeps/s/trial-{trial:04}/job/submitted.json");
    wait_for("two jobs", || [0, 1].iter().all(|trial| pipe.path(&receipt(*trial)).exists()));
    let jobs = [0, 1].map(|trial| pipe.json(&receipt(trial))["job"].clone());
    kill("INT", drive.child.id());
    let mut said = String::new();
    std::io::Read::read_to_string(drive.child.stderr.as_mut().expect("a pipe"), &mut said).expect("text");
    assert_eq!(drive.child.wait().expect("it ends").code(), Some(130), "{said}");
    assert!(said.contains("2 trials go on as jobs"), "{said}");
    // They are followed again, with or without the word.
    pipe.write("go", "");
    pipe.ok(&["sweep", "sweep.toml", "--jobs", "2", "--trials", "2"]);
    assert_eq!([0, 1].map(|trial| pipe.json(&receipt(trial))["job"].clone()), jobs, "nothing was submitted twice");
    calm.ok(&["sweep", "sweep.toml", "--jobs", "2", "--trials", "2"]);
    assert_eq!(outcome(&study(&pipe, "s")), outcome(&study(&calm, "s")));
    let about = pipe.json("runs/sweeps/s/trial-0001/about.json");
    assert_eq!((&about["group"], &about["name"]), (&json!("s"), &json!("s-0001")));
    // One that does not come so far as to be a run.
    pipe.ok(&["sweep", "sweep.toml", "--to", "broken", "--trials", "3"]);
    let found = study(&pipe, "s");
    assert_eq!(found.trials[2].state, State::Failed);
    assert_eq!(found.trials[2].user["pipe:error"], "its job ended as ENDED: error: no such module");
}
