//! What is saved, kept, judged and removed.

use std::fs;

use super::*;
use pipe_core::EngineState;
use pipe_core::{Clock, Shared};
use pipe_run::testing::TestRun;
use serde_json::json;

struct Trainer {
    test: TestRun,
    handler: Shared<dyn Handler>,
}

impl Trainer {
    fn new(table: serde_json::Value) -> Trainer {
        let test = TestRun::new();
        test.run.depth.set(1);
        let mut table = table;
        table["type"] = "checkpoint".into();
        let Instance::Handler(handler) = test.try_build("handler.c", table).unwrap() else { panic!("no handler") };
        Trainer { test, handler }
    }

    fn best(keep_last: usize) -> Trainer {
        Trainer::new(json!({ "keep_last": keep_last, "best": { "monitor": "metric.m:v", "mode": "max" } }))
    }

    fn call(&self, step: u64, event: &str) -> Result<()> {
        self.test.run.clock.set(Clock { step, epoch: step });
        self.test.call_at(&self.handler, event, &EngineState::default(), step, None)
    }

    fn measure(&self, value: f64) {
        self.test.run.set_value(&"metric.m".parse().unwrap(), "v", value);
    }

    fn names(&self) -> Vec<String> {
        self.test.graph.settle();
        let entries = fs::read_dir(self.test.run.folder.checkpoints()).unwrap();
        let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| name != BEST).collect();
        names.sort();
        names
    }

    fn best_json(&self) -> (String, f64) {
        self.test.graph.settle();
        let text = fs::read_to_string(self.test.run.folder.checkpoints().join(BEST)).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        let best = &file["best"][0];
        (best["name"].as_str().unwrap().into(), best["value"].as_f64().unwrap())
    }
}

#[test]
fn saved_before_the_evaluation_the_best_stays() {
    let trainer = Trainer::best(1);
    for (step, value) in [(1, 0.5), (2, 0.9), (3, 0.6), (4, 0.7)] {
        trainer.call(step, "epoch_completed").unwrap();
        trainer.measure(value);
    }
    assert_eq!(trainer.names(), ["step_000002", "step_000004"]);
    assert_eq!(trainer.best_json(), ("step_000002".into(), 0.9));
}

#[test]
fn saved_after_the_evaluation_the_same_one_is_best() {
    let trainer = Trainer::best(1);
    for (step, value) in [(1, 0.5), (2, 0.9), (3, 0.6), (4, 0.7)] {
        trainer.test.run.clock.set(Clock { step, epoch: step });
        trainer.measure(value);
        trainer.call(step, "epoch_completed").unwrap();
    }
    assert_eq!(trainer.names(), ["step_000002", "step_000004"]);
    assert_eq!(trainer.best_json(), ("step_000002".into(), 0.9));
}

#[test]
fn the_last_checkpoint_is_judged_at_the_end() {
    let trainer = Trainer::best(1);
    trainer.call(1, "epoch_completed").unwrap();
    trainer.measure(0.5);
    trainer.call(2, "epoch_completed").unwrap();
    trainer.measure(0.8);
    let state = trainer.handler.borrow().state().unwrap();
    let scores = &state.values["saved"][1]["scores"];
    assert_eq!(scores["metric.m:v"], 0.8, "also in what another one saves");
    assert_eq!(trainer.best_json().1, 0.5);
    trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
    assert_eq!(trainer.best_json(), ("step_000002".into(), 0.8));
}

#[test]
fn weights_that_have_not_changed_are_only_judged() {
    let trainer = Trainer::best(1);
    trainer.call(1, "epoch_completed").unwrap();
    trainer.measure(0.5);
    trainer.test.run.depth.set(2);
    trainer.call(1, "completed").unwrap();
    assert_eq!(trainer.best_json(), ("step_000001".into(), 0.5));
    trainer.test.run.depth.set(1);
    trainer.call(1, "completed").unwrap();
    assert_eq!(trainer.names(), ["step_000001"]);
    trainer.call(2, "completed").unwrap();
    assert_eq!(trainer.names(), ["step_000001", "step_000002"]);
}

