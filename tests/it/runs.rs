//! `pipe runs`: many runs, found, compared, named, forked.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::program::{Pipe, Said};

/// Two runs of four epochs, `slow` and `fast`, with another learning rate; made once.
fn made() -> &'static Pipe {
    static MADE: OnceLock<Pipe> = OnceLock::new();
    MADE.get_or_init(|| {
        let pipe = saved();
        let run = |out: &str, lr: &str| pipe.ok(&["run", "saved.toml", "--quiet", "--out", out, "--set", lr]);
        run("runs/digits/a", "optimizer.sgd.lr=0.05");
        run("runs/digits/b", "optimizer.sgd.lr=0.2");
        for (folder, name) in [("a", "slow"), ("b", "fast")] {
            pipe.ok(&["runs", "rename", &format!("runs/digits/{folder}"), name]);
        }
        pipe
    })
}

/// A pipeline with a checkpoint each epoch, at steps 4, 8, 12 and 16.
fn saved() -> Pipe {
    let more = "[handler.checkpoint]\ntype = \"checkpoint\"\nkeep_last = 20\n\n[[on]]\nevent = \"engine.trainer:epoch_completed\"\n\
                run = [\"engine.evaluator\", \"handler.checkpoint\"]\n";
    Pipe::digits("saved.toml", more)
}

fn json_of(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.stdout))
}

/// What cannot be the same twice, and what is another on other machines.
fn still(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("took") && !line.starts_with("machine."));
    let date = |word: &str| word.len() == 10 && word.bytes().filter(|byte| *byte == b'-').count() == 2;
    let clock = |word: &str| word.len() == 5 && word.as_bytes()[2] == b':';
    let masked = |line: &str| {
        let words = line.split(' ').map(|word| match word {
            word if date(word) => "DATE".into(),
            word if clock(word) => "TIME".into(),
            // Other processors round otherwise.
            word if word.len() == 6 && word.parse::<f64>().is_ok() => "#.####".into(),
            word => word.to_owned(),
        });
        words.collect::<Vec<String>>().join(" ")
    };
    lines.map(masked).collect::<Vec<_>>().join("\n")
}

/// The keys of a value, with those of the first of each list.
fn keys(value: &Value, before: &str, into: &mut Vec<String>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                into.push(format!("{before}{key}"));
                keys(value, &format!("{before}{key}."), into);
            }
        }
        Value::Array(items) => items.iter().take(1).for_each(|item| keys(item, &format!("{before}[]."), into)),
        _ => {}
    }
}

#[test]
fn runs_are_listed_with_what_they_came_to() {
    let pipe = made();
    let text = pipe.ok(&[
        "runs",
        "list",
        "--columns",
        "name,pipeline,status,created,steps,optimizer.sgd.lr,accuracy,max(accuracy)",
    ]);
    insta::assert_snapshot!(still(&text.stdout));
    let csv = pipe.ok(&["runs", "list", "--format", "csv", "--columns", "name,steps,tags", "--sort", "name"]).stdout;
    assert!(csv.starts_with("name,steps,tags\nfast,16,"), "{csv}");
    let found = json_of(&pipe.ok(&["runs", "list", "--format", "json", "--where", "optimizer.sgd.lr > 0.1"]));
    let names: Vec<&Value> = found.as_array().expect("a list").iter().map(|run| &run["name"]).collect();
    assert_eq!(names, ["fast"]);
    let mut found = found[0].clone();
    for part in ["options", "metrics"] {
        let table = found[part].as_object_mut().expect("a table");
        table.retain(|key, _| ["optimizer.sgd.lr", "train/loss"].contains(&key.as_str()));
    }
    let mut all = Vec::new();
    keys(&found, "", &mut all);
    insta::assert_snapshot!(all.join("\n"));
    let wrong = pipe.run(&["runs", "list", "--where", "optimiser.sgd.lr > 0.1"]);
    assert_eq!(wrong.status, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("there is `optimizer.sgd.lr`") && wrong.stderr.contains("^^^^"), "{}", wrong.stderr);
}

