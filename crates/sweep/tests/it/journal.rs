use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use indexmap::IndexMap;
use pipe_sweep::{Direction, Distribution, Journal, Operation, State, Study, Values};
use pipe_test_support::{python, skip};
use serde_json::{Map, Value, json};

fn study<'j>(journal: &'j Journal, name: &str) -> &'j Study {
    journal.replay().study(name).expect(name)
}

/// A copy of the journal that Optuna wrote.
fn copy(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("journal.log");
    fs::write(&path, super::optuna("journal.log")).unwrap();
    path
}

fn begin(journal: &mut Journal, name: &str, x: f64) -> u64 {
    let float = Distribution::Float { low: 0.0, high: 1.0, log: false, step: None };
    let (params, distributions) = (Values::from([("x".to_owned(), x)]), IndexMap::from([("x".to_owned(), float)]));
    let begun = journal.write(|replay| {
        let study = replay.study(name).expect(name).id;
        Ok((vec![Operation::CreateTrial { study, params, distributions, user: Map::new() }], replay.trial_count()))
    });
    begun.unwrap()
}

fn write(journal: &mut Journal, operations: Vec<Operation>) {
    journal.write(|_| Ok((operations, ()))).unwrap();
}

#[test]
fn a_journal_of_optunas_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&copy(folder.path()), false).unwrap();
    assert_eq!(journal.replay().names(), ["first", "second"]);
    let (first, known) = (study(&journal, "first"), super::json("journal.json"));
    assert_eq!((first.direction(), &first.user["by"]), (Direction::Maximize, &json!("optuna")));
    assert_eq!(study(&journal, "second").directions, [Direction::Minimize, Direction::Maximize]);
    let trials = known["trials"].as_array().unwrap();
    assert_eq!(first.trials.len(), trials.len());
    let number = |value: &Value| value.as_str().unwrap().parse::<f64>().unwrap_or(f64::NAN).to_bits();
    for (trial, known) in first.trials.iter().zip(trials) {
        assert_eq!(trial.state.number(), known["state"].as_u64().unwrap());
        let values: Vec<u64> = known["values"].as_array().into_iter().flatten().map(number).collect();
        assert_eq!(trial.values.iter().map(|value| value.to_bits()).collect::<Vec<_>>(), values);
        let reports = known["reports"].as_object().unwrap();
        let own: Vec<(String, u64)> =
            trial.reports.iter().map(|(step, value)| (step.to_string(), value.to_bits())).collect();
        assert_eq!(own, reports.iter().map(|(step, value)| (step.clone(), number(value))).collect::<Vec<_>>());
        for (name, value) in known["params"].as_object().unwrap() {
            assert_eq!(trial.outer(name).as_ref(), Some(value), "{name}");
        }
        assert_eq!(Value::Object(trial.user.clone()), known["user"]);
        assert!((trial.violation() - known["violation"].as_f64().unwrap()).abs() < 1e-12);
    }
    let waiting = &first.trials[first.trials.len() - 2..];
    assert!(waiting.iter().any(|trial| trial.system["fixed_params"]["kind"] == "a"));
    assert_eq!(first.best()[0].number, known["best"].as_u64().unwrap());
}

#[test]
fn two_who_write_at_once_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.log");
    let mut first = Journal::open(&path, true).unwrap();
    write(&mut first, vec![Operation::CreateStudy { name: "s".into(), directions: vec![Direction::Minimize] }]);
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let path = path.clone();
            std::thread::spawn(move || {
                let mut journal = Journal::open(&path, false).unwrap();
                for at in 0..10 {
                    let id = begin(&mut journal, "s", f64::from(worker * 10 + at) / 40.0);
                    write(
                        &mut journal,
                        vec![Operation::State { trial: id, state: State::Complete, values: Some(vec![1.0]) }],
                    );
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    first.refresh().unwrap();
    let mut all: Vec<f64> =
        study(&first, "s").in_state(State::Complete).map(|trial| trial.params["x"] * 40.0).collect();
    all.sort_by(f64::total_cmp);
    assert_eq!(all, (0..40).map(f64::from).collect::<Vec<_>>());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no lock is left");
}

#[test]
fn what_a_killed_writer_left_is_put_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.log");
    let mut journal = Journal::open(&path, true).unwrap();
    write(&mut journal, vec![Operation::CreateStudy { name: "s".into(), directions: vec![Direction::Minimize] }]);
    let id = begin(&mut journal, "s", 0.5);
    // A line that was not written to its end, and the lock.
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"{\"op_code\": 6, \"trial"].concat()).unwrap();
    symlink("././journal.log", folder.path().join("journal.log.lock")).unwrap();
    let mut journal = Journal::open(&path, true).unwrap();
    assert_eq!(study(&journal, "s").trials[0].state, State::Running);
    write(&mut journal, vec![Operation::Report { trial: id, step: 1, value: f64::NAN }]);
    write(&mut journal, vec![Operation::State { trial: id, state: State::Failed, values: None }]);
    // Once a trial is finished nothing changes it.
    write(&mut journal, vec![Operation::State { trial: id, state: State::Complete, values: Some(vec![0.0]) }]);
    write(&mut journal, vec![Operation::CreateStudy { name: "s".into(), directions: vec![Direction::Maximize] }]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(
        text.starts_with(std::str::from_utf8(&whole).unwrap()) && text.lines().count() == 6 && text.contains(":NaN}")
    );
    let journal = Journal::open(&path, false).unwrap();
    let trial = &study(&journal, "s").trials[0];
    assert!(trial.state == State::Failed && trial.values.is_empty() && trial.reports[&1].is_nan());
    assert_eq!(study(&journal, "s").direction(), Direction::Minimize);
}

