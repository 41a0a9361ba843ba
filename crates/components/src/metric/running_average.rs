//! The running average of a value.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::watched::{Measured, Watched};
use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, Metric, MetricReport, ModelOutput, State, Stateful, ValueRef,
};
use pipe_data::Batch;

/// An exponential running average of a value of another node, such as the training loss.
///
/// `a ← alpha · a + (1 − alpha) · value`, beginning with the first value (Ignite's `RunningAverage`). It takes a value in when
/// it is computed, once per step, and by `metric.x:update` on `iteration_completed`. Named on `iteration_completed` it is
/// Ignite's `RunningBatchWise`; with `metric.x:reset` on `epoch_started`, `SingleEpochRunningBatchWise`; named on
/// `epoch_completed` after an evaluation whose value it follows, `RunningEpochWise`. A step without a new value changes nothing.
/// Value: `average`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunningAverageConfig {
    /// The value, such as `engine.trainer:loss` or `metric.accuracy:accuracy`.
    pub value: ValueRef,
    /// Weight of the average so far; the new value has the rest.
    #[serde(default = "default_alpha")]
    #[schemars(extend("x-reload" = "hot", "exclusiveMinimum" = 0), range(max = 1))]
    pub alpha: f64,
    /// The tag under which the average is recorded, instead of `<node>/average`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub tag: Option<String>,
}

fn default_alpha() -> f64 {
    0.98
}

impl Config for RunningAverageConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "running_average";
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

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 5

[metric.running_loss]
type = "running_average"
value = "engine.trainer:loss"
tag = "train/running_loss"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["metric.running_loss"]
"#;

    fn values(&self) -> Vec<String> {
        vec!["average".into()]
    }
}

impl Component for RunningAverageConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let watched = Watched::new(ctx, self.tag.clone());
        Ok(Instance::metric(RunningAverage { watched, config: self, average: None, taken: None }))
    }
}

pipe_core::register!(RunningAverageConfig);

struct RunningAverage {
    watched: Watched,
    config: RunningAverageConfig,
    average: Option<f64>,
    /// What was taken in last.
    taken: Option<Measured>,
}

impl RunningAverage {
    /// The value, if it was measured at this step.
    fn measured(&self) -> Result<Option<Measured>> {
        Ok(self.watched.latest(&self.config.value)?.filter(|measured| measured.now))
    }

    fn take(&mut self, measured: Measured) {
        let alpha = self.config.alpha;
        let value = measured.value;
        self.average = Some(self.average.map_or(value, |average| average * alpha + (1.0 - alpha) * value));
        self.taken = Some(measured);
    }
}

impl Metric for RunningAverage {
    fn reset(&mut self) {
        (self.average, self.taken) = (None, None);
    }

    fn update(&mut self, _batch: &Batch, _output: &ModelOutput) -> Result<()> {
        // Not asked whether it was taken: iterations of an evaluation share a step of the run.
        if let Some(measured) = self.measured()? {
            self.take(measured);
        }
        Ok(())
    }

    fn merges(&self) -> bool {
        true
    }

    /// The values that it is made of are those of all ranks already.
    fn merge(&mut self, _other: &State) -> Result<()> {
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let same =
            |taken: &Measured, new: &Measured| taken.step == new.step && taken.value.to_bits() == new.value.to_bits();
        if let Some(measured) =
            self.measured()?.filter(|new| !self.taken.as_ref().is_some_and(|taken| same(taken, new)))
        {
            self.take(measured);
        }
        self.watched.report("average", self.average.unwrap_or(f64::NAN))
    }
}