#[test]
fn a_run_is_shown_and_compared() {
    let pipe = made();
    insta::assert_snapshot!(still(&pipe.ok(&["runs", "show", "slow"]).stdout));
    insta::assert_snapshot!(still(&pipe.ok(&["runs", "compare", "slow", "fast"]).stdout));
    let best = json_of(&pipe.ok(&["runs", "best", "--by", "train/loss", "--min", "--format", "json"]));
    let losses: Vec<f64> =
        best.as_array().expect("a list").iter().map(|run| run["value"].as_f64().expect("a number")).collect();
    assert!(losses.len() >= 2 && losses.is_sorted(), "{best}");
    let all = pipe.records("runs/digits/b");
    let smallest =
        all.iter().filter(|record| record["tag"] == "train/loss").map(|record| record["value"].as_f64().unwrap_or(9.0));
    let of_fast = best.as_array().expect("a list").iter().find(|run| run["name"] == "fast").expect("it");
    assert_eq!(of_fast["value"], json!(smallest.fold(f64::INFINITY, f64::min)));
    let none = pipe.run(&["runs", "show", "slov"]);
    assert!(none.stderr.contains("there is no run `slov`") && none.stderr.contains("slow?"), "{}", none.stderr);
}

#[test]
fn what_is_said_of_a_run_stays_with_it() {
    let pipe = Pipe::digits("unused.toml", "");
    for name in ["x", "y"] {
        let folder = pipe.path(&format!("runs/p/{name}"));
        std::fs::create_dir_all(&folder).expect("made");
        let time = if name == "x" { 1.0 } else { 2.0 };
        std::fs::write(folder.join("run.json"), json!({ "status": "done", "name": "p", "created": time }).to_string())
            .expect("written");
    }
    assert_eq!(pipe.ok(&["runs", "tag", "latest", "+good", "+later"]).stdout, "good later\n");
    assert_eq!(pipe.ok(&["runs", "tag", "p/y", "-later"]).stdout, "good\n");
    pipe.ok(&["runs", "note", "p/y", "as in the paper"]);
    pipe.ok(&["runs", "rename", "p/y", "first", "--group", "seeds"]);
    let shown = json_of(&pipe.ok(&["runs", "show", "first", "--format", "json"]));
    assert_eq!(
        (&shown["tags"], &shown["note"], &shown["group"]),
        (&json!(["good"]), &json!("as in the paper"), &json!("seeds"))
    );
    assert!(pipe.run(&["runs", "rename", "p/x", "first"]).stderr.contains("is called `first` already"));
    for wrong in ["a b", "-x", "", "a/b"] {
        assert_eq!(pipe.run(&["runs", "rename", "p/x", "--", wrong]).status, Some(1), "{wrong:?}");
    }
    pipe.ok(&["runs", "tag", "p/x", "+archived"]);
    let names = |more: &[&str]| {
        let arguments = [&["runs", "list", "--format", "csv", "--columns", "name"], more].concat();
        pipe.ok(&arguments).stdout.lines().count() - 1
    };
    assert_eq!((names(&[]), names(&["--all"]), names(&["--where", "tag:archived"])), (1, 2, 1));
    // From its beginning, too; what is refused has trained nothing.
    let begin = |name: &str| {
        pipe.run(&[
            "run",
            "digits.toml",
            "--quiet",
            "--name",
            name,
            "--group",
            "seeds",
            "--set",
            "engine.trainer.max_iterations=1",
        ])
    };
    for (name, why) in [("first", "is called `first` already"), ("a/b", "cannot be a name")] {
        let said = begin(name);
        assert!(said.status == Some(1) && said.stderr.contains(why), "{}", said.stderr);
    }
    assert_eq!(begin("third").status, Some(0));
    let shown = json_of(&pipe.ok(&["runs", "show", "third", "--format", "json"]));
    assert_eq!((&shown["group"], &shown["status"]), (&json!("seeds"), &json!("done")));
    assert_eq!(pipe.names("runs/digits").len(), 1);
    pipe.ok(&["runs", "rm", "third", "--forever"]);
    pipe.ok(&["runs", "rm", "first"]);
    assert!(pipe.path("runs/.trash/p/y/about.json").exists());
    pipe.ok(&["runs", "rm", "p/x", "--forever"]);
    assert_eq!((pipe.names("runs/p").len(), names(&["--all"])), (0, 0));
}