#[test]
fn what_is_no_journal_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.log");
    let good = "{\"op_code\":0,\"worker_id\":\"w\",\"study_name\":\"s\",\"directions\":[1]}\n";
    for (wrong, says) in [
        ("no JSON\n", "no line of a journal"),
        ("{\"op_code\":99,\"worker_id\":\"w\"}\n", "does 99"),
        ("{\"worker_id\":\"w\"}\n", "does nothing"),
        (
            "{\"op_code\":4,\"study_id\":0,\"distributions\":{\"x\":\"{\\\"name\\\":\\\"UniformDistribution\\\",\\\"attributes\\\":{}}\"}}\n",
            "older versions",
        ),
        ("{\"op_code\":4,\"study_id\":0,\"params\":{\"x\":\"one\"}}\n", "`x` has no number"),
        ("{\"op_code\":4,\"study_id\":0,\"state\":17}\n", "no state that is known"),
        ("{\"op_code\":0,\"directions\":[1]}\n", "no name"),
    ] {
        fs::write(&path, good.to_owned() + wrong).unwrap();
        let error = format!("{:#}", Journal::open(&path, false).unwrap_err());
        assert!(error.contains(", line 2") && error.contains(says), "{wrong}: {error}");
    }
    // Lines about what is not there do nothing.
    let absent =
        "{\"op_code\":6,\"trial_id\":7,\"state\":1,\"values\":[0]}\n{\"op_code\":4,\"study_id\":9}\n{\"op_code\":10}\n";
    fs::write(&path, good.to_owned() + absent).unwrap();
    assert_eq!(study(&Journal::open(&path, false).unwrap(), "s").trials.len(), 0);
}

/// Loads a study of a journal, goes on with it for some trials, and says what it found.
const RESUME: &str = r#"
import json, sys, optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(sys.argv[1]))
study = optuna.load_study(storage=storage, study_name="s")
found = [[t.number, t.state.name, t.value, t.params, len(t.intermediate_values)] for t in study.trials]
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
print(json.dumps({"trials": found, "best": study.best_value}))
"#;

#[test]
fn optuna_goes_on_with_a_journal_of_ours() {
    let has = |python: &Path| {
        Command::new(python).args(["-c", "import optuna"]).output().is_ok_and(|said| said.status.success())
    };
    let Some(python) = python().filter(|python| has(python)) else {
        skip!("there is no Python with optuna");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.log");
    let mut journal = Journal::open(&path, true).unwrap();
    write(&mut journal, vec![Operation::CreateStudy { name: "s".into(), directions: vec![Direction::Minimize] }]);
    for (x, state) in [(0.5, State::Complete), (0.25, State::Pruned), (0.75, State::Failed)] {
        let trial = begin(&mut journal, "s", x);
        let values = (state != State::Failed).then(|| vec![x]);
        write(
            &mut journal,
            vec![Operation::Report { trial, step: 1, value: f64::INFINITY }, Operation::State { trial, state, values }],
        );
    }
    let said = Command::new(python).args(["-c", RESUME]).arg(&path).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let found: Value = serde_json::from_slice(&said.stdout).unwrap();
    let expected = json!([[0, "COMPLETE", 0.5, { "x": 0.5 }, 1], [1, "PRUNED", 0.25, { "x": 0.25 }, 1], [2, "FAIL", null, { "x": 0.75 }, 1]]);
    assert_eq!(found["trials"], expected);
    journal.refresh().unwrap();
    let study = study(&journal, "s");
    assert_eq!((study.trials.len(), Some(study.best()[0].values[0])), (6, found["best"].as_f64()));
}
