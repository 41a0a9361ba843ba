//! Hot reload: differences of plans, a thousand random edits of a training at work, what stays, the watcher, and a session of the
//! program itself.

mod at;
mod edits;
mod plugin;
mod random;
mod session;
pub(crate) mod settings;
mod state;
mod watch;

use pipe_core::{Kind, Reload};
use pipe_run::plugins;
use pipe_run::{reload::Change, reload::difference};
use pipe_vocab::Descriptor;

use settings::{Settings, load, plan};

fn names(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{}: {}", change.name(), change.describe())).collect()
}

#[test]
fn differences_are_named() {
    let first = Settings::first();
    let other = |edit: &dyn Fn(&mut Settings)| {
        let mut settings = first.clone();
        edit(&mut settings);
        names(&difference(&plan(&first.text()), &plan(&settings.text())))
    };
    assert_eq!(other(&|_| ()), Vec::<String>::new());
    assert_eq!(other(&|s| s.lr = 0.01), ["optimizer.o.lr: 0.05 → 0.01"]);
    assert_eq!(other(&|s| s.batch = 4), ["loader.train.batch_size: 8 → 4"]);
    assert_eq!(other(&|s| s.weight = Some(0.5)), ["engine.trainer.loss_weights.cross_entropy: (not set) → 0.5"]);
    assert_eq!(other(&|s| s.seed = 2), ["pipeline.seed: 1 → 2"]);
    assert_eq!(
        other(&|s| s.optimizer = "adam"),
        ["optimizer.o: type `sgd` → `adam`"],
        "options of another type are not compared"
    );
    assert_eq!(
        other(&|s| s.scheduler = None),
        [
            "scheduler.s: removed (type `exponential`)",
            "[[on]]: added: engine.trainer:epoch_completed → engine.evaluator",
            "[[on]]: removed: engine.trainer:epoch_completed → scheduler.s, engine.evaluator",
        ]
    );
    assert_eq!(
        other(&|s| s.handler = Some(("terminate_on_nan", 2))),
        [
            "handler.extra: added (type `terminate_on_nan`)",
            "[[on]]: added: engine.trainer:iteration_completed, every 2 → handler.extra",
        ]
    );
    assert_eq!(
        other(&|s| s.classes = true),
        ["model.net.layers[1].out_features: 10 → \"dataset.train:num_classes\""],
        "a property is another value, even where it is the same number"
    );
    assert_eq!(other(&|s| s.degrees = Some(5)).len(), 1, "a list of another length is one difference");
    let spaced = first.text().replace(" = ", "  =  ").replace("[vars]", "# a comment\n[vars]");
    assert!(difference(&plan(&first.text()), &plan(&spaced)).is_empty(), "writing is no difference");
    let written = first.text().replace("momentum = 0.9", "momentum = 0.9\nnesterov = false");
    assert!(difference(&plan(&first.text()), &plan(&written)).is_empty(), "a default written out is none either");
}

#[test]
fn changes_are_at_their_lines() {
    let first = Settings::first();
    let edited = Settings { batch: 4, lr: 0.01, ..first.clone() };
    let new = load(&edited.text());
    let changes = difference(&plan(&first.text()), new.plan.as_ref().unwrap());
    let places: Vec<String> = changes.iter().map(|change| change.place(&new)).collect();
    let line = |start: &str| edited.text().lines().position(|line| line.starts_with(start)).unwrap() + 1;
    let [batch, lr] = [line("batch_size"), line("lr")];
    let var = line("batch = ");
    assert_eq!(
        places,
        [format!("random.toml:{batch}, ${{batch}} from random.toml:{var}"), format!("random.toml:{lr}")]
    );
}

#[test]
fn every_option_says_what_an_edit_means() {
    let class = |component: &str, option: &str| {
        let descriptor = plugins::catalog().iter().find(|d| d.full_name() == component).unwrap();
        assert!(descriptor.schema()["properties"].get(option).is_some(), "{component} has no `{option}`");
        Reload::of_option(descriptor.schema(), option)
    };
    for option in ["lr", "momentum", "weight_decay", "nesterov", "groups", "no_weight_decay"] {
        assert_eq!(class("optimizer.sgd", option), Reload::Hot, "{option}");
    }
    for option in ["max_epochs", "log_interval", "loss_weights", "clip_grad_norm", "accumulate", "on_non_finite"] {
        assert_eq!(class("engine.train", option), Reload::Hot, "{option}");
    }
    for (component, option) in
        [("optimizer.sgd", "model"), ("loader.batch", "batch_size"), ("model.sequential", "layers")]
    {
        assert_eq!(class(component, option), Reload::Rebuild, "{component} {option}");
    }
    assert_eq!(class("handler.early_stopping", "monitor"), Reload::Rebuild);
    assert_eq!(class("handler.early_stopping", "patience"), Reload::Hot);
    let hot = |kind: Kind| {
        // Other tests of this process load plugins, whose authors may leave options unmarked; a child process and a tracker's thread
        // begin anew.
        let ours =
            |d: &&Descriptor| !d.name.starts_with("test_") && !["process", "mlflow", "clearml"].contains(&d.name);
        let of_kind = plugins::catalog().of_kind(kind).filter(ours);
        of_kind.flat_map(|d| {
            let options = d.schema()["properties"].as_object().into_iter().flatten();
            options.map(move |(name, schema)| (format!("{} {name}", d.full_name()), d, name.clone(), schema.clone()))
        })
    };
    for kind in [Kind::Optimizer, Kind::Scheduler, Kind::Handler, Kind::Sink, Kind::Engine] {
        for (what, descriptor, name, schema) in hot(kind) {
            let names = ["x-port", "x-target"].iter().any(|mark| schema.to_string().contains(mark));
            let names_another = names && kind != Kind::Sink;
            // What is known of one value, or of checkpoints in one folder, says nothing of another.
            let judged = matches!(name.as_str(), "monitor" | "mode" | "engine" | "weights_only");
            if !names_another && !judged {
                assert_eq!(Reload::of_option(descriptor.schema(), &name), Reload::Hot, "{what}");
            }
        }
    }
    let schema = pipe_plan::pipeline::schema();
    for option in ["seed", "device", "precision"] {
        assert_eq!(Reload::of_option(schema, option), Reload::Fixed, "{option}");
    }
}