#[test]
fn an_unchanged_fork_has_the_same_records() {
    let pipe = saved();
    pipe.ok(&["run", "saved.toml", "--quiet", "--out", "run"]);
    let whole = pipe.scalars("run");
    let said = pipe.ok(&["runs", "fork", "run", "--at", "10", "--out", "near"]).stderr;
    assert!(said.contains("going on from step 8, the newest checkpoint before step 10"), "{said}");
    assert_eq!(pipe.scalars("near"), whole);
    pipe.ok(&["runs", "fork", "run", "--at", "10", "--rerun", "--out", "exact"]);
    assert_eq!(pipe.scalars("exact"), whole);
    let from = &pipe.json("exact/run.json")["forked_from"];
    assert_eq!((&from["step"], from["run"].as_str().map(|run| run.ends_with("run"))), (&json!(10), Some(true)));
    let changed = ["runs", "fork", "run", "--at", "8", "--out", "changed", "--set", "optimizer.sgd.lr=0.5"];
    pipe.ok(&changed);
    let changed = pipe.scalars("changed");
    let same = changed.iter().zip(&whole).take_while(|(a, b)| a == b).count();
    let step = changed[same]["step"].as_u64();
    assert!(step.is_some_and(|step| step > 8), "{:?}", changed[same]);
    let origins = pipe.json("changed/pipelines/origins.json");
    assert_eq!(origins["optimizer.sgd.lr"], "--set");
    assert!(
        origins["optimizer.sgd.momentum"].as_str().is_some_and(|place| place.starts_with("digits.toml:")),
        "{origins}"
    );
    let early = pipe.run(&["runs", "fork", "run", "--at", "3", "--out", "early"]);
    assert!(early.stderr.contains("has no checkpoint at or before step 3"), "{}", early.stderr);
    let late = pipe.run(&["runs", "fork", "run", "--at", "99", "--out", "late"]);
    assert!(late.stderr.contains("has no step 99: its last is 16"), "{}", late.stderr);
}

#[test]
fn readers_start_over_where_a_run_went_back() {
    let pipe = saved();
    pipe.ok(&["run", "saved.toml", "--quiet", "--out", "run"]);
    let generation = || pipe.json("run/run.json")["generation"].clone();
    assert_eq!(generation(), 0);
    let points = |scalars: &pipe_history::Scalars| {
        let loss = scalars.points("train/loss", 0..u64::MAX).expect("points");
        loss.iter().map(|point| (point.step, point.value)).collect::<Vec<_>>()
    };
    let mut scalars = pipe_history::Scalars::open(&pipe.path("run")).expect("scalars");
    let whole = points(&scalars);
    let recorded = pipe.scalars("run").into_iter().filter(|record| record["tag"] == "train/loss");
    let recorded: Vec<_> = recorded.map(|record| (record["step"].as_u64(), record["value"].as_f64())).collect();
    assert_eq!(recorded, whole.iter().map(|(step, value)| (Some(*step), Some(*value))).collect::<Vec<_>>());
    pipe.ok(&["run", "saved.toml", "--quiet", "--resume", "run/checkpoints/step_000008", "--in-place"]);
    assert_eq!(generation(), 1);
    assert_eq!(scalars.refresh().expect("scalars"), pipe_history::Refresh::Restarted);
    assert_eq!(points(&scalars), whole);
    // A checkpoint from before there was anything to draw from.
    let path = "run/checkpoints/step_000008/state.json";
    let mut state = pipe.json(path);
    state.as_object_mut().expect("a table").remove("history");
    pipe.write(path, &state.to_string());
    let mut complete = pipe.json("run/checkpoints/step_000008/complete.json");
    let text = pipe.read(path);
    complete["files"]["state.json"] =
        json!({ "bytes": text.len(), "crc32": format!("{:08x}", crc32fast::hash(text.as_bytes())) });
    pipe.write("run/checkpoints/step_000008/complete.json", &complete.to_string());
    pipe.ok(&["run", "saved.toml", "--quiet", "--resume", "run/checkpoints/step_000008", "--in-place"]);
    let scalars = pipe_history::Scalars::open(&pipe.path("run")).expect("scalars");
    assert_eq!((generation(), points(&scalars)), (json!(2), whole));
}

