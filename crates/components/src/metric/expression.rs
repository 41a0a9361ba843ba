//! Arithmetic on metrics.

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::watched::Watched;
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Metric, MetricReport, ModelOutput, State, Stateful};
use pipe_data::Batch;
use pipe_vocab::Expression;

/// Arithmetic on the values of other metrics and engines.
///
/// Numbers, values such as `metric.p:precision`, `+ - * / ( )`, and `min`, `max`, `mean`, `sqrt`, `abs`, `exp`, `log`. A value's
/// name reaches to the next space, `+`, `*`, comma or parenthesis, as it may hold `/` and `-` itself. The metrics that it names come
/// before it, in the engine's `metrics` or among the targets of the event; they must have been computed at the same step. Value:
/// `value`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpressionConfig {
    /// The expression.
    pub value: Expression,
    /// The tag under which the value is recorded, instead of `<prefix>/<node>/value`.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub tag: Option<String>,
}

impl Config for ExpressionConfig {
    const KIND: Kind = Kind::Metric;
    const TYPE: &'static str = "expression";
    const EXAMPLE: &'static str = r#"
[dataset.test]
type = "mnist"
root = "builtin:digits"
split = "test"

[loader.test]
type = "batch"
dataset = "dataset.test"
batch_size = 256

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[metric.p]
type = "precision"

[metric.r]
type = "recall"

[metric.f1]
type = "expression"
value = "2 * metric.p:precision * metric.r:recall / (metric.p:precision + metric.r:recall)"
tag = "val/f1"

[engine.evaluator]
type = "evaluate"
model = "model.net"
loader = "loader.test"
metrics = ["metric.p", "metric.r", "metric.f1"]
"#;

    fn values(&self) -> Vec<String> {
        vec!["value".into()]
    }
}

impl Component for ExpressionConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::metric(Arithmetic { watched: Watched::new(ctx, self.tag), expression: self.value }))
    }
}

pipe_core::register!(ExpressionConfig);

struct Arithmetic {
    watched: Watched,
    expression: Expression,
}

impl Metric for Arithmetic {
    fn reset(&mut self) {}

    fn update(&mut self, _batch: &Batch, _output: &ModelOutput) -> Result<()> {
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
        let value = self.expression.evaluate(|name| {
            let measured = self.watched.latest(name)?;
            let measured =
                measured.with_context(|| format!("`{name}` has not been measured yet: compute it before"))?;
            // An engine's own values are of its last iteration, which may have been skipped.
            ensure!(
                measured.now || name.node.kind == Kind::Engine,
                "`{name}` was last measured at step {}: compute it before, at the same step",
                measured.step
            );
            anyhow::Ok(measured.value)
        })?;
        self.watched.report("value", value)
    }
}

impl Stateful for Arithmetic {}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use pipe_core::{Clock, Instance};
    use pipe_run::testing::TestRun;

    #[test]
    fn values_of_another_step_are_not_mixed() {
        let test = TestRun::new();
        let table = json!({ "type": "expression", "value": "metric.a:x - 2 * engine.t:loss" });
        let Instance::Metric(metric) = test.try_build("metric.m", table).unwrap() else { panic!("no metric") };
        let compute = || metric.borrow_mut().compute().map(|report| report.values);
        let error = compute().unwrap_err().to_string();
        assert!(error.contains("`metric.a:x` has not been measured yet"), "{error}");
        test.run.set_value(&"engine.t".parse().unwrap(), "loss", 1.5);
        test.run.clock.set(Clock { step: 7, epoch: 1 });
        test.run.set_value(&"metric.a".parse().unwrap(), "x", 4.0);
        assert_eq!(compute().unwrap(), [("value".to_owned(), 1.0)]);
        test.run.clock.set(Clock { step: 8, epoch: 1 });
        let error = compute().unwrap_err().to_string();
        assert!(error.contains("`metric.a:x` was last measured at step 7"), "{error}");
    }
}
