//! `handler.checkpoint`: saves checkpoints, keeps the latest and the best.

use std::rc::Weak;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::retention::{Judge, Ledger, Saved};
use crate::monitor::Mode;
use pipe_core::Handler;
use pipe_core::event::SAVED_CHECKPOINT;
use pipe_core::{
    BuildContext, Component, Config, EngineEvent, Event, EventContext, Instance, Kind, NodeId, RecordValue, RunContext,
    State, Stateful, ValueRef,
};
use pipe_vocab::atomic;

/// Saves a checkpoint of the whole run, and keeps the latest and the best.
///
/// Each is a folder `checkpoints/step_000123`, written atomically; older ones are deleted only after the new one is on disk.
///
/// With `best`, a checkpoint is scored by the first value of `monitor` that is computed at its step or later, before the next
/// one is saved. So it may come before or after the evaluation in `run`: before it, the checkpoint is scored when the handler
/// is called next, or when the run ends. Called on an event of a nested engine (the evaluator's `completed`) it does not save,
/// only scores. The best checkpoint is never deleted; `checkpoints/best.json` names it (`name`, `value`, `step`).
/// A value that is NaN or infinite is never the best.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Number of latest checkpoints to keep.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "two")]
    pub keep_last: usize,
    /// Best checkpoints to keep in addition.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub best: Option<Best>,
    /// What to do when a checkpoint cannot be written, such as when the disk is full: `raise` stops the run, `warn` continues
    /// with the earlier checkpoints.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub on_error: OnError,
}

/// Which checkpoints are the best.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The monitored value, such as `metric.coco:segm/AP`.
    pub monitor: ValueRef,
    /// Whether lower (`min`) or higher (`max`) values are better.
    pub mode: Mode,
    /// Number of best checkpoints to keep.
    #[schemars(range(min = 1))]
    #[serde(default = "one")]
    pub keep: usize,
}

/// What to do when a checkpoint cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Stop the run.
    #[default]
    Raise,
    /// Log a warning and continue.
    Warn,
}

fn two() -> usize {
    2
}

fn one() -> usize {
    1
}

impl Config for CheckpointConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "checkpoint";
    const EXAMPLE: &'static str = r#"
[metric.accuracy]
type = "accuracy"

[handler.checkpoint]
type = "checkpoint"
keep_last = 2
best = { monitor = "metric.accuracy:accuracy", mode = "max" }
"#;

    fn events() -> &'static [Event] {
        &[Event { name: SAVED_CHECKPOINT, doc: "a checkpoint has been saved" }]
    }
}

impl Component for CheckpointConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let run = ctx.run();
        let ledger = Ledger { judged_by: self.judge(), ..Ledger::default() };
        Ok(Instance::handler(Checkpoint { node: ctx.node.clone(), config: self, run, ledger }))
    }
}

pipe_core::register!(CheckpointConfig);

const BEST: &str = "best.json";

impl CheckpointConfig {
    fn judge(&self) -> Option<Judge> {
        self.best.as_ref().map(|best| Judge { monitor: best.monitor.clone(), mode: best.mode })
    }
}

/// `best.json`: the best checkpoint, and all that have been scored, best first.
#[derive(Serialize, Deserialize)]
struct BestFile {
    name: String,
    value: f64,
    step: u64,
    #[serde(flatten)]
    judge: Judge,
    judged: Vec<Saved>,
}

/// The running handler.
struct Checkpoint {
    node: NodeId,
    config: CheckpointConfig,
    /// For the values, when another handler saves and requests the state.
    run: Weak<RunContext>,
    ledger: Ledger,
}

impl Checkpoint {
    /// The checkpoints, with the scores so far.
    fn judged(&self, run: &RunContext) -> Ledger {
        let mut ledger = self.ledger.clone();
        if let Some(best) = &self.config.best
            && let Some((value, step)) = run.value_with_step(&best.monitor)
        {
            ledger.judge(value, step);
        }
        ledger
    }

    fn judge(&mut self, run: &RunContext) -> Result<()> {
        self.ledger = self.judged(run);
        self.write_best(run)
    }