#[test]
fn a_clone_is_a_new_file_or_a_new_run() {
    let pipe = saved();
    pipe.ok(&["run", "saved.toml", "--quiet", "--out", "runs/digits/a"]);
    let set = ["--set", "engine.trainer.max_epochs=2"];
    pipe.ok(&[&["runs", "clone", "latest", "--out", "new.toml"], &set[..]].concat());
    pipe.ok(&["run", "new.toml", "--quiet", "--out", "new"]);
    let whole = pipe.scalars("runs/digits/a");
    assert_eq!(pipe.scalars("new"), whole[..pipe.scalars("new").len()]);
    let there = pipe.run(&["runs", "clone", "latest", "--out", "new.toml"]);
    assert!(there.stderr.contains("new.toml is there already"), "{}", there.stderr);
    pipe.ok(&[&["runs", "clone", "latest", "--run"], &set[..]].concat());
    assert_eq!(pipe.names("runs/digits").len(), 2);
    let elsewhere = pipe.run(&["runs", "clone", "latest", "--out", "runs/x.toml"]);
    assert!(elsewhere.stderr.contains("write the file there"), "{}", elsewhere.stderr);
}

#[test]
fn a_run_as_it_was_has_the_same_records_and_says_what_is_not() {
    let pipe = saved();
    pipe.ok(&["run", "saved.toml", "--quiet", "--out", "run", "--set", "engine.trainer.max_epochs=10"]);
    // Its later life had another pipeline.
    pipe.ok(&["run", "saved.toml", "--quiet", "--resume", "run", "--set", "engine.trainer.max_epochs=11"]);
    let expected = pipe.scalars("run");
    let again = |name: &str, value: &str| {
        let mut command = pipe.command(&["runs", "clone", "run", "--as-was"]);
        let said = Said::of(command.env(name, value));
        assert_eq!(said.status, Some(0), "{}", said.stderr);
        let folder = format!("runs/digits/{}", pipe.names("runs/digits").last().expect("a run"));
        let records = pipe.scalars(&folder);
        assert!(records.len() >= 100, "{} records", records.len());
        assert_eq!(records[..], expected[..records.len()], "{folder}");
        said.stderr
    };
    assert!(!again("UNRELATED", "1").contains("not as it was"));
    let said = again("MALLOC_ARENA_MAX", "1");
    assert!(said.contains("not as it was: variable of MALLOC_ARENA_MAX: none → 1"), "{said}");
    assert_eq!(said.matches("not as it was").count(), 1, "{said}");
    let set = pipe.run(&["runs", "clone", "run", "--as-was", "--set", "optimizer.sgd.lr=1"]);
    assert_eq!(set.status, Some(2), "{}", set.stderr);
}

