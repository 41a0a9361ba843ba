//! Broken pipelines of every sort through document and plan: findings, never a panic, never a hang.

use std::path::Path;

use pipe_document::diagnostic::Sources;
use pipe_document::{Document, LoadOptions};
use pipe_plan::Plan;
use proptest::prelude::*;

/// Parents, profiles in both, every key of `[[on]]`.
const CHILD: &str = r#"
extends = "parent.toml"

[vars]
x = 3

[optimizer.sgd]
lr = 0.1

[handler.checkpoint]
type = "checkpoint"
best = { monitor = "metric.accuracy:accuracy", mode = "max" }

[[on]]
event = ["engine.trainer:epoch_completed", "engine.trainer:completed"]
every = 2
after = 1
before = 9
first = true
run = ["handler.checkpoint", "engine.evaluator", "metric.accuracy:reset"]

[[on]]
event = "engine.trainer:iteration_completed"
once = [1, 5]
run = ["scheduler.decay"]

[profile.demo]
engine.trainer.max_epochs = 2
on = []
"#;

const SHIPPED: [&str; 4] = [
    CHILD,
    include_str!("../../pipelines/mnist.toml"),
    include_str!("../../pipelines/image_folder.toml"),
    include_str!("../../pipelines/maskrcnn_coco.toml"),
];

/// What a slip of the editor does to a file.
#[derive(Debug, Clone)]
enum Slip {
    DropLine(usize),
    RepeatLine(usize),
    SwapLines(usize, usize),
    ReplaceValue(usize, &'static str),
    DropCharacter(usize),
}

fn slip() -> impl Strategy<Value = Slip> {
    let values = prop::sample::select(vec![
        "0",
        "-1",
        "1e308",
        "nan",
        "\"\"",
        "\"engine.trainer\"",
        "\"dataset.train:num_classes\"",
        "\"${x}\"",
        "[]",
        "{}",
        "true",
        "[[[]]]",
        "{ type = \"compose\", steps = [{ type = \"compose\", steps = [] }] }",
        "2026-11-23",
        "9223372036854775807",
    ]);
    prop_oneof![
        any::<usize>().prop_map(Slip::DropLine),
        any::<usize>().prop_map(Slip::RepeatLine),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Slip::SwapLines(a, b)),
        (any::<usize>(), values).prop_map(|(line, value)| Slip::ReplaceValue(line, value)),
        any::<usize>().prop_map(Slip::DropCharacter),
    ]
}

/// What somebody might type after `--set`.
fn set() -> impl Strategy<Value = String> {
    let keys = prop::sample::select(vec![
        "engine.trainer.max_epochs",
        "optimizer.sgd.lr",
        "optimizer.sgd.type",
        "on",
        "vars.x",
        "profile.demo.vars.x",
        "extends",
        "model.net.layers",
        "handler.checkpoint",
        "sink.new.type",
        "..",
        "a b",
    ]);
    let values = prop::sample::select(vec![
        "1",
        "-1",
        "\"adam\"",
        "adam",
        "[]",
        "{}",
        "true",
        "'${x}'",
        "\"${env:HOME}\"",
        "\"console\"",
        "[{ event = 1 }]",
        "",
        "=",
    ]);
    (keys, values).prop_map(|(key, value)| format!("{key}={value}"))
}

fn apply(text: &str, slip: &Slip) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let count = lines.len().max(1);
    match slip {
        Slip::DropLine(at) if !lines.is_empty() => {
            lines.remove(at % count);
        }
        Slip::RepeatLine(at) if !lines.is_empty() => {
            let line = lines[at % count].clone();
            lines.insert(at % count, line);
        }
        Slip::SwapLines(a, b) if !lines.is_empty() => lines.swap(a % count, b % count),
        Slip::ReplaceValue(at, value) => {
            let with_values: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].contains(" = ")).collect();
            if let Some(line) = with_values.get(at % with_values.len().max(1)) {
                let key = lines[*line].split(" = ").next().unwrap_or_default().to_owned();
                lines[*line] = format!("{key} = {value}");
            }
        }
        Slip::DropCharacter(at) => {
            let characters: Vec<char> = text.chars().collect();
            let at = at % characters.len().max(1);
            return characters.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, c)| *c).collect();
        }
        _ => {}
    }
    lines.join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn broken_pipelines_are_told_not_panicked_about(
        which in 0..SHIPPED.len(), slips in prop::collection::vec(slip(), 1..12), demo in any::<bool>(),
        in_parent in any::<bool>(), sets in prop::collection::vec(set(), 0..4),
    ) {
        let slipped = |text: &str| slips.iter().fold(text.to_owned(), |text, slip| apply(&text, slip));
        let parent = if in_parent { slipped(SHIPPED[1]) } else { SHIPPED[1].to_owned() };
        let text = if in_parent && which == 0 { CHILD.to_owned() } else { slipped(SHIPPED[which]) };
        let read = |path: &Path| Ok(if path.ends_with("parent.toml") { parent.clone() } else { text.clone() });
        let env = |_: &str| None;
        let profile = demo.then(|| "demo".to_owned());
        let options = LoadOptions { profile, sets, read: &read, env: &env, ..LoadOptions::default() };
        let mut sources = Sources::new("");
        let (document, mut found) = Document::load(Path::new("broken.toml"), &options, &mut sources);
        let mut planned = false;
        if let Some(document) = &document {
            let (plan, more) = Plan::of(document, &sources, pipe_run::plugins::catalog());
            found.merge(more);
            planned = plan.is_some();
            if let Some(plan) = plan {
                prop_assert!(plan.order.len() == plan.nodes.len());
                plan.render_text();
                plan.render_json();
            }
        }
        let shown = found.render_text(&sources, false);
        prop_assert!(planned || found.has_errors(), "neither a plan nor an error:\n{text}\n{shown}");
        let json = found.render_json(&sources);
        prop_assert_eq!(json.as_array().map(Vec::len), Some(found.len()));
    }
}