    fn save(&mut self, run: &RunContext) -> Result<std::path::PathBuf> {
        let step = run.clock.get().step;
        let name = format!("step_{step:06}");
        // A value of this very step belongs to the weights that are saved now, not to those saved before.
        let measured = self.config.best.as_ref().and_then(|best| run.value_with_step(&best.monitor));
        let mut ledger = if measured.is_some_and(|(_, at)| at < step) { self.judged(run) } else { self.ledger.clone() };
        ledger.add(&name, step);
        if let Some((value, at)) = measured.filter(|(_, at)| *at == step) {
            ledger.judge(value, at);
        }
        let path = run.checkpoints()?.save(&name, &[(self.node.clone(), State::of(&ledger)?)])?;
        self.ledger = ledger;
        self.write_best(run)?;
        self.tidy(run);
        Ok(path)
    }

    /// Removes checkpoints that need not be kept. Failed removals are retried after the next checkpoint.
    fn tidy(&mut self, run: &RunContext) {
        let best = self.config.best.as_ref().map(|best| (best.mode, best.keep));
        for name in self.ledger.surplus(self.config.keep_last, best) {
            let path = run.folder.checkpoints().join(&name);
            let removed = || if path.exists() { run.checkpoints()?.remove(&path) } else { Ok(()) };
            match removed() {
                Ok(()) => self.ledger.saved.retain(|saved| saved.name != name),
                Err(error) => tracing::warn!("{}: {error:#}", self.node),
            }
        }
    }

    /// Records the best and all values, for a resume from a checkpoint that was saved before it was scored.
    fn write_best(&self, run: &RunContext) -> Result<()> {
        let Some(judge) = self.config.judge() else { return Ok(()) };
        let ranked = self.ledger.ranked(judge.mode);
        let Some((first, value)) = ranked.first() else { return Ok(()) };
        let judged = ranked.iter().map(|(saved, _)| (*saved).clone()).collect();
        let file = BestFile { name: first.name.clone(), value: *value, step: first.step, judge, judged };
        atomic::write(&run.folder.checkpoints().join(BEST), &serde_json::to_vec_pretty(&file)?)
    }