#[test]
fn runs_are_opened_in_tensorboard_under_their_names() {
    let pipe = Pipe::digits("logged.toml", "[sink.tensorboard]\ntype = \"tensorboard\"\n");
    pipe.ok(&["run", "digits.toml", "--quiet", "--out", "runs/digits/plain"]);
    let none = pipe.run(&["runs", "tensorboard"]);
    assert!(none.status == Some(1) && none.stderr.contains("[sink.tensorboard]"), "{}", none.stderr);
    for (name, more) in [("here", &[][..]), ("there", &["--set", "sink.tensorboard.dir=\"events\""])] {
        pipe.ok(&[&["run", "logged.toml", "--quiet", "--out", &format!("runs/digits/{name}")], more].concat());
        pipe.ok(&["runs", "rename", &format!("runs/digits/{name}"), name]);
    }
    // It looks at what it was given, as TensorBoard would.
    let fake = "#!/bin/sh\necho \"$1 $3 $4\"\nfor link in \"$2\"/*; do echo \"${link##*/} $(ls \"$link\"/*tfevents* | wc -l)\"; done\n";
    std::fs::create_dir_all(pipe.path("bin")).expect("made");
    pipe.write("bin/tensorboard", fake);
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(pipe.path("bin/tensorboard"), executable).expect("made executable");
    let temporary = pipe.path("tmp");
    // Of a call two days ago whose TensorBoard is gone, and of one that is at work.
    let [gone, at_work] = ["4294967295".to_owned(), std::process::id().to_string()].map(|process| {
        let links = temporary.join(format!("pipe-tensorboard-{process}-x"));
        std::fs::create_dir_all(&links).expect("made");
        std::os::unix::fs::symlink(pipe.path("runs/digits/plain"), links.join("plain")).expect("linked");
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
        std::fs::File::open(&links).and_then(|folder| folder.set_modified(old)).expect("older");
        links
    });
    let opened = |arguments: &[&str], path: &str| {
        let mut command = pipe.command(&[&["runs", "tensorboard"], arguments].concat());
        Said::of(command.env("PATH", path).env("TMPDIR", &temporary))
    };
    let with = format!("{}:/usr/bin:/bin", pipe.path("bin").display());
    let said = opened(&["--where", "name ~ ere", "--", "--port", "7"], &with);
    assert_eq!(
        (said.status, said.stdout.as_str()),
        (Some(0), "--logdir --port 7\nhere 1\nthere 1\n"),
        "{}",
        said.stderr
    );
    let said = opened(&["there", "runs/digits/plain"], &with);
    assert_eq!(said.stdout, "--logdir  \nthere 1\n");
    assert!(said.stderr.contains("1 of 2 runs have no event files"), "{}", said.stderr);
    let said = opened(&["here"], "/nonexistent");
    assert!(said.status == Some(0) && said.stdout.starts_with("tensorboard --logdir "), "{said:?}");
    assert!(!gone.exists() && at_work.exists() && pipe.path("runs/digits/plain/run.json").exists());
}

#[test]
fn the_option_to_blame_is_found() {
    let pipe =
        Pipe::digits("each.toml", "[[on]]\nevent = \"engine.trainer:epoch_completed\"\nrun = [\"engine.evaluator\"]\n");
    let run = |name: &str, more: &[&str]| {
        pipe.ok(&[&["run", "each.toml", "--quiet", "--out", &format!("runs/digits/{name}")], more].concat());
        pipe.ok(&["runs", "rename", &format!("runs/digits/{name}"), name]);
    };
    let set = |key: &'static str| ["--set", key];
    run("good", &[]);
    let harmless = [
        set("optimizer.sgd.momentum=null"),
        set("optimizer.sgd.weight_decay=1e-9"),
        set("loader.test.batch_size=2"),
        set("engine.trainer.log_interval=2"),
    ];
    run("bad", &[&harmless.concat()[..], &set("optimizer.sgd.lr=1e-9")].concat());
    let said = pipe.ok(&["runs", "bisect", "good", "bad", "--by", "metric.accuracy"]);
    assert_eq!(said.stdout, "optimizer.sgd.lr = 1e-9 (--set) in place of 0.05\n", "{}", said.stderr);
    assert_eq!(said.stderr.matches(", with ").count(), 3, "of five options: all, two, one: {}", said.stderr);
    // A node of another type is tried as a whole.
    let adam = [set("optimizer.sgd.type=\"adam\""), set("optimizer.sgd.momentum=null"), set("optimizer.sgd.lr=1e-9")];
    run("retyped", &[&adam.concat()[..], &set("loader.test.batch_size=2")].concat());
    let said = pipe.ok(&["runs", "bisect", "good", "retyped", "--by", "metric.accuracy"]);
    let expected = "optimizer.sgd.lr = 1e-9 (--set) in place of 0.05\noptimizer.sgd.momentum = not set in place of 0.9\n\
                    optimizer.sgd.type = adam (--set) in place of sgd\n";
    assert_eq!(said.stdout, expected, "{}", said.stderr);
    // Layers are moved as a whole, what runs on events is not.
    let layers =
        "model.net.layers=[{ type = \"flatten\" }, { type = \"linear\", in_features = 784, out_features = 10 }]";
    let on = "on=[{ event = \"engine.trainer:completed\", run = [\"metric.accuracy:reset\"] }]";
    run("other", &[set(layers), set(on), set("optimizer.sgd.lr=1e-9")].concat());
    let said = pipe.ok(&["runs", "bisect", "good", "other", "--by", "metric.accuracy"]);
    assert_eq!(said.stdout, "optimizer.sgd.lr = 1e-9 (--set) in place of 0.05\n", "{}", said.stderr);
    assert!(said.stderr.contains(", with model.net.layers\n"), "{}", said.stderr);
    assert!(said.stderr.contains("left out, since it cannot be set: on\n"), "{}", said.stderr);
    let other = pipe.run(&["runs", "bisect", "bad", "good", "--by", "metric.accuracy"]);
    assert!(other.stderr.contains("bad is not better than good"), "{}", other.stderr);
}

