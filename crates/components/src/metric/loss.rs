//! The model's losses over an evaluation.

use anyhow::{Result, ensure};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind as DType, Tensor};

use pipe_core::facts::{Better, Facts};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, ModelOutput, State, Stateful};
use pipe_core::{Metric, MetricReport};
use pipe_data::Batch;

/// The mean of the model's losses, each batch weighted by its number of samples.
///
/// A detector gives its training losses on the images of the evaluation, from the same pass through its network as the detections: norms as in
/// evaluation, images of the size that evaluation takes, proposals as many as in training. Which of them are sampled depends on the seed and the
/// image alone, so values can be compared between epochs. As in training a batch's losses are means over its samples, not over its
/// images, so that another `batch_size` gives slightly other values.
///
/// Values: `loss`, the sum of all losses; and, if the model has several, each under its own name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LossConfig {}

impl Config for LossConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "loss";
    const EXAMPLE: &'static str = r#"
[metric.loss]
type = "loss"
"#;

    fn facts(&self) -> Facts {
        Facts::of_values(self.values(), Better::Lower)
    }

    fn values(&self) -> Vec<String> {
        vec!["loss".to_owned()]
    }
}

impl Component for LossConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(Losses::default()))
    }
}

pipe_core::register!(LossConfig);

#[derive(Default)]
struct Losses {
    /// Sum over samples of each loss: f64 scalars on the device.
    sums: IndexMap<String, Tensor>,
    samples: u64,
}

impl Losses {
    fn add(&mut self, name: &str, sum: Tensor) {
        let sum = match self.sums.get(name) {
            Some(before) => before.to_device(sum.device()) + sum,
            None => sum,
        };
        self.sums.insert(name.to_owned(), sum);
    }
}

impl Metric for Losses {
    fn reset(&mut self) {
        *self = Losses::default();
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        ensure!(!output.losses.is_empty(), "the model returned no losses: does the evaluation data have targets?");
        for (name, loss) in &output.losses {
            let sum = loss.detach().to_kind(DType::Double).reshape([0_i64; 0]) * batch.size as f64;
            self.add(name, sum);
        }
        self.samples += batch.size as u64;
        Ok(())
    }

    fn needs_losses(&self) -> bool {
        true
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        let mut others = Losses::default();
        others.load_state(other)?;
        self.samples += others.samples;
        others.sums.into_iter().for_each(|(name, sum)| self.add(&name, sum));
        Ok(())
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let mut each = Vec::new();
        for (name, sum) in &self.sums {
            each.push((name.clone(), f64::try_from(sum)? / self.samples as f64));
        }
        let total = if each.is_empty() { f64::NAN } else { each.iter().map(|(_, value)| value).sum() };
        let mut values = vec![("loss".to_owned(), total)];
        if each.len() > 1 {
            // One loss among several may itself be called `loss`.
            values.extend(
                each.into_iter()
                    .map(|(name, value)| if name == "loss" { ("loss/loss".into(), value) } else { (name, value) }),
            );
        }
        Ok(MetricReport { values, ..MetricReport::default() })
    }
}

impl Stateful for Losses {
    fn state(&self) -> Result<State> {
        let mut state = State::default();
        state.values.insert("samples".into(), self.samples.into());
        state.tensors = self.sums.iter().map(|(name, sum)| (name.clone(), sum.shallow_clone())).collect();
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.samples = state.values.get("samples").and_then(serde_json::Value::as_u64).unwrap_or(0);
        self.sums = state.tensors.iter().map(|(name, sum)| (name.clone(), sum.copy())).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipe_run::testing::{assert_close, stored};

    fn update(losses: &mut Losses, samples: usize, values: &[(&str, f32)]) {
        let named = values.iter().map(|(name, value)| ((*name).to_owned(), Tensor::from(*value)));
        let output = ModelOutput { losses: named.collect(), ..ModelOutput::default() };
        losses.update(&Batch::new(samples), &output).unwrap();
    }

    #[test]
    fn batches_weigh_as_many_samples_as_they_hold() {
        let mut losses = Losses::default();
        update(&mut losses, 4, &[("box", 1.0), ("mask", 2.0)]);
        let mut resumed = Losses::default();
        resumed.load_state(&stored(&losses.state().unwrap())).unwrap();
        let (mut merged, mut rest) = (Losses::default(), Losses::default());
        update(&mut rest, 1, &[("box", 6.0), ("mask", 0.0)]);
        merged.merge(&stored(&losses.state().unwrap())).unwrap();
        merged.merge(&stored(&rest.state().unwrap())).unwrap();
        update(&mut losses, 1, &[("box", 6.0), ("mask", 0.0)]);
        update(&mut resumed, 1, &[("box", 6.0), ("mask", 0.0)]);
        for losses in [&mut losses, &mut resumed, &mut merged] {
            let report = losses.compute().unwrap().values;
            let names: Vec<&str> = report.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["loss", "box", "mask"]);
            assert_close("means", &report.iter().map(|(_, v)| *v).collect::<Vec<_>>(), &[3.6, 2.0, 1.6], 1e-12);
        }
    }

    #[test]
    fn one_loss_is_the_total_and_none_is_nan() {
        let mut losses = Losses::default();
        assert!(losses.compute().unwrap().values[0].1.is_nan());
        update(&mut losses, 2, &[("cross_entropy", 0.5)]);
        assert_eq!(losses.compute().unwrap().values, [("loss".to_owned(), 0.5)]);
        assert!(losses.update(&Batch::new(2), &ModelOutput::default()).is_err());
    }
}