    fn tolerate<T>(&self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.config.on_error == OnError::Warn => {
                tracing::warn!("{}: {error:#}", self.node);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl Handler for Checkpoint {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let run = ctx.run;
        let step = run.clock.get().step;
        let at_end = ctx.event == EngineEvent::Completed || ctx.event == EngineEvent::Terminate;
        let saved_already = self.ledger.saved.last().is_some_and(|saved| saved.step == step);
        if run.depth.get() > 1 || (at_end && saved_already) {
            let judged = self.judge(run);
            return self.tolerate(judged).map(|_| ());
        }
        let saved = self.save(run);
        let Some(path) = self.tolerate(saved)? else { return Ok(()) };
        let recorded = run.emit(&self.node, "checkpoint", RecordValue::Artifact(path));
        self.tolerate(recorded)?;
        ctx.fire(&self.node, SAVED_CHECKPOINT)
    }

    fn finish(&mut self, run: &RunContext) -> Result<()> {
        let judged = self.judge(run);
        self.tolerate(judged).map(|_| ())
    }
}

impl Stateful for Checkpoint {
    fn state(&self) -> Result<State> {
        match self.run.upgrade() {
            Some(run) => State::of(&self.judged(&run)),
            None => State::of(&self.ledger),
        }
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.ledger = state.to().context("the checkpoint handler's list of checkpoints")?;
        self.ledger.judge_by(self.config.judge());
        if let Some(run) = self.run.upgrade() {
            adopt(&mut self.ledger, &run)?;
        }
        Ok(())
    }
}

/// Matches a list of checkpoints with what lies in the folder: those that are gone (a resume into another folder) leave it,
/// those of it that are unknown and not older than the one resumed from (it was saved on Ctrl-C, or they belong to what will
/// be retrained) join as the oldest, and values that were measured after the list was saved are taken from `best.json`, if
/// it is of the same judge.
fn adopt(ledger: &mut Ledger, run: &RunContext) -> Result<()> {
    let (folder, resumed, checkpoints) = (run.folder.checkpoints(), run.clock.get().step, run.checkpoints()?);
    ledger.saved.retain(|saved| folder.join(&saved.name).exists());
    let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let mut unknown: Vec<Saved> = entries
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("step_")?;
            let known = ledger.saved.iter().any(|saved| saved.name == name);
            let ours = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()) && !known;
            let step = if ours { checkpoints.step_of(&entry.path())? } else { return None };
            if step < resumed {
                return None;
            }
            Some(Saved { name, step, value: None, judged: false })
        })
        .collect();
    unknown.sort_by_key(|saved| saved.step);
    ledger.saved.splice(0..0, unknown);
    let text = std::fs::read_to_string(folder.join(BEST)).unwrap_or_default();
    let Ok(file) = serde_json::from_str::<BestFile>(&text) else { return Ok(()) };
    if ledger.judged_by.as_ref() != Some(&file.judge) {
        return Ok(());
    }
    for saved in ledger.saved.iter_mut().filter(|saved| !saved.judged) {
        if let Some(known) = file.judged.iter().find(|known| known.name == saved.name && known.step == saved.step) {
            *saved = known.clone();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
            let entries = fs::read_dir(self.test.run.folder.checkpoints()).unwrap();
            let names = entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned());
            let mut names: Vec<String> = names.filter(|name| name != BEST).collect();
            names.sort();
            names
        }

        fn best_json(&self) -> (String, f64) {
            let text = fs::read_to_string(self.test.run.folder.checkpoints().join(BEST)).unwrap();
            let file: serde_json::Value = serde_json::from_str(&text).unwrap();
            (file["name"].as_str().unwrap().into(), file["value"].as_f64().unwrap())
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
        assert_eq!(state.values["saved"][1]["value"], 0.8, "also in what another one saves");
        assert_eq!(trainer.best_json().1, 0.5);
        trainer.handler.borrow_mut().finish(&trainer.test.run).unwrap();
        assert_eq!(trainer.best_json(), ("step_000002".into(), 0.8));
    }

    #[test]
    fn inside_another_engine_and_at_the_end_it_only_judges() {
        let trainer = Trainer::best(1);
        trainer.call(1, "epoch_completed").unwrap();
        trainer.measure(0.5);
        trainer.test.run.depth.set(2);
        trainer.call(1, "completed").unwrap();
        assert_eq!(trainer.best_json(), ("step_000001".into(), 0.5));
        trainer.call(2, "completed").unwrap();
        trainer.test.run.depth.set(1);
        trainer.call(1, "completed").unwrap();
        assert_eq!(trainer.names(), ["step_000001"]);
        trainer.call(2, "completed").unwrap();
        assert_eq!(trainer.names(), ["step_000001", "step_000002"]);
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
        trainer.test.run.checkpoints().unwrap().save("step_000009", &[]).unwrap();
        let from = trainer.test.run.folder.checkpoints().join("step_000003");
        pipe_run::checkpoint::load(&trainer.test.graph, &from, &[]).unwrap();
        let state = trainer.handler.borrow().state().unwrap().to::<Ledger>().unwrap();
        let seen: Vec<_> = state.saved.iter().map(|saved| (saved.name.as_str(), saved.value)).collect();
        let expected =
            [("step_000004", Some(0.1)), ("step_000009", None), ("step_000002", Some(0.9)), ("step_000003", Some(0.6))];
        assert_eq!(seen, expected);
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
            assert_eq!(trainer.call(2, "epoch_completed").is_err(), on_error == "raise");
            assert_eq!(trainer.names(), ["step_000001"]);
            trainer.test.graph.nodes.borrow_mut().shift_remove(&"handler.bad".parse::<NodeId>().unwrap());
            trainer.call(3, "epoch_completed").unwrap();
            assert_eq!(trainer.names(), ["step_000003"]);
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
}