impl Stateful for RunningAverage {
    /// As a tensor: JSON knows no NaN.
    fn state(&self) -> Result<State> {
        let mut state = State::default();
        if let (Some(average), Some(taken)) = (self.average, self.taken) {
            state.values.insert("step".into(), taken.step.into());
            state.tensors.insert("average and value".into(), Tensor::from_slice(&[average, taken.value]));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.reset();
        if let Some(saved) = state.tensors.get("average and value") {
            let saved: Vec<f64> = Vec::try_from(saved)?;
            ensure!(saved.len() == 2, "the saved state is not that of a running average");
            let step = state.values.get("step").and_then(serde_json::Value::as_u64).unwrap_or(0);
            self.average = Some(saved[0]);
            self.taken = Some(Measured { value: saved[1], step, now: true });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use pipe_core::{Clock, Instance, Metric, ModelOutput, Shared};
    use pipe_data::Batch;
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored};

    fn build(test: &TestRun, table: &Value) -> Shared<dyn Metric> {
        match test.try_build("metric.m", table.clone()).unwrap() {
            Instance::Metric(metric) => metric,
            _ => panic!("no metric"),
        }
    }

    fn measure(test: &TestRun, step: u64, value: f64) {
        test.run.clock.set(Clock { step, epoch: 1 });
        test.run.set_value(&"engine.trainer".parse().unwrap(), "loss", value);
    }

    fn value(metric: &Shared<dyn Metric>) -> f64 {
        metric.borrow_mut().compute().unwrap().values[0].1
    }

    /// The usages of Ignite as events here: what is called each iteration, and what at the start of an epoch. Between two
    /// iterations the metric is built anew and goes on from its saved state.
    #[test]
    fn averages_are_those_of_ignite_in_each_usage() {
        let file = parity("metric/running.json");
        let (losses, epoch) = (numbers(&file["losses"]), file["epoch_length"].as_u64().unwrap() as usize);
        for case in file["cases"].as_array().unwrap() {
            let table = json!({ "type": "running_average", "value": "engine.trainer:loss", "alpha": case["alpha"] });
            let test = TestRun::new();
            let mut metric = build(&test, &table);
            let mut averages = Vec::new();
            for (i, loss) in losses.iter().enumerate() {
                if i % epoch == 0 && case["single_epoch"] == true {
                    metric.borrow_mut().reset();
                }
                measure(&test, i as u64 + 1, *loss);
                metric.borrow_mut().update(&Batch::new(1), &ModelOutput::default()).unwrap();
                let state = stored(&metric.borrow().state().unwrap());
                metric = build(&test, &table);
                metric.borrow_mut().load_state(&state).unwrap();
                averages.push(value(&metric));
            }
            assert_close(&case.to_string(), &averages, &numbers(&case["averages"]), 1e-12);
        }
    }

    #[test]
    fn a_step_without_a_new_value_changes_nothing() {
        let test = TestRun::new();
        let metric = build(&test, &json!({ "type": "running_average", "value": "engine.trainer:loss", "alpha": 0.5 }));
        assert!(value(&metric).is_nan());
        measure(&test, 1, 4.0);
        assert_eq!([value(&metric), value(&metric)], [4.0, 4.0]);
        test.run.clock.set(Clock { step: 2, epoch: 1 });
        metric.borrow_mut().update(&Batch::new(1), &ModelOutput::default()).unwrap();
        assert_eq!(value(&metric), 4.0);
        measure(&test, 3, 8.0);
        assert_eq!(value(&metric), 6.0);
        // The batches of an evaluation are all of one step of the run.
        for _ in 0..2 {
            measure(&test, 4, 2.0);
            metric.borrow_mut().update(&Batch::new(1), &ModelOutput::default()).unwrap();
        }
        assert_eq!(value(&metric), 3.0);
    }

    #[test]
    fn the_mean_of_an_epoch_weighs_samples_and_leaves_out_skipped_batches() {
        let file = parity("metric/running.json");
        let (losses, sizes) = (numbers(&file["losses"]), numbers(&file["sizes"]));
        let table = json!({ "type": "mean", "value": "engine.trainer:loss", "tag": "train/epoch_loss" });
        let test = TestRun::new();
        let mut metric = build(&test, &table);
        let mut means = Vec::new();
        for (i, (loss, size)) in losses.iter().zip(&sizes).enumerate() {
            measure(&test, 2 * i as u64, *loss);
            metric.borrow_mut().update(&Batch::new(*size as usize), &ModelOutput::default()).unwrap();
            test.run.clock.set(Clock { step: 2 * i as u64 + 1, epoch: 1 });
            metric.borrow_mut().update(&Batch::new(100), &ModelOutput::default()).unwrap();
            let state = stored(&metric.borrow().state().unwrap());
            metric = build(&test, &table);
            metric.borrow_mut().load_state(&state).unwrap();
            if (i + 1) % file["epoch_length"].as_u64().unwrap() as usize == 0 {
                assert!(metric.borrow_mut().compute().unwrap().values.is_empty(), "recorded under its own tag");
                means.push(test.run.value(&serde_json::from_value(json!("metric.m:mean")).unwrap()).unwrap());
                metric.borrow_mut().reset();
            }
        }
        assert_close("means", &means, &numbers(&file["epoch_means"]), 1e-12);
        test.run.flush().unwrap();
        let records = std::fs::read_to_string(test.run.folder.path().join("records.jsonl")).unwrap();
        assert_eq!(records.lines().filter(|line| line.contains("train/epoch_loss")).count(), means.len());
    }
}
