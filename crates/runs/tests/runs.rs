//! Many runs, from folders as a run leaves them.

use std::fs;
use std::path::{Path, PathBuf};

use pipe_history::Point;
use pipe_history::scalars::Writer;
use pipe_history::standing::Status;
use pipe_runs::filter::{Filter, order};
use pipe_runs::{About, Index, Key, Run, choose, compare, find, folders, names, trash};
use serde_json::json;

/// A run that is done, with two curves; its learning rate and accuracy are `value`.
fn run(root: &Path, name: &str, value: f64) -> PathBuf {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    let created = 1.7e9 + value;
    let info = json!({
        "status": "done", "name": "digits", "created": created, "started": created, "seconds": 3.5, "seed": 7,
        "device": "cpu", "generation": 0, "versions": { "pipe": "0.1.0" },
    });
    fs::write(folder.join("run.json"), info.to_string()).unwrap();
    let pipeline =
        format!("[optimizer.sgd]\ntype = \"sgd\"\nlr = {value:?}\n\n[[on]]\nevent = \"e:x\"\nrun = [\"a\"]\n");
    fs::write(folder.join("pipeline.toml"), pipeline).unwrap();
    let mut writer = Writer::open(&folder, None).unwrap();
    for step in 1..=300u64 {
        let point = |value| Point { step, epoch: 1, time: created, value };
        writer.push("train/loss", &"engine.trainer", point(1.0 / step as f64)).unwrap();
        writer.push("eval/accuracy", &"metric.accuracy", point(if step == 9 { value } else { 0.0 })).unwrap();
    }
    writer.flush().unwrap();
    folder.canonicalize().unwrap()
}

/// Runs with learning rates 0.1, 0.2, …, the newest first.
fn some(root: &Path, count: u32) -> Vec<Run> {
    let mut runs: Vec<Run> = (1..=count)
        .map(|at| Run::of(&run(root, &format!("digits/{at}"), f64::from(at) / 10.0)).expect("a run"))
        .collect();
    runs.reverse();
    runs
}

fn taken(expression: &str, runs: &[Run]) -> Vec<f64> {
    let filter = Filter::parse(expression).unwrap_or_else(|wrong| panic!("{wrong}"));
    filter.check(expression, runs).unwrap_or_else(|wrong| panic!("{wrong}"));
    let lr = |run: &Run| run.options["optimizer.sgd.lr"].as_f64().expect("a number");
    runs.iter().filter(|run| filter.takes(run)).map(lr).collect()
}

#[test]
fn a_run_is_known_by_its_folder() {
    let root = tempfile::tempdir().unwrap();
    let run = Run::of(&run(root.path(), "a", 0.5)).unwrap();
    assert_eq!((run.status, run.steps, run.seed), (Status::Done, 300, Some(7)));
    assert_eq!(run.options["on[0].event"], "e:x");
    assert_eq!(run.options["on[0].run"], json!(["a"]));
    let metric = &run.metrics["eval/accuracy"];
    let max = metric.max.unwrap();
    assert_eq!((metric.count, max.value, max.step, metric.last.value), (300, 0.5, 9, 0.0));
    assert_eq!(run.name, names::generated("digits", run.created));
    let text = serde_json::to_string(&run).unwrap();
    assert_eq!(serde_json::from_str::<Run>(&text).unwrap(), run);
    assert!(Run::of(root.path()).is_none());
}

#[test]
fn expressions_choose_by_options_curves_fields_and_tags() {
    let root = tempfile::tempdir().unwrap();
    let mut runs = some(root.path(), 4);
    runs[0].tags = vec!["baseline".into()];
    for (expression, expected) in [
        ("optimizer.sgd.lr < 0.3", vec![0.2, 0.1]),
        ("optimizer.sgd.lr <= 0.3 and max(metric.accuracy) > 0.1", vec![0.3, 0.2]),
        ("max(eval/accuracy) >= 0.4 or lr_is_not_there = 1 or optimizer.sgd.lr = 0.1", vec![]),
        ("tag:baseline", vec![0.4]),
        ("not tag:baseline and not (optimizer.sgd.lr = 0.1 or optimizer.sgd.lr = 2e-1)", vec![0.3]),
        ("status = done and min(train/loss) < 0.004", vec![0.4, 0.3, 0.2, 0.1]),
        ("metric.accuracy > 0", vec![]),
        ("optimizer.sgd.type ~ 'sg' and seed = 7 and 'optimizer.sgd.lr' != 0.4", vec![0.3, 0.2, 0.1]),
        ("status=failed", vec![]),
        ("created >= 2023-11-14 and created < '2023-11-14 22:13:21' and device = cpu", vec![0.4, 0.3, 0.2, 0.1]),
        ("created > 2023-11-14T22:14", vec![]),
    ] {
        if expression.contains("not_there") {
            let filter = Filter::parse(expression).unwrap();
            assert!(filter.check(expression, &runs).is_err());
            continue;
        }
        assert_eq!(taken(expression, &runs), expected, "{expression}");
    }
}

