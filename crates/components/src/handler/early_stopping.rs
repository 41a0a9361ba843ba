//! `handler.early_stopping`: stops training when a value stops improving.

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::monitor::Mode;
use pipe_core::Handler;
use pipe_core::facts::{Facts, Watched};
use pipe_core::record::short;
use pipe_core::{
    BuildContext, Component, Config, Engine, EventContext, Instance, Kind, NodeId, Ref, State, Stateful, Termination,
    ValueRef,
};

/// Stops an engine when a monitored value has stopped improving.
///
/// Each call checks the latest value of `monitor`; after `patience` consecutive calls without improvement the engine stops at
/// the end of its iteration. A value that is NaN or infinite is not an improvement. Call it after the evaluation that computes the
/// value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EarlyStoppingConfig {
    /// The monitored value, such as `metric.accuracy:accuracy`.
    pub monitor: ValueRef,
    /// Whether lower (`min`) or higher (`max`) values are better.
    pub mode: Mode,
    /// Patience: number of calls without improvement after which the engine stops.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "five")]
    pub patience: u64,
    /// Minimum improvement over the best value, absolute.
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    #[serde(default)]
    pub min_delta: f64,
    /// The engine to stop: the trainer.
    #[schemars(extend("x-reload" = "hot"))]
    pub engine: Ref<Engine>,
}

fn five() -> u64 {
    5
}

impl Config for EarlyStoppingConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "early_stopping";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "mnist"
root = "builtin:digits"

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 64

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.01

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 100

[metric.accuracy]
type = "accuracy"

[handler.stop]
type = "early_stopping"
monitor = "metric.accuracy:accuracy"
mode = "max"
patience = 3
engine = "engine.trainer"

[[on]]
event = "engine.evaluator:completed"
run = ["handler.stop"]
"#;

    fn facts(&self) -> Facts {
        let watched = Watched { value: self.monitor.clone(), better: self.mode.better(), option: vec!["mode".into()] };
        Facts { watches: vec![watched], patience: Some((self.patience, "patience")), ..Facts::default() }
    }
}

impl Component for EarlyStoppingConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::handler(EarlyStopping { node: ctx.node.clone(), config: self, seen: Seen::default() }))
    }
}

pipe_core::register!(EarlyStoppingConfig);

/// The running handler.
struct EarlyStopping {
    node: NodeId,
    config: EarlyStoppingConfig,
    seen: Seen,
}

/// The state of the monitored value.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Seen {
    best: Option<f64>,
    bad_calls: u64,
}

impl EarlyStoppingConfig {
    fn is_better(&self, value: f64, best: Option<f64>) -> bool {
        self.mode.improves(value, best, |best| best + self.mode.towards_better(self.min_delta))
    }
}

impl Handler for EarlyStopping {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let EarlyStoppingConfig { monitor, patience, engine, .. } = &self.config;
        let value = ctx.run.value(monitor).with_context(|| {
            format!(
                "`{monitor}` has not been measured yet: in `run`, put {} after the evaluation that computes it",
                self.node
            )
        })?;
        if self.config.is_better(value, self.seen.best) {
            self.seen = Seen { best: Some(value), bad_calls: 0 };
            return Ok(());
        }
        self.seen.bad_calls += 1;
        if self.seen.bad_calls >= *patience {
            let best = self.seen.best.map_or("none".to_owned(), short);
            tracing::info!(
                "{}: {monitor} has not improved {patience} times (best: {best}); {} stops",
                self.node,
                engine.node
            );
            ctx.run.terminate(&engine.node, Termination::Run);
        }
        Ok(())
    }
}

impl Stateful for EarlyStopping {
    fn state(&self) -> Result<State> {
        State::of(&self.seen)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.seen = state.to()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use pipe_core::Termination;
    use pipe_run::testing::{TestRun, stored};

    /// After how many values the engine is asked to stop, the state being saved and loaded before each when `resumed`.
    fn stops_after(options: serde_json::Value, values: &[f64], resumed: bool) -> Option<usize> {
        let test = TestRun::new();
        let mut table =
            json!({ "type": "early_stopping", "monitor": "metric.m:v", "engine": "engine.t", "mode": "max" });
        table.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        let mut handler = test.handler("handler.h", table.clone());
        let engine = "engine.t".parse().unwrap();
        values.iter().position(|value| {
            if resumed {
                let state = stored(&handler.borrow().state().unwrap());
                handler = test.handler("handler.h", table.clone());
                handler.borrow_mut().load_state(&state).unwrap();
            }
            test.run.set_value(&"metric.m".parse().unwrap(), "v", *value);
            test.call(&handler, "epoch_completed", None).unwrap();
            test.run.termination(&engine) == Some(Termination::Run)
        })
    }

    #[test]
    fn patience_counts_calls_without_an_improvement() {
        for resumed in [false, true] {
            let values = [0.1, 0.2, 0.2, 0.3, 0.3, f64::NAN, 0.4];
            assert_eq!(stops_after(json!({ "patience": 2 }), &values, resumed), Some(5));
            assert_eq!(stops_after(json!({ "patience": 3 }), &values, resumed), None);
            assert_eq!(stops_after(json!({ "patience": 2, "min_delta": 0.15 }), &values, resumed), Some(2));
            assert_eq!(stops_after(json!({ "patience": 2, "mode": "min" }), &values, resumed), Some(2));
        }
    }

    #[test]
    fn a_missing_value_is_an_error_that_names_it() {
        let test = TestRun::new();
        let table = json!({ "type": "early_stopping", "monitor": "metric.m:v", "engine": "engine.t", "mode": "max" });
        let handler = test.handler("handler.h", table);
        let error = test.call(&handler, "epoch_completed", None).unwrap_err().to_string();
        assert!(error.contains("metric.m:v") && error.contains("handler.h"), "{error}");
    }
}
