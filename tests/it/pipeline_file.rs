//! The pipeline file as its users meet it: the page that describes it, overrides of the command line, templates.

use std::path::Path;

use pipe_native::image::encode_png;
use serde_json::Value;
use tch::{Device, Tensor};

use crate::program::{Pipe, Said};

const PAGE: &str = include_str!("../../docs/pipeline_file.md");

/// The fenced blocks of the page: what is behind the fence, and the text.
fn blocks() -> Vec<(&'static str, String)> {
    let mut blocks = Vec::new();
    let mut lines = PAGE.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) {
            let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push((info, text.join("\n") + "\n"));
        }
    }
    blocks
}

/// The words of a command of the page, quoted as a shell reads them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        match index % 2 {
            0 => words.extend(part.split_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[test]
fn the_page_of_the_pipeline_file_is_right() {
    let pipe = Pipe::new();
    let blocks = blocks();
    let files: Vec<&str> =
        blocks.iter().filter_map(|(info, _)| info.split_once("file=").map(|(_, name)| name)).collect();
    assert!(files.len() >= 2, "{files:?}");
    for (info, text) in &blocks {
        if let Some((_, name)) = info.split_once("file=") {
            pipe.write(name, text);
        }
    }
    for name in files {
        pipe.ok(&["check", name]);
    }
    let commands = blocks.iter().filter(|(info, _)| *info == "sh").flat_map(|(_, text)| text.lines());
    let mut tried = 0;
    for line in commands {
        let words = words(line);
        assert_eq!(words[0], "pipe", "{line}");
        pipe.ok(&words[1..].iter().map(String::as_str).collect::<Vec<_>>());
        tried += 1;
    }
    assert!(tried >= 8, "only {tried} commands");
    let said = pipe.ok(&["check", "longer.toml"]);
    assert!(said.stderr.contains("warning[dropped-keys]") && said.stderr.contains("`momentum`"), "{}", said.stderr);
    let graph: Value = serde_json::from_str(&pipe.ok(&["graph", "longer.toml", "--format", "json"]).stdout).unwrap();
    let names: Vec<&Value> = graph["events"].as_array().unwrap().iter().map(|edge| &edge["name"]).collect();
    assert_eq!(names, [&Value::from("epoch"), &Value::from("score"), &Value::Null]);
}

/// What is wrong, by code.
fn codes(pipe: &Pipe, arguments: &[&str]) -> (Option<i32>, Vec<String>, String) {
    let Said { status, stdout, .. } = pipe.run(&[&["check", "--format", "json"], arguments].concat());
    let found: Vec<Value> = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"));
    (status, found.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect(), stdout)
}

#[test]
fn a_setting_that_does_nothing_is_refused_before_anything_is_run() {
    let pipe = Pipe::digits("p.toml", "[vars]\nrate = 0.1\n[optimizer.sgd]\nlr = \"${rate}\"\n");
    let (status, found, _) = codes(&pipe, &["p.toml", "--set", "vars.rate=0.2"]);
    assert_eq!((status, found.len()), (Some(0), 0));
    let (status, found, text) = codes(&pipe, &["p.toml", "--set", "vars.lr=0.2"]);
    assert_eq!((status, found), (Some(2), vec!["variable-unused".to_owned()]));
    assert!(text.contains("set the option itself: --set optimizer.sgd.lr="), "{text}");
    let (status, found, _) = codes(&pipe, &["p.toml", "--set", "optimizer.sgd.nesterov=null"]);
    assert_eq!((status, found), (Some(2), vec!["invalid-unset".to_owned()]));
    let unused = "[transform.spare]\ntype = \"normalize\"\nmean = [0.1]\nstd = [0.3]\n";
    pipe.write("spare.toml", &format!("extends = \"p.toml\"\n{unused}"));
    assert_eq!(codes(&pipe, &["spare.toml"]).0, Some(0), "it may be there");
    let (status, found, _) = codes(&pipe, &["spare.toml", "--set", "transform.spare.mean=[0.2]"]);
    assert_eq!((status, found), (Some(2), vec!["unused-node".to_owned(); 2]));
    // What a run has stored knows no variables.
    pipe.ok(&["run", "p.toml", "--set", "engine.trainer.max_epochs=1", "--quiet", "--out", "run"]);
    let said = pipe.run(&["run", "run", "--set", "vars.lr=0.2", "--out", "again"]);
    assert_eq!(said.status, Some(2), "{}", said.stderr);
    assert!(said.stderr.contains("--set optimizer.sgd.lr="), "{}", said.stderr);
    assert!(!pipe.path("again").exists());
}

#[test]
fn keys_are_kept_or_dropped_with_another_type() {
    let pipe = Pipe::digits("p.toml", "[optimizer.sgd]\ntype = \"adamw\"\n");
    let shown = pipe.ok(&["show", "p.toml"]);
    assert!(shown.stdout.contains("lr = 0.05") && !shown.stdout.contains("momentum"), "{}", shown.stdout);
    assert!(shown.stderr.contains("drops `momentum` (digits.toml:"), "{}", shown.stderr);
    // Said, it is no warning; and what is set again counts.
    let set = ["optimizer.sgd.momentum=null", "optimizer.sgd.type=adamw", "optimizer.sgd.lr=0.001"];
    let set = set.map(|one| ["--set", one]).concat();
    let (status, mut found, _) = codes(&pipe, &[&["digits.toml"], &set[..]].concat());
    found.retain(|code| code != "unused-allow");
    assert_eq!((status, found), (Some(0), vec![]));
    let (status, found, _) = codes(&pipe, &["p.toml", "--set", "optimizer.sgd.momentum=0.5"]);
    assert_eq!((status, found), (Some(2), vec!["unknown-key".to_owned()]));
    // The run stores what it runs.
    pipe.ok(&["run", "p.toml", "--set", "engine.trainer.max_epochs=1", "--quiet", "--out", "run"]);
    assert!(!pipe.read("run/pipeline.toml").contains("momentum"));
    let said = pipe.run(&["check", "p.toml", "--set", "optimizer.sgd={ type = \"sgd\", lr = 0.1 }"]);
    assert_eq!(said.status, Some(2));
    assert!(said.stderr.contains("`model` of digits.toml:"), "{}", said.stderr);
}

/// A folder of images of two classes, four of each, under `train` and `val`.
fn images(folder: &Path) {
    for split in ["train", "val"] {
        for (class, shade) in [("dark", 40), ("light", 200)] {
            let class = folder.join("data/images").join(split).join(class);
            std::fs::create_dir_all(&class).unwrap();
            for n in 0..4 {
                let image = Tensor::full([3, 36, 40], shade + n, (tch::Kind::Uint8, Device::Cpu));
                std::fs::write(class.join(format!("{n}.png")), encode_png(&image, 1).unwrap()).unwrap();
            }
        }
    }
}

#[test]
fn templates_are_right_and_can_be_run() {
    let small: &[&str] = &["vars.size=32", "vars.batch_size=2", "vars.workers=0"];
    let resnet: &[&str] = &["vars.resize=36"];
    let detector: &[&str] = &["vars.max_size=48", "model.maskrcnn.backbone=resnet18", "model.maskrcnn.weights=null"];
    let mnist: &[&str] = &["vars.batch_size=8", "dataset.train.limit=8", "dataset.test.limit=8"];
    let templates: [(&str, Option<&str>, Vec<&str>); 4] = [
        ("mnist", Some("demo"), mnist.to_vec()),
        ("image-folder", None, [small, resnet].concat()),
        ("fine-tune", None, [small, resnet, &["model.net.weights=null"]].concat()),
        ("detection", Some("shapes"), [small, detector].concat()),
    ];
    for (template, profile, sets) in templates {
        let pipe = Pipe::new();
        pipe.ok(&["new", "mine", "--template", template]);
        assert_eq!(pipe.names("mine"), [".gitignore", "README.md", "pipeline.schema.json", "pipeline.toml"]);
        let text = pipe.read("mine/pipeline.toml");
        assert!(text.starts_with("#:schema pipeline.schema.json\n"), "{text}");
        assert!(!text.contains("pipelines/"), "{text}");
        let readme = pipe.read("mine/README.md");
        let commands = readme.split("```").nth(1).unwrap().lines().filter(|line| line.starts_with("pipe ")).count();
        assert_eq!(commands, 3, "{readme}");
        let checked = pipe.ok(&["check", "mine/pipeline.toml"]);
        assert_eq!(checked.stderr, "", "{template}");
        images(&pipe.path("mine"));
        let mut arguments = vec!["check", "mine/pipeline.toml", "--rehearse", "--device", "cpu"];
        arguments.extend(profile.into_iter().flat_map(|profile| ["--profile", profile]));
        arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
        let said = pipe.ok(&arguments);
        assert!(said.stdout.contains("dry run passed"), "{template}: {}", said.stdout);
        // What is there is not overwritten, and nothing is added to it.
        let again = pipe.run(&["new", "mine", "--template", template]);
        assert_eq!(again.status, Some(2), "{}", again.stderr);
        assert!(again.stderr.contains("is not empty"), "{}", again.stderr);
    }
    let pipe = Pipe::with("notes.txt", "mine");
    assert_eq!(pipe.run(&["new", "."]).status, Some(2));
    assert_eq!(pipe.run(&["new", "notes.txt"]).status, Some(2));
    assert_eq!(pipe.names("."), ["notes.txt"]);
}

#[test]
fn boxes_alone_are_a_profile_of_the_detection_template() {
    let pipe = Pipe::new();
    pipe.ok(&["new", "mine", "--template", "detection"]);
    let shown = pipe.ok(&["show", "mine/pipeline.toml", "--profile", "boxes"]);
    assert_eq!(shown.stderr, "");
    assert!(shown.stdout.contains("type = \"faster_rcnn\""), "{}", shown.stdout);
}
