//! The rules of `pipe check`: `tests/checks/RULE.bad.toml` breaks one rule and no other, and what is said of it is that of the
//! snapshot `seen@RULE.snap`; `RULE.good.toml` does the same as it should be done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pipe_run::load::PipelineSource;
use serde_json::{Value, json};

use crate::program::{Pipe, Said};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checks")
}

/// The names of all rules, and whether they need the data.
fn rules() -> Vec<(String, bool)> {
    let said = Pipe::new().ok(&["check", "--rules", "--format", "json"]);
    let rules: Vec<Value> = serde_json::from_str(&said.stdout).expect("JSON");
    let text = |rule: &Value, key: &str| rule[key].as_str().expect("a text").to_owned();
    rules.iter().map(|rule| (text(rule, "name"), text(rule, "needs") == "data")).collect()
}

/// A copy of the pipelines, with data beside them.
struct Checks {
    pipe: Pipe,
}

impl Checks {
    fn new() -> Checks {
        let pipe = Pipe::new();
        std::fs::create_dir(pipe.path("base")).expect("a folder");
        for file in ["", "base"].iter().flat_map(|part| std::fs::read_dir(folder().join(part)).expect("tests/checks")) {
            let path = file.expect("an entry").path();
            let name = path.strip_prefix(folder()).expect("a name");
            if path.is_file() {
                std::fs::copy(&path, pipe.folder().join(name)).expect("copied");
            }
        }
        // Of images, rules see that they are there.
        for (set, train, val) in [
            ("animals", "cat cat dog dog fox", "cat dog fox"),
            ("without_cats", "cat cat dog dog fox", "dog fox"),
            ("unseen_cats", "dog dog fox", "cat dog fox"),
            ("hands", "left left right", "left right"),
        ] {
            for (split, classes) in [("train", train), ("val", val)] {
                let root = pipe.path("data").join(set).join(split);
                for (number, class) in classes.split(' ').enumerate() {
                    std::fs::create_dir_all(root.join(class)).expect("a folder");
                    std::fs::write(root.join(class).join(format!("{number}.png")), "").expect("an image");
                }
            }
        }
        std::fs::create_dir_all(pipe.path("data/linked")).expect("a folder");
        for split in ["train", "val"] {
            let train = pipe.path("data/animals/train");
            std::os::unix::fs::symlink(train, pipe.path("data/linked").join(split)).expect("a link");
        }
        std::fs::create_dir_all(pipe.path("data/unseen_cats/train/cat")).expect("a folder");
        for split in ["train2017", "val2017"] {
            write_cells(&pipe.path("data/cells"), split);
            write_objects(&pipe.path("data/corners"), split, &|id| [300 + id, 300, 340 + id, 340]);
            write_objects(&pipe.path("data/sizes"), split, &|id| [300 + id, 300, 40, 40]);
        }
        Checks { pipe }
    }

    /// What is said of a pipeline without its data, by this process: the program takes half a second to start.
    fn found(&self, file: &str, sets: &[String]) -> String {
        let (file, sets) = (self.pipe.path(file), sets.to_vec());
        let loaded = PipelineSource { file, profile: None, sets, base: None, accept: vec![], texts: None }.load();
        assert!(loaded.plan.is_some() || !loaded.diagnostics.is_empty());
        loaded.diagnostics.render_text(&loaded.sources, false)
    }

    fn check(&self, file: &str, more: &[&str]) -> Said {
        let mut command = self.pipe.command(&["check", file]);
        // Without the time that built-in data take where they are made first.
        Said::of(command.args(more).env_remove("HF_TOKEN").env("PIPE_LOG", "warn"))
    }
}

/// The codes of all findings.
fn codes(said: &Said) -> Vec<&str> {
    let findings = said.stderr.lines().filter(|line| line.starts_with("error[") || line.starts_with("warning["));
    findings.filter_map(|line| Some(line.split_once('[')?.1.split_once(']')?.0)).collect()
}

/// Images of 512 by 512 with objects of 8 by 8.
fn write_cells(root: &Path, split: &str) {
    write_objects(root, split, &|id| [8 * id, 16 * id, 8, 8]);
}