#[test]
fn wired_to_an_evaluator_alone_it_saves() {
    let trainer = Trainer::best(1);
    trainer.test.run.depth.set(2);
    for (step, value) in [(1, 0.9), (2, 0.5), (3, 0.6)] {
        trainer.test.run.clock.set(Clock { step, epoch: step });
        trainer.test.run.weights_changed();
        trainer.measure(value);
        trainer.call(step, "completed").unwrap();
    }
    assert_eq!(trainer.names(), ["step_000001", "step_000003"]);
    assert_eq!(trainer.best_json(), ("step_000001".into(), 0.9));
}

#[test]
fn two_handlers_at_one_step_have_each_their_own() {
    let trainer = Trainer::new(json!({ "keep_last": 1 }));
    let second = trainer.test.handler("handler.anchors", json!({ "type": "checkpoint", "keep_every": 2 }));
    for step in 1..=4 {
        trainer.call(step, "epoch_completed").unwrap();
        trainer.test.call_at(&second, "epoch_completed", &EngineState::default(), step, None).unwrap();
    }
    let names =
        ["step_000001.anchors", "step_000002.anchors", "step_000003.anchors", "step_000004", "step_000004.anchors"];
    assert_eq!(trainer.names(), names);
}

#[test]
fn names_from_a_file_lead_nowhere_else() {
    let trainer = Trainer::new(json!({ "keep_last": 1 }));
    let outside = trainer.test.run.folder.path().join("victim");
    fs::create_dir_all(&outside).unwrap();
    let saved = ["../victim", "step_1/../../victim", "step_", "step_9"].map(|name| json!({ "name": name, "step": 1 }));
    let values = json!({ "saved": saved, "unchanged": false }).as_object().cloned().unwrap();
    trainer.handler.borrow_mut().load_state(&State { values, ..State::default() }).unwrap();
    for step in 2..5 {
        trainer.call(step, "epoch_completed").unwrap();
    }
    assert!(outside.exists());
}

#[test]
fn weights_alone_are_saved_beside_the_checkpoints() {
    let trainer = Trainer::new(json!({ "keep_last": 1, "weights_only": true }));
    trainer.call(1, "epoch_completed").unwrap();
    trainer.call(2, "epoch_completed").unwrap();
    trainer.test.graph.settle();
    let weights = fs::read_dir(trainer.test.run.folder.path().join("weights")).unwrap();
    let names: Vec<_> = weights.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["step_000002"]);
    assert!(!trainer.test.run.folder.checkpoints().exists());
}

#[test]
fn a_resume_knows_what_lies_in_the_folder() {
    let trainer = Trainer::best(2);
    for (step, value) in [(1, 0.5), (2, 0.9), (3, 0.6), (4, 0.1)] {
        trainer.call(step, "epoch_completed").unwrap();
        trainer.measure(value);
    }
    trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
    trainer.test.run.clock.set(Clock { step: 9, epoch: 9 });
    pipe_run::checkpoint::save(&trainer.test.graph, "step_000009").unwrap();
    let from = trainer.test.run.folder.checkpoints().join("step_000003");
    pipe_run::checkpoint::load(&trainer.test.graph, &from, &[]).unwrap();
    let state = trainer.handler.borrow().state().unwrap().to::<Ledger>().unwrap();
    let score = |saved: &Saved| saved.scores.get("metric.m:v").copied().flatten();
    let seen: Vec<_> = state.saved.iter().map(|saved| (saved.name.as_str(), score(saved))).collect();
    assert_eq!(seen, [("step_000002", Some(0.9)), ("step_000003", Some(0.6))]);
    // A run that failed goes on from what a signal has left.
    trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
    // The call in which that checkpoint was saved comes to its end.
    trainer.call(3, "epoch_completed").unwrap();
    assert_eq!(trainer.names(), ["step_000002", "step_000003", "step_000004", "step_000009"]);
    trainer.call(5, "epoch_completed").unwrap();
    assert_eq!(trainer.names(), ["step_000002", "step_000003", "step_000005"]);
}

