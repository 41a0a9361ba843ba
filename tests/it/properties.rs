//! Options that take a property of another node: its value is under the same ranges and checks as one in the file.

use std::rc::Rc;

use pipe_run::{RunOptions, Running, plugins};

use super::reload::settings::{Settings, plan};
use crate::program::alone;

/// The error with which a run of a pipeline does not start, or nothing.
fn start(text: &str) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let options = RunOptions {
        folder: folder.path().join("run"),
        device: Some("cpu".into()),
        quiet: true,
        ..RunOptions::default()
    };
    // What the plan can know is right: the value is there only when the node that has it is built.
    let plan = plan(text);
    let started = Running::start(&plan, Rc::new(plugins::catalog().clone()), &options, Default::default());
    let info = std::fs::read_to_string(folder.path().join("run/run.json")).unwrap();
    assert_eq!(info.contains("\"failed\""), started.is_err(), "{info}");
    started.err().map(|error| format!("{error:#}"))
}

/// The pipeline with something more in it, and a training of three batches in each of `epochs` epochs.
fn pipeline(more: &str, epochs: u32) -> String {
    Settings { scheduler: None, max_epochs: epochs, ..Settings::first() }.text() + more
}

fn scheduler(table: &str) -> String {
    let on = "[[on]]\nevent = \"engine.trainer:iteration_completed\"\nrun = [\"scheduler.s\"]\n";
    format!("\n[scheduler.s]\noptimizer = \"optimizer.o\"\n{table}\n\n{on}")
}

#[test]
fn a_property_within_the_range_is_taken() {
    let _alone = alone();
    let warmup = scheduler("type = \"linear_warmup\"\niterations = \"engine.trainer:iterations\"");
    assert_eq!(start(&pipeline(&warmup, 2)), None);
    let classes = Settings { classes: true, ..Settings::first() };
    assert_eq!(start(&classes.text()), None);
}

#[test]
fn a_property_out_of_range_is_named_with_its_option_and_the_range() {
    let _alone = alone();
    let layers = pipeline("", 1).replace(
        "{ type = \"flatten\" }",
        "{ type = \"flatten\" }, { type = \"dropout\", p = \"dataset.train:num_classes\" }",
    );
    let error = start(&layers).expect("a chance of 10 is none");
    let expected = "cannot build model.net (random.toml:31:8): option `layers[1].p` would be 10: it must be at least 0 and at most 1 (`layers[1].p` \
                    is `dataset.train:num_classes`)";
    assert_eq!(error, expected);

    let share = scheduler("type = \"one_cycle\"\ntotal_steps = 10\npct_start = \"engine.trainer:iterations\"");
    let error = start(&pipeline(&share, 2)).expect("a share of 6 is out of range");
    let expected = "cannot build scheduler.s (random.toml:67:12): option `pct_start` would be 6: ";
    assert!(error.starts_with(expected) && error.contains("`pct_start` is `engine.trainer:iterations`"), "{error}");
}

#[test]
fn a_property_that_the_components_own_check_refuses_is_named() {
    let _alone = alone();
    let points = "type = \"piecewise_linear\"\npoints = [[0, 1.0], [\"loader.train:batches\", 0.5], [3, 0.1]]";
    let error = start(&pipeline(&scheduler(points), 1)).expect("two points of step 3");
    assert!(error.starts_with("cannot build scheduler.s (random.toml:67:12): option `points"), "{error}");
    assert!(error.contains("step 3 comes after step 3"), "{error}");
}
