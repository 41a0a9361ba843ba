//! The mean of a value over the iterations of training.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::watched::Watched;
use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, Metric, MetricReport, ModelOutput, State, Stateful, ValueRef,
};
use pipe_data::Batch;

/// The mean of a value that is measured every iteration, such as the training loss, over what was taken in since the reset.
///
/// `metric.x:update` on `iteration_completed` takes the value in, weighted by the batch's number of samples; `metric.x` computes
/// the mean. Computed and then reset on `epoch_completed`, it is the epoch's mean (Ignite's `EpochWise`). A batch without a value, such
/// as one that was skipped, does not count. List the update before a checkpoint of the same event, so that it holds
/// it. Value: `mean`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanConfig {
    /// The value, such as `engine.trainer:loss`.
    pub value: ValueRef,
    /// The tag under which the mean is recorded, instead of `<node>/mean`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub tag: Option<String>,
}

impl Config for MeanConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "mean";
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

[metric.epoch_loss]
type = "mean"
value = "engine.trainer:loss"
tag = "train/epoch_loss"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["metric.epoch_loss:update"]

[[on]]
event = "engine.trainer:epoch_completed"
run = ["metric.epoch_loss", "metric.epoch_loss:reset"]
"#;

    fn values(&self) -> Vec<String> {
        vec!["mean".into()]
    }
}

impl Component for MeanConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(Mean { watched: Watched::new(ctx, self.tag), value: self.value, sum: 0.0, weight: 0.0 }))
    }
}

pipe_core::register!(MeanConfig);

struct Mean {
    watched: Watched,
    value: ValueRef,
    sum: f64,
    weight: f64,
}

impl Metric for Mean {
    fn reset(&mut self) {
        (self.sum, self.weight) = (0.0, 0.0);
    }

    fn update(&mut self, batch: &Batch, _output: &ModelOutput) -> Result<()> {
        if let Some(measured) = self.watched.latest(&self.value)?.filter(|measured| measured.now) {
            let samples = self.watched.samples(batch)? as f64;
            self.sum += measured.value * samples;
            self.weight += samples;
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
        self.watched.report("mean", self.sum / self.weight)
    }
}

impl Stateful for Mean {
    /// As a tensor: JSON knows no NaN.
    fn state(&self) -> Result<State> {
        let mut state = State::default();
        state.tensors.insert("sum and weight".into(), Tensor::from_slice(&[self.sum, self.weight]));
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let saved = state.tensors.get("sum and weight").map(Vec::<f64>::try_from).transpose()?.unwrap_or_default();
        ensure!(saved.len() == 2, "the saved state is not that of a mean");
        (self.sum, self.weight) = (saved[0], saved[1]);
        Ok(())
    }
}