#[test]
fn what_cannot_be_written_loses_nothing() {
    for on_error in ["raise", "warn"] {
        let trainer = Trainer::new(json!({ "keep_last": 1, "on_error": on_error }));
        trainer.call(1, "epoch_completed").unwrap();
        let bad = tch::Tensor::zeros([1], (tch::Kind::ComplexFloat, tch::Device::Cpu));
        let tensors = [("x".to_owned(), bad)].into_iter().collect();
        trainer.test.add("handler.bad", Instance::handler(Unsaveable(tensors)));
        trainer.call(2, "epoch_completed").unwrap();
        assert_eq!(trainer.names(), ["step_000001"]);
        trainer.test.graph.nodes.borrow_mut().shift_remove(&"handler.bad".parse::<NodeId>().unwrap());
        assert_eq!(trainer.call(3, "epoch_completed").is_err(), on_error == "raise", "it is known by now");
        trainer.call(4, "epoch_completed").unwrap();
        assert_eq!(trainer.names(), ["step_000004"]);
    }
}

/// A run that goes on without a checkpoint that could not be written loses neither an older one nor its value.
#[test]
fn one_that_could_not_be_written_takes_nothing_with_it() {
    let table = json!({ "keep_last": 1, "on_error": "warn", "best": { "monitor": "metric.m:v", "mode": "max" } });
    let trainer = Trainer::new(table);
    let bad = || {
        let tensor = tch::Tensor::zeros([1], (tch::Kind::ComplexFloat, tch::Device::Cpu));
        Instance::handler(Unsaveable([("x".to_owned(), tensor)].into_iter().collect()))
    };
    let ok = |step: u64, value: f64| {
        trainer.test.graph.nodes.borrow_mut().shift_remove(&"handler.bad".parse::<NodeId>().unwrap());
        trainer.call(step, "epoch_completed").unwrap();
        trainer.measure(value);
    };
    let failing = |step: u64, value: f64| {
        trainer.test.add("handler.bad", bad());
        trainer.call(step, "epoch_completed").unwrap();
        trainer.measure(value);
    };
    ok(1, 0.3);
    failing(2, 0.9);
    failing(3, 0.95);
    assert_eq!(trainer.names(), ["step_000001"]);
    trainer.test.run.complete.set(true);
    trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
    assert_eq!((trainer.names(), trainer.best_json()), (vec!["step_000001".to_owned()], ("step_000001".into(), 0.3)));
    // The best one stays through a failure between.
    ok(4, 0.8);
    failing(5, 0.99);
    ok(6, 0.2);
    ok(7, 0.1);
    trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
    assert_eq!(trainer.names(), ["step_000004", "step_000007"]);
    assert_eq!(trainer.best_json(), ("step_000004".into(), 0.8));
}

/// The same where not even its writing could begin.
#[test]
fn one_that_could_not_be_begun_takes_nothing_with_it() {
    let trainer = Trainer::new(json!({ "keep_last": 1, "on_error": "warn" }));
    trainer.call(1, "epoch_completed").unwrap();
    trainer.test.add("handler.silent", Instance::handler(Silent));
    trainer.call(2, "epoch_completed").unwrap();
    trainer.call(3, "epoch_completed").unwrap();
    trainer.test.run.complete.set(true);
    trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
    assert_eq!(trainer.names(), ["step_000001"]);
}

/// A handler whose state cannot be read.
struct Silent;

impl Stateful for Silent {
    fn state(&self) -> Result<State> {
        anyhow::bail!("it does not say")
    }
}

impl Handler for Silent {
    fn call(&mut self, _ctx: &EventContext<'_>) -> Result<()> {
        Ok(())
    }
}

struct Unsaveable(pipe_vision::nn::StateDict);

impl Stateful for Unsaveable {
    fn state(&self) -> Result<State> {
        let tensors = self.0.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
        Ok(State { values: Default::default(), tensors })
    }
}

impl Handler for Unsaveable {
    fn call(&mut self, _ctx: &EventContext<'_>) -> Result<()> {
        Ok(())
    }
}
