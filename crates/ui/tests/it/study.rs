//! Runs that are trials of a study.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use indexmap::IndexMap;
use pipe_sweep::{Direction, Distribution, Journal, Operation, State, Values};
use serde_json::{Map, Value, json};

use crate::page::some;

/// Writes a journal in a folder with a study of so many trials, whose rate matters and whose decay does not.
pub(crate) fn journal(folder: &Path, name: &str, trials: u64) {
    let mut journal = Journal::open(&folder.join("journal.log"), true).unwrap();
    let begin = Operation::CreateStudy { name: name.into(), directions: vec![Direction::Minimize] };
    journal.write(|_| Ok((vec![begin], ()))).unwrap();
    let study = journal.replay().study(name).unwrap().id;
    let first = journal.replay().trial_count();
    let each = (0..trials).flat_map(|at| {
        let rate = (at + 1) as f64 / trials as f64;
        let values =
            [("optimizer.sgd.lr", rate), ("optimizer.sgd.weight_decay", (at * 7 % trials) as f64 / trials as f64)];
        let float = Distribution::Float { low: 0.0, high: 1.0, log: false, step: None };
        let params: Values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let distributions: IndexMap<_, _> = params.keys().map(|name| (name.clone(), float.clone())).collect();
        [
            Operation::CreateTrial { study, params, distributions, user: Map::new() },
            Operation::State { trial: first + at, state: State::Complete, values: Some(vec![rate]) },
        ]
    });
    let all: Vec<Operation> = each.collect();
    journal.write(|_| Ok((all, ()))).unwrap();
}

#[test]
fn what_mattered_is_read_from_the_journal_beside_the_runs() {
    let served = some();
    let ids = ["digits/0", "digits/1", "digits/2"].map(|name| served.id(name)).join(",");
    let ask = || served.json(&format!("/api/study?runs={ids}"));
    let folder = served.root.join("digits");
    let path = folder.join("journal.log");
    assert_eq!(ask(), Value::Null, "no study");
    journal(&folder, "mine", 9);
    let why = "9 of its trials are complete with finite values, and 10 are needed";
    assert_eq!(ask(), json!({ "name": "mine", "trials": 9, "importances": [], "why": why }));
    // Of several studies the one that is the runs' group.
    journal(&folder, "rates", 30);
    let told = ask();
    assert_eq!((&told["name"], &told["trials"], &told["why"]), (&json!("rates"), &json!(30), &Value::Null));
    let shares = told["importances"].as_array().unwrap();
    assert_eq!((shares.len(), &shares[0][0]), (2, &json!("optimizer.sgd.lr")));
    assert!((shares[0][1].as_f64().unwrap() + shares[1][1].as_f64().unwrap() - 1.0).abs() < 1e-12, "{told}");
    let kept = fs::read(&path).unwrap();
    fs::write(&path, "no journal\n").unwrap();
    assert_eq!(
        ask()["why"],
        "journal.log, line 1: this is no line of a journal: no journal: expected ident at line 1 column 2"
    );
    fs::remove_file(&path).unwrap();
    fs::write(served.root.join("elsewhere"), kept).unwrap();
    symlink("../elsewhere", &path).unwrap();
    assert_eq!(ask(), Value::Null, "it leads out of the folder");
    assert_eq!(served.get("/api/study?runs=").status, 400);
}