/// Images of 512 by 512 with objects in these boxes, by their ids.
fn write_objects(root: &Path, split: &str, bbox: &dyn Fn(i64) -> [i64; 4]) {
    let images: Vec<Value> =
        (1..=4).map(|id| json!({ "id": id, "width": 512, "height": 512, "file_name": format!("{id}.png") })).collect();
    let cell = |id: i64| {
        let [x, y, w, h] = bbox(id);
        json!({
            "id": id, "image_id": 1 + id % 4, "category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        })
    };
    let annotations: Vec<Value> = (1..=12).map(cell).collect();
    let all = json!({ "images": images, "annotations": annotations, "categories": [{ "id": 1, "name": "cell" }] });
    std::fs::create_dir_all(root.join("annotations")).expect("a folder");
    std::fs::write(root.join(format!("annotations/instances_{split}.json")), all.to_string()).expect("written");
    std::fs::create_dir_all(root.join(split)).expect("a folder");
    for id in 1..=4 {
        std::fs::write(root.join(split).join(format!("{id}.png")), "").expect("an image");
    }
}

#[test]
fn every_rule_has_a_bad_and_a_good_pipeline() {
    let files = std::fs::read_dir(folder()).expect("tests/checks").flatten();
    let names: BTreeSet<String> = files
        .map(|file| file.file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml") || name.ends_with(".snap"))
        .collect();
    let rules = rules();
    assert!(rules.len() >= 25, "{} rules", rules.len());
    let wanted = rules
        .iter()
        .flat_map(|(rule, _)| [format!("{rule}.bad.toml"), format!("{rule}.good.toml"), format!("seen@{rule}.snap")]);
    assert_eq!(names, wanted.collect());
}

#[test]
fn a_bad_pipeline_breaks_its_rule_and_no_other() {
    let checks = Checks::new();
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder());
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (rule, needs_data) in rules() {
        let file = format!("{rule}.bad.toml");
        let said = checks.check(&file, if needs_data { &["--data"] } else { &[] });
        let codes = codes(&said);
        assert!(codes.iter().all(|code| *code == rule) && !codes.is_empty(), "{file}: {}", said.stderr);
        if needs_data {
            assert_eq!(checks.found(&file, &[]), "", "{file} without the data");
        }
        let stdout = said.stdout.split(", checked in").next().unwrap_or_default().trim_end();
        let status = said.status.unwrap_or(-1);
        settings.set_snapshot_suffix(&rule);
        settings.bind(|| insta::assert_snapshot!("seen", format!("exit status {status}\n\n{}{stdout}\n", said.stderr)));
    }
}

#[test]
fn a_good_pipeline_breaks_no_rule() {
    let checks = Checks::new();
    for (rule, needs_data) in rules() {
        let file = format!("{rule}.good.toml");
        assert_eq!(checks.found(&file, &[]), "", "{rule}");
        if needs_data {
            let said = checks.check(&file, &["--data"]);
            assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{rule}");
        }
    }
}

#[test]
fn a_flip_has_to_swap_keypoints() {
    let pipe = Pipe::new();
    let root = pipe.path("people");
    write_cells(&root, "train2017");
    let file = |task: &str| root.join(format!("annotations/{task}_train2017.json"));
    let mut people: Value = serde_json::from_slice(&std::fs::read(file("instances")).expect("read")).expect("JSON");
    people["categories"][0]["keypoints"] = json!(["nose", "left_eye", "right_eye"]);
    std::fs::write(file("person_keypoints"), people.to_string()).expect("written");
    let pairs = |pairs: &str| {
        format!(
            r#"
            [dataset.train]
            type = "coco"
            root = "people"
            keypoints = true

            [loader.train]
            type = "batch"
            dataset = "dataset.train"
            transform = "transform.flip"
            batch_size = 2
            shuffle = true

            [transform.flip]
            type = "random_horizontal_flip"
            {pairs}
            [model.net]
            type = "faster_rcnn"
            num_classes = 2
            weights_backbone = ""

            [optimizer.sgd]
            type = "sgd"
            model = "model.net"

            [engine.trainer]
            type = "train"
            model = "model.net"
            optimizer = "optimizer.sgd"
            loader = "loader.train"
            max_epochs = 1
            "#
        )
    };
    pipe.write("bad.toml", &pairs(""));
    pipe.write("good.toml", &pairs("keypoint_pairs = [[2, 1]]"));
    pipe.write("named.toml", &pairs("keypoint_names = \"dataset.train:keypoint_names\""));
    let said = |file: &str| {
        pipe.run(&["check", file, "--data", "--set", "checks.allow=[\"unsaved-training\", \"small-objects\"]"])
    };
    let bad = said("bad.toml");
    assert_eq!(codes(&bad), ["mirrored-sides"], "{}", bad.stderr);
    assert!(bad.stderr.contains("let it swap them: `keypoint_pairs = [[1, 2]]`"), "{}", bad.stderr);
    assert_eq!(said("good.toml").stderr, "");
    assert_eq!(said("named.toml").stderr, "");
}

#[test]
fn a_rule_that_is_allowed_is_let_pass() {
    let checks = Checks::new();
    for (rule, needs_data) in rules() {
        let (file, allow) = (format!("{rule}.bad.toml"), format!("checks.allow=[\"{rule}\"]"));
        if needs_data {
            let said = checks.check(&file, &["--data", "--set", &allow]);
            assert_eq!((said.status, said.stderr.as_str()), (Some(0), ""), "{rule}");
        } else {
            assert_eq!(checks.found(&file, &[allow]), "", "{rule}");
        }
    }
}

#[test]
fn what_is_allowed_and_never_broken_can_be_removed() {
    let checks = Checks::new();
    let file = "wrong-mode.good.toml";
    let told = |rule: &str, more: &[&str]| {
        let allow = format!("checks.allow=[\"{rule}\"]");
        let said = checks.check(file, &[&["--set", &allow], more].concat());
        (said.status, said.stderr.lines().next().unwrap_or_default().to_owned())
    };
    let unused = |rule: &str| {
        let warning = format!("warning[unused-allow]: nothing breaks the rule `{rule}`, so it need not be allowed");
        (Some(0), warning)
    };
    assert_eq!(told("wrong-mode", &[]), unused("wrong-mode"));
    // Whether the data break it is not known without them.
    assert_eq!(told("too-few-classes", &[]), (Some(0), String::new()));
    assert_eq!(told("too-few-classes", &["--data"]), unused("too-few-classes"));
    let (status, first) = told("wrong-mod", &[]);
    assert_eq!((status, first.as_str()), (Some(2), "error[unknown-choice]: there is no rule `wrong-mod`"));
}

#[test]
fn parts_of_one_draw_have_nothing_in_common_and_others_may() {
    let checks = Checks::new();
    let base = "extends = \"base/folders_run.toml\"\n";
    let split = |part: &str, seed: u64| {
        format!("root = \"data/animals\"\nsplit = {{ part = \"{part}\", fraction = 0.5, seed = {seed} }}\n")
    };
    let told = |text: String| {
        checks.pipe.write("parts.toml", &format!("{base}{text}"));
        let said = checks.check("parts.toml", &[]);
        codes(&said).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let of = |test: String| format!("[dataset.train]\n{}[dataset.test]\n{test}", split("train", 1));
    assert_eq!(told(of(split("val", 1))), Vec::<String>::new());
    assert_eq!(told(of(split("val", 2))), ["training-data-evaluated"], "of another draw");
    assert_eq!(told(of(split("train", 1))), ["training-data-evaluated"]);
    let joined = "[dataset.all]\ntype = \"concat\"\ndatasets = [\"dataset.train\", \"dataset.test\"]\n[loader.train]\n\
                  dataset = \"dataset.all\"\n";
    assert_eq!(told(joined.into()), ["training-data-evaluated"], "a dataset of which that one is a part");
}

#[test]
fn a_run_says_once_what_its_data_break_and_does_not_begin_with_an_error() {
    let pipe = Pipe::digits("few.toml", "[engine.trainer]\nmax_iterations = 1\n[dataset.train]\nlimit = 10\n");
    let said = pipe.ok(&["run", "few.toml", "--out", "run"]);
    assert_eq!(said.stderr.matches("warning[batch-larger-than-data]").count(), 1, "{}", said.stderr);
    let allow = "checks.allow=[\"batch-larger-than-data\"]";
    let said = pipe.ok(&["run", "few.toml", "--out", "other", "--set", allow]);
    assert!(!said.stderr.contains("batch-larger-than-data"), "{}", said.stderr);
    let layers = "layers = [{ type = \"flatten\" }, { type = \"linear\", in_features = 784, out_features = 9 }]";
    pipe.write(
        "classes.toml",
        &format!("extends = \"few.toml\"\n[dataset.train]\nlimit = 64\n[model.net]\n{layers}\n"),
    );
    let said = pipe.run(&["run", "classes.toml", "--out", "wrong"]);
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("error[too-few-classes]"), "{}", said.stderr);
    assert_eq!(pipe.json("wrong/run.json")["status"], "failed");
    assert_eq!(pipe.scalars("wrong"), Vec::<Value>::new());
}