#[test]
fn what_is_wrong_with_an_expression_is_shown_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let runs = some(root.path(), 1);
    let said = |expression: &str| match Filter::parse(expression) {
        Err(wrong) => wrong.to_string(),
        Ok(filter) => filter.check(expression, &runs).expect_err(expression).to_string(),
    };
    for (expression, message, marked) in [
        ("", "a comparison is expected", "^"),
        ("optimizer.sgd.lr", "one of = != < <= > >= ~ is expected here", "                  ^"),
        ("optimizer.sgd.lr <", "a value is expected here", "                    ^"),
        ("optimizer.sgd.lr < 1 status = done", "`and` or `or` is expected here", "                       ^^^^^^"),
        ("(status = done", "this parenthesis is not closed", "  ^"),
        ("status = 'done", "the quotes are not closed", "           ^^^^^"),
        ("optimiser.sgd.lr < 1", "no run has `optimiser.sgd.lr`; there is `optimizer.sgd.lr`", "  ^^^^^^^^^^^^^^^^"),
        ("min(train/los) < 1", "no run has a curve `train/los`; there is `train/loss`", "  ^^^^^^^^^^^^^^"),
        (
            "status = done and metric.acuracy > 1",
            "no run has `metric.acuracy`; there is `metric.accuracy`\n",
            "  ^^^^^^^^^^^^^^",
        ),
        ("acuracy > 1", "no run has `acuracy`; there is `eval/accuracy`\n", "  ^^^^^^^"),
        ("optimizer.lr > 1", "no run has `optimizer.lr`; there is `optimizer.sgd.lr`\n", "  ^^^^^^^^^^^^"),
        ("max(optimizer.sgd.l) > 1", "no run has a curve `optimizer.sgd.l`\n", "  ^^^^^^^^^^^^^^^^^^^^"),
        ("Seed = 1", "no run has `Seed`; there is `seed`\n", "  ^^^^"),
        ("zzz = 1", "no run has `zzz`\n", "  ^^^"),
        ("= 3", "a name is expected here", "  ^"),
        (
            "status = dne",
            "no run is `dne`, but running, done, interrupted, failed, lost, submitted\n",
            "           ^^^",
        ),
        (
            "optimizer.sgd.lr < abc",
            "a number is expected here, as `optimizer.sgd.lr` is one\n",
            "                     ^^^",
        ),
        ("created > yesterday", "a day or a time is expected here", "            ^^^^^^^^^"),
        ("created = 2023-11-14", "a time is compared by one of < <= > >=", "            ^^^^^^^^^^"),
    ] {
        let said = said(expression);
        assert!(said.starts_with(message) && said.ends_with(marked), "{said}");
    }
    let deep = "(".repeat(100_000);
    assert!(said(&deep).starts_with("this lies too deep"));
}

#[test]
fn what_is_wrong_with_columns_is_shown_where_it_is() {
    let root = tempfile::tempdir().unwrap();
    let runs = some(root.path(), 1);
    let said = choose::columns("name, max(train/los) ,lr", &runs).unwrap_err().to_string();
    let expected =
        "no run has a curve `train/los`; there is `train/loss`\n  name, max(train/los) ,lr\n        ^^^^^^^^^^^^^^";
    assert_eq!(said, expected);
    assert_eq!(choose::columns("name,, seed", &runs).unwrap().len(), 2);
    assert_eq!(choose::columns("anything", &runs[..0]).unwrap().len(), 1);
    assert!(choose::columns(" ,", &runs).unwrap_err().to_string().starts_with("no columns are named"));
    // A word that an option and a curve end with means neither.
    let mut both = runs.clone();
    let curve = both[0].metrics["train/loss"].clone();
    both[0].metrics.insert("train/lr".into(), curve);
    let said = choose::columns("lr", &both).unwrap_err().to_string();
    assert!(said.starts_with("no run has `lr`; there is `optimizer.sgd.lr`, `train/lr`\n"), "{said}");
    assert_eq!(choose::columns("train/lr,optimizer.sgd.lr,loss", &both).unwrap().len(), 3);
    let said = choose::sort(&mut runs.clone(), "-sead").unwrap_err().to_string();
    assert_eq!(said, "no run has `sead`; there is `seed`");
}

#[test]
fn columns_have_an_order() {
    let root = tempfile::tempdir().unwrap();
    let runs = some(root.path(), 2);
    let value = |key: &str| Key::of(key).value(&runs[0]);
    assert_eq!(value("max(metric.accuracy)"), Some(json!(0.2)));
    assert_eq!(value("last(eval/accuracy)"), Some(json!(0.0)));
    assert_eq!(value("optimizer.sgd.type"), Some(json!("sgd")));
    assert_eq!(value("nothing"), None);
    assert!(order(Some(&json!(9)), Some(&json!(10))).is_lt() && order(Some(&json!("NaN")), Some(&json!(1))).is_gt());
    assert!(order(None, Some(&json!("z"))).is_gt());
}