#[test]
fn names_of_anyone_steer_nothing() {
    let pipe = Pipe::new();
    let hostile = "\u{1b}]0;title\u{7}<script>\u{202e}\nx";
    std::fs::create_dir_all(pipe.path("runs/x")).expect("made");
    let info = json!({ "status": "failed", "name": hostile, "error": hostile, "device": hostile, "forked_from": { "run": hostile } });
    pipe.write("runs/x/run.json", &info.to_string());
    let about = json!({ "name": hostile, "tags": [hostile], "note": hostile, "group": hostile });
    pipe.write("runs/x/about.json", &about.to_string());
    let line =
        json!({ "kind": "scalar", "tag": hostile, "value": 1.0, "step": 1, "epoch": 1, "node": hostile, "time": 1.0 });
    pipe.write("runs/x/records.jsonl", &format!("{line}\n"));
    for arguments in [
        &["list"][..],
        &["list", "--format", "json"],
        &["list", "--format", "csv"],
        &["show", "latest"],
        &["compare", "latest", "runs/x"],
    ] {
        let said = pipe.ok(&[&["runs"], arguments].concat());
        let steers = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        assert!(!said.stdout.contains(steers) && !said.stderr.contains(steers), "{arguments:?}: {}", said.stdout);
    }
}

#[test]
fn runs_become_a_page_in_one_file() {
    let pipe = made();
    let said = pipe.run(&["runs", "export", "slow", "fast", "--out", "pages/rates.html"]);
    if said.stderr.contains("built without its page") {
        pipe_test_support::skip!("the page was not made");
        return;
    }
    assert_eq!(said.status, Some(0), "{}", said.stderr);
    assert!(said.stdout.starts_with("pages/rates.html ("), "{}", said.stdout);
    let html = pipe.read("pages/rates.html");
    let from = html.find("id=\"pipe-data\">").unwrap() + 15;
    let data: Value = serde_json::from_str(html[from..].split("</script>").next().unwrap()).unwrap();
    assert_eq!(data["compare"]["runs"], json!(["slow", "fast"]));
    let curves: Vec<&Value> = data["curves"].as_object().unwrap().values().collect();
    assert_eq!(curves[0]["train/loss"]["points"]["step"].as_array().unwrap().len(), 16);
    // Something else that lies there stays.
    let refused = pipe.run(&["runs", "export", "slow", "--out", "saved.toml"]);
    assert!(refused.status == Some(1) && refused.stderr.contains("HTML page"), "{refused:?}");
    assert!(pipe.run(&["runs", "export", "nobody", "--out", "x.html"]).stderr.contains("nobody"));
}
