//! What the project ships agrees with the program: pipelines, examples, schema, README.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use pipe_document::diagnostic::Sources;
use pipe_document::{Document, LoadOptions};
use pipe_plan::Plan;
use pipe_run::plugins;
use pipe_test_support::{python, skip};
use pipe_vocab::{Descriptor, Kind};

use super::program::Pipe;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pipelines() -> Vec<PathBuf> {
    let files = std::fs::read_dir(root().join("pipelines")).expect("pipelines").flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.push(root().join("examples/overfit_eight.toml"));
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Everything wrong with a pipeline, as the user would read it.
fn problems(path: &Path, profile: Option<&str>) -> String {
    let mut sources = Sources::new(root());
    let options = LoadOptions { profile: profile.map(str::to_owned), ..LoadOptions::default() };
    let (document, mut found) = Document::load(path, &options, &mut sources);
    if let Some(document) = document {
        found.merge(Plan::of(&document, &sources, plugins::catalog()).1);
    }
    found.render_text(&sources, false)
}

#[test]
fn shipped_pipelines_are_right_without_warnings() {
    for path in pipelines() {
        assert_eq!(problems(&path, None), "", "{}", path.display());
        for profile in profiles(&path) {
            assert_eq!(problems(&path, Some(&profile)), "", "{} with the profile {profile}", path.display());
        }
    }
}

/// The names of a pipeline's own profiles.
fn profiles(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).expect("a pipeline");
    let names = text.lines().filter_map(|line| line.strip_prefix("[profile.")?.split([']', '.']).next());
    names.map(str::to_owned).collect()
}

#[test]
fn shipped_pipelines_on_built_in_data_break_no_rule() {
    let pipe = Pipe::new();
    for (name, profile) in [
        ("mnist", "demo"),
        ("maskrcnn_coco", "demo"),
        ("maskrcnn_copy_paste", "demo"),
        ("maskrcnn_finetune", "shapes"),
        ("retinanet_coco", "demo"),
        ("fcos_coco", "demo"),
        ("ssd_coco", "demo"),
        ("keypoint_rcnn_coco", "demo"),
    ] {
        let path = root().join(format!("pipelines/{name}.toml")).display().to_string();
        let said = pipe.ok(&["check", &path, "--profile", profile, "--data"]);
        assert_eq!(said.stderr, "", "{name} with the profile {profile}");
    }
}

#[test]
fn the_example_of_every_component_is_right() {
    for component in plugins::catalog().iter() {
        let text = component.example.to_owned();
        let read = move |_: &Path| Ok(text.clone());
        let options = LoadOptions { read: &read, ..LoadOptions::default() };
        let mut sources = Sources::new(root());
        let (document, mut found) = Document::load(Path::new("example.toml"), &options, &mut sources);
        let document = document.expect("an example can be read");
        // An excerpt may leave out the nodes around it: what is checked is the component's own table.
        found.merge(Plan::of(&document, &sources, plugins::catalog()).1);
        let own: Vec<String> = found
            .iter()
            .filter(|one| one.is_error() && !matches!(one.code, "unknown-node" | "never-measured"))
            .map(|one| one.message.clone())
            .collect();
        assert!(own.is_empty(), "{}: {own:?}", component.full_name());
        let uses = document.root().get(component.kind.as_str()).and_then(|node| {
            node.as_table().map(|table| {
                table.iter().any(|(_, entry)| {
                    entry.node.as_table().and_then(|t| t.get("type")).and_then(|n| n.as_str()) == Some(component.name)
                })
            })
        });
        let nested = component.example.contains(&format!("type = \"{}\"", component.name));
        assert!(uses == Some(true) || nested, "the example of {} does not use it", component.full_name());
    }
}

/// Without an event a handler is never called, and a scheduler never stepped.
#[test]
fn the_example_of_every_handler_and_scheduler_shows_its_event() {
    let driven = |one: &&Descriptor| one.plugin.is_none() && matches!(one.kind, Kind::Handler | Kind::Scheduler);
    for component in plugins::catalog().iter().filter(driven) {
        let example: toml::Table = component.example.parse().expect("TOML");
        let nodes = example[component.kind.as_str()].as_table().expect("nodes");
        let own = nodes.iter().find(|(_, node)| node["type"].as_str() == Some(component.name));
        let (name, _) = own.unwrap_or_else(|| panic!("the example of {} has no node of it", component.full_name()));
        let id = toml::Value::from(format!("{}.{name}", component.kind));
        let edges = example.get("on").and_then(toml::Value::as_array).into_iter().flatten();
        let runs = edges.flat_map(|edge| edge["run"].as_array().into_iter().flatten()).any(|target| *target == id);
        assert!(runs, "no [[on]] of the example of {} runs {id}", component.full_name());
    }
}

#[test]
fn every_option_of_every_component_is_documented() {
    for component in plugins::catalog().iter() {
        assert!(!component.summary().is_empty(), "{} has no summary", component.full_name());
        let options = component.schema().get("properties").and_then(|p| p.as_object()).cloned().unwrap_or_default();
        for (name, option) in options {
            let told = option.get("description").and_then(|d| d.as_str()).is_some_and(|d| !d.is_empty());
            assert!(told, "{}: option `{name}` has no documentation", component.full_name());
        }
    }
}

#[test]
fn the_committed_schema_accepts_every_shipped_pipeline() {
    let Some(python) = python() else {
        return skip!("PIPE_TEST_PYTHON names no Python with jsonschema");
    };
    let script = "import json, sys, tomllib, jsonschema\n\
        schema = json.load(open(sys.argv[1]))\n\
        jsonschema.Draft7Validator.check_schema(schema)\n\
        for path in sys.argv[2:]:\n    jsonschema.validate(tomllib.load(open(path, 'rb')), schema)\n    print('valid', path)\n";
    let has = Command::new(&python).args(["-c", "import jsonschema, tomllib"]).output().expect("Python runs");
    if !has.status.success() {
        return skip!("the Python of PIPE_TEST_PYTHON has no jsonschema");
    }
    let output = Command::new(&python)
        .args(["-c", script])
        .arg(root().join("schemas/pipeline.json"))
        .args(pipelines())
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn taplo_accepts_every_shipped_pipeline_and_refuses_mistakes() {
    let taplo = python().map(|python| python.with_file_name("taplo"));
    let Some(taplo) = taplo.filter(|taplo| taplo.is_file()) else {
        return skip!("there is no taplo beside the Python of PIPE_TEST_PYTHON");
    };
    let schema = format!("file://{}", root().join("schemas/pipeline.json").display());
    let lint = |files: &[PathBuf]| {
        let output = Command::new(&taplo).args(["lint", "--schema", &schema]).args(files).output().expect("taplo runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (accepted, said) = lint(&pipelines());
    assert!(accepted, "{said}");
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(root().join("pipelines/mnist.toml")).expect("mnist.toml");
    for (right, wrong) in [
        ("shuffle = true", "shufle = true"),
        ("shuffle = true", "shuffle = 3"),
        ("[vars]", "[variables]"),
        ("type = \"accuracy\"", "# without a type"),
        ("type = \"relu\"", "p = 0.5"),
        ("event = \"engine.trainer:epoch_completed\"", "evnt = \"engine.trainer:epoch_completed\""),
    ] {
        let file = folder.path().join("wrong.toml");
        std::fs::write(&file, text.replacen(right, wrong, 1)).expect("written");
        let (accepted, said) = lint(&[file]);
        assert!(!accepted && text.contains(right), "{wrong} is accepted: {said}");
    }
}