#[test]
fn a_word_means_a_run_or_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let runs = some(root.path(), 3);
    let roots = [root.path().to_owned()];
    let one = |word: &str| find::one(word, &roots).map(|run| run.folder);
    for (word, at) in [("latest", 0), ("digits/2", 1), ("2", 1), (runs[2].name.as_str(), 2)] {
        assert_eq!(one(word).unwrap(), runs[at].folder, "{word}");
    }
    assert_eq!(one(&runs[1].folder.display().to_string()).unwrap(), runs[1].folder);
    assert!(one("digits").unwrap_err().to_string().contains("any of 3 runs"));
    let near = format!("{}x", runs[0].name);
    assert!(one(&near).unwrap_err().to_string().contains(&format!("{}?", runs[0].name)));
    About::edit(&runs[0].folder, |about| {
        about.name = Some("mine".into());
        Ok(())
    })
    .unwrap();
    assert_eq!(one("min").unwrap(), runs[0].folder);
    let removed = trash::put(&runs[0].folder, &roots).unwrap();
    assert!(removed.ends_with(".trash/digits/3") && removed.join("run.json").exists());
    assert!(one("mine").is_err());
    assert_eq!(one("latest").unwrap(), runs[1].folder);
}

#[test]
fn the_index_may_be_removed_and_damaged_and_shared() {
    let root = tempfile::tempdir().unwrap();
    let expected = some(root.path(), 6);
    let all = folders::below_all(&[root.path().to_owned()]).unwrap();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("cache/runs.sqlite");
    let look = || {
        let mut runs = Index::at(&path).look(&all);
        runs.reverse();
        runs
    };
    assert_eq!(look(), expected);
    assert_eq!(look(), expected, "from the index");
    fs::remove_file(&path).unwrap();
    assert_eq!(look(), expected);
    for damage in [&b"no database at all, but long enough to be taken for one"[..], b""] {
        fs::write(&path, damage).unwrap();
        for ending in ["-wal", "-shm"] {
            let _ = fs::remove_file(path.with_file_name(format!("runs.sqlite{ending}")));
        }
        assert_eq!(look(), expected);
        assert_eq!(look(), expected);
    }
    // Its middle is overwritten.
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[100..middle].fill(0x55);
    fs::write(&path, bytes).unwrap();
    assert_eq!(look(), expected);
    // Where no folder can be made there is none.
    fs::write(place.path().join("file"), "").unwrap();
    assert_eq!(Index::at(&place.path().join("file/runs.sqlite")).look(&all).len(), 6);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|_| scope.spawn(look)).collect();
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap(), expected));
    });
}

#[test]
fn what_changes_is_read_anew() {
    let root = tempfile::tempdir().unwrap();
    let folder = run(root.path(), "a", 0.5);
    let path = root.path().join("cache/runs.sqlite");
    let look = || Index::at(&path).look(std::slice::from_ref(&folder)).remove(0);
    look();
    let edit = |tag: &str| {
        About::edit(&folder, |about| {
            about.tags.insert(tag.to_owned());
            Ok(())
        })
    };
    edit("x").unwrap();
    assert_eq!(look().tags, ["x"]);
    let mut writer = Writer::open(&folder, None).unwrap();
    writer.push("late", &"n", Point { step: 301, epoch: 2, time: 1.0, value: 1.0 }).unwrap();
    writer.flush().unwrap();
    assert_eq!((look().steps, look().epochs), (301, 2));
    let text = fs::read_to_string(folder.join("run.json")).unwrap();
    fs::write(folder.join("run.json"), text.replace("\"done\"", "\"failed\"")).unwrap();
    assert_eq!(look().status, Status::Failed);
    // Its process is gone, and it did not say so.
    fs::write(folder.join("run.json"), text.replace("\"done\"", "\"running\"")).unwrap();
    assert_eq!(look().status, Status::Lost);
    std::thread::scope(|scope| {
        (0..8).for_each(|at| drop(scope.spawn(move || edit(&format!("t{at}")).unwrap())));
    });
    assert_eq!(look().tags.len(), 9, "of edits at once none is lost");
}

#[test]
fn only_what_differs_is_compared() {
    let root = tempfile::tempdir().unwrap();
    let runs = some(root.path(), 2);
    let line =
        json!({ "outcome": "applied", "step": 12, "changes": [{ "name": "optimizer.sgd.lr", "change": "0.1 → 0.2" }] });
    fs::create_dir(runs[0].folder.join("pipelines")).unwrap();
    fs::write(runs[0].folder.join("pipelines/index.jsonl"), format!("{line}\n")).unwrap();
    fs::write(runs[0].folder.join("pipelines/origins.json"), r#"{ "optimizer.sgd.lr": "a.toml:3" }"#).unwrap();
    let found = compare::compare(&runs);
    assert_eq!(found.options.len(), 1);
    assert_eq!(
        (found.options[0].key.as_str(), &found.options[0].values),
        ("optimizer.sgd.lr", &vec![json!(0.2), json!(0.1)])
    );
    assert_eq!(found.options[0].origins, [Some("a.toml:3".to_owned()), None]);
    assert_eq!(
        found.metrics.iter().map(|curve| curve.tag.as_str()).collect::<Vec<_>>(),
        ["eval/accuracy", "train/loss"]
    );
    assert!(found.facts.is_empty());
    assert_eq!(found.edits[0][0].changes, ["optimizer.sgd.lr: 0.1 → 0.2"]);
}
