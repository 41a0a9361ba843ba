//! Errors of predicted numbers.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind as DType, Tensor};

use pipe_core::facts::{Better, Facts};
use pipe_core::{
    BuildContext, Component, Config, Contract, Instance, Kind, Metric, MetricReport, ModelOutput, State, Stateful,
};
use pipe_data::{Batch, fields};

/// Errors of a model that predicts numbers: mean absolute, mean squared, its root, and the coefficient of determination.
///
/// Values: `mae`, `mse`, `rmse`, `r2` (Ignite's `MeanAbsoluteError`, `MeanSquaredError`, `RootMeanSquaredError`, `R2Score`; of one
/// pass over the data). Of several numbers a sample, each the mean over them, as scikit-learn's; `rmse` is the root of `mse`. `r2`
/// is NaN of fewer than two samples; of targets that are all alike it is 1 when each is met, else 0.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegressionConfig {
    /// The model's output with the predicted numbers, `[N]` or `[N, D]`.
    #[serde(default = "prediction")]
    #[schemars(length(min = 1))]
    pub prediction: String,
    /// The field of the batch with the true numbers, of the same shape.
    #[serde(default = "target")]
    #[schemars(length(min = 1))]
    pub target: String,
}

fn prediction() -> String {
    fields::PREDICTION.into()
}

fn target() -> String {
    fields::TARGET.into()
}

impl Config for RegressionConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "regression";
    const EXAMPLE: &'static str = r#"
[metric.error]
type = "regression"
target = "label"
"#;

    fn facts(&self) -> Facts {
        let better = |name: &String| if name == "r2" { Better::Higher } else { Better::Lower };
        let values = self.values().into_iter().map(|name| (better(&name), name));
        Facts { better: values.map(|(better, name)| (name, better)).collect(), ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([self.prediction.as_str(), self.target.as_str()])
    }

    fn values(&self) -> Vec<String> {
        ["mae", "mse", "rmse", "r2"].map(str::to_owned).to_vec()
    }
}

impl Component for RegressionConfig {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(Regression { config: self, seen: None }))
    }
}

pipe_core::register!(RegressionConfig);

struct Regression {
    config: RegressionConfig,
    seen: Option<Seen>,
}

/// Sums over samples, `[D]` f64 on the device.
struct Seen {
    samples: i64,
    absolute: Tensor,
    squared: Tensor,
    /// Mean of the targets.
    mean: Tensor,
    /// Sum of the targets' squared distances from their mean.
    spread: Tensor,
}

impl Seen {
    fn of(prediction: &Tensor, target: &Tensor) -> Seen {
        let error = prediction - target;
        let sum = |t: &Tensor| t.sum_dim_intlist(0, false, DType::Double);
        let mean = target.mean_dim(0, false, DType::Double);
        let spread = sum(&(target - &mean).square());
        Seen { samples: target.size()[0], absolute: sum(&error.abs()), squared: sum(&error.square()), mean, spread }
    }

    /// Both together (Chan et al. 1979): sums of squares would cancel where the mean is large.
    fn and(self, other: &Seen) -> Seen {
        let (n, m) = (self.samples as f64, other.samples as f64);
        let apart = self.mean.to_device(other.mean.device()) - &other.mean;
        let at = |t: Tensor| t.to_device(other.mean.device());
        Seen {
            samples: self.samples + other.samples,
            absolute: at(self.absolute) + &other.absolute,
            squared: at(self.squared) + &other.squared,
            mean: &other.mean + &apart * (n / (n + m)),
            spread: at(self.spread) + &other.spread + apart.square() * (n * m / (n + m)),
        }
    }

    fn r2(&self) -> Result<f64> {
        if self.samples < 2 {
            return Ok(f64::NAN);
        }
        let (squared, spread): (Vec<f64>, Vec<f64>) = (Vec::try_from(&self.squared)?, Vec::try_from(&self.spread)?);
        let of = |(squared, spread): (&f64, &f64)| match (*squared == 0.0, *spread == 0.0) {
            (true, _) => 1.0,
            (false, true) => 0.0,
            _ => 1.0 - squared / spread,
        };
        Ok(squared.iter().zip(&spread).map(of).sum::<f64>() / squared.len() as f64)
    }
}

/// `[N]` or `[N, D]` as `[N, D]` f64.
fn numbers(tensor: &Tensor) -> Tensor {
    let tensor = tensor.detach().to_kind(DType::Double);
    if tensor.dim() == 1 { tensor.unsqueeze(1) } else { tensor }
}

impl Regression {
    fn add(&mut self, seen: Seen) -> Result<()> {
        ensure!(
            self.seen.as_ref().is_none_or(|s| s.mean.size() == seen.mean.size()),
            "batches differ in their numbers"
        );
        self.seen = Some(match self.seen.take() {
            Some(before) => before.and(&seen),
            None => seen,
        });
        Ok(())
    }
}

impl Metric for Regression {
    fn reset(&mut self) {
        self.seen = None;
    }

    fn update(&mut self, batch: &Batch, output: &ModelOutput) -> Result<()> {
        let RegressionConfig { prediction, target } = &self.config;
        let (predicted, wanted) = (output.outputs.stacked(prediction)?, batch.stacked(target)?);
        let (a, b) = (numbers(predicted), numbers(wanted));
        ensure!(
            a.size() == b.size() && a.dim() == 2,
            "`{prediction}` has shape {:?} and `{target}` {:?}; expected [N] or [N, D] of both",
            predicted.size(),
            wanted.size()
        );
        let seen = Seen::of(&a, &b.to_device(a.device()));
        self.add(seen)
    }

    fn merges(&self) -> bool {
        true
    }

    fn merge(&mut self, other: &State) -> Result<()> {
        let mut others = Regression { config: self.config.clone(), seen: None };
        others.load_state(other)?;
        others.seen.map_or(Ok(()), |seen| self.add(seen))
    }

    fn compute(&mut self) -> Result<MetricReport> {
        let [mae, mse, r2] = match &self.seen {
            Some(seen) => {
                let mean = |sum: &Tensor| {
                    Ok::<_, anyhow::Error>(sum.mean(DType::Double).double_value(&[]) / seen.samples as f64)
                };
                [mean(&seen.absolute)?, mean(&seen.squared)?, seen.r2()?]
            }
            None => [f64::NAN; 3],
        };
        let values = [("mae", mae), ("mse", mse), ("rmse", mse.sqrt()), ("r2", r2)];
        Ok(MetricReport {
            values: values.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            ..MetricReport::default()
        })
    }
}

impl Stateful for Regression {
    fn state(&self) -> Result<State> {
        let mut state = State::default();
        if let Some(seen) = &self.seen {
            state.values.insert("samples".into(), seen.samples.into());
            let tensors = [&seen.absolute, &seen.squared, &seen.mean, &seen.spread].map(Tensor::shallow_clone);
            state.tensors.insert("sums".into(), Tensor::stack(&tensors, 0));
        }
        Ok(state)
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.seen = None;
        if let Some(sums) = state.tensors.get("sums") {
            ensure!(sums.dim() == 2 && sums.size()[0] == 4, "the saved sums belong to another metric");
            let samples = state.values.get("samples").and_then(serde_json::Value::as_i64).unwrap_or(0);
            let [absolute, squared, mean, spread] = [0, 1, 2, 3].map(|row| sums.select(0, row).copy());
            self.seen = Some(Seen { samples, absolute, squared, mean, spread });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pipe_data::BatchField;
    use pipe_run::testing::{assert_close, numbers, parity, stored, tensor};

    fn metric() -> Regression {
        Regression { config: serde_json::from_value(json!({})).unwrap(), seen: None }
    }

    fn update(metric: &mut Regression, predicted: Tensor, wanted: Tensor) -> Result<()> {
        let size = wanted.size()[0] as usize;
        let (mut batch, mut outputs) = (Batch::new(size), Batch::new(size));
        batch.set(fields::TARGET, BatchField::Stacked(wanted));
        outputs.set(fields::PREDICTION, BatchField::Stacked(predicted));
        metric.update(&batch, &ModelOutput { outputs, ..ModelOutput::default() })
    }

    #[test]
    fn values_are_those_of_ignite_and_scikit_learn() {
        for case in parity("metric/regression.json")["cases"].as_array().unwrap() {
            let (predicted, wanted) = (tensor(&case["prediction"]), tensor(&case["target"]));
            let (mut metric, mut merged) = (metric(), metric());
            for (p, t) in predicted.split(7, 0).into_iter().zip(wanted.split(7, 0)) {
                let mut resumed = self::metric();
                resumed.load_state(&stored(&metric.state().unwrap())).unwrap();
                metric = resumed;
                update(&mut metric, p.shallow_clone(), t.shallow_clone()).unwrap();
                let mut part = self::metric();
                update(&mut part, p, t).unwrap();
                merged.merge(&stored(&part.state().unwrap())).unwrap();
            }
            for metric in [&mut metric, &mut merged] {
                let values: Vec<f64> = metric.compute().unwrap().values.into_iter().map(|(_, value)| value).collect();
                assert_close("values", &values, &numbers(&case["values"]), 1e-9);
            }
            metric.reset();
            assert!(metric.compute().unwrap().values.iter().all(|(_, value)| value.is_nan()));
        }
    }

    #[test]
    fn shapes_that_would_be_spread_over_each_other_are_refused() {
        let [row, column] = [json!([1.0, 2.0]), json!([[1.0], [2.0]])].map(|v| tensor(&v));
        update(&mut metric(), column.shallow_clone(), row.shallow_clone()).unwrap();
        let wide = tensor(&json!([[1.0, 2.0], [3.0, 4.0]]));
        let error = update(&mut metric(), wide, row.shallow_clone()).unwrap_err().to_string();
        assert!(error.contains("[2, 2]") && error.contains("`target` [2]"), "{error}");
        let error = update(&mut metric(), row, tensor(&json!([1.0, 2.0, 3.0]))).unwrap_err().to_string();
        assert!(error.contains("[3]"), "{error}");
    }
}
