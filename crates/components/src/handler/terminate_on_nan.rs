//! `handler.terminate_on_nan`: stops an engine whose loss or output is not finite.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use pipe_core::Handler;
use pipe_core::{BuildContext, Component, Config, EventContext, Instance, Kind, NodeId, Stateful, Termination};
use pipe_data::BatchField;

/// Stops the engine when a loss or an output of the model is NaN or infinite.
///
/// Call it on `iteration_completed`. The run then ends normally, with its summary; `engine.train` with
/// `on_non_finite = "raise"` makes it fail.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminateOnNanConfig {}

impl Config for TerminateOnNanConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "terminate_on_nan";
    const EXAMPLE: &'static str = r#"
[handler.nan]
type = "terminate_on_nan"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.nan"]
"#;
}

impl Component for TerminateOnNanConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::handler(TerminateOnNan { node: ctx.node.clone() }))
    }
}

pipe_core::register!(TerminateOnNanConfig);

/// The running handler.
struct TerminateOnNan {
    node: NodeId,
}

impl Stateful for TerminateOnNan {}

impl Handler for TerminateOnNan {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let Some(step) = ctx.step else { return Ok(()) };
        let losses = step.output.losses.iter().map(|(name, loss)| (name.as_str(), loss));
        let outputs = step.output.outputs.iter().filter_map(|(name, field)| match field {
            BatchField::Stacked(tensor) => Some((name, tensor)),
            _ => None,
        });
        let mut bad = Vec::new();
        for (name, tensor) in losses.chain(outputs) {
            if !all_finite(tensor)? {
                bad.push(name);
            }
        }
        if !bad.is_empty() {
            let sources = step.batch.sources().join(", ");
            tracing::error!("{}: {} is not finite on {sources}; {} stops", self.node, bad.join(", "), ctx.engine);
            ctx.run.terminate(ctx.engine, Termination::Run);
        }
        Ok(())
    }
}

fn all_finite(tensor: &Tensor) -> Result<bool> {
    let finite = tensor.is_floating_point() && tensor.numel() > 0;
    Ok(!finite || tensor.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use pipe_core::Step;
    use pipe_run::testing::TestRun;

    #[test]
    fn only_what_is_not_finite_stops_the_engine() {
        let test = TestRun::new();
        let handler = test.handler("handler.h", json!({ "type": "terminate_on_nan" }));
        let engine = "engine.trainer".parse().unwrap();
        let mut step = Step::default();
        step.output.losses.insert("loss".into(), Tensor::from(1.0));
        step.output.outputs.set("label", BatchField::Stacked(Tensor::from_slice(&[1i64])));
        test.call(&handler, "iteration_completed", Some(&step)).unwrap();
        assert_eq!(test.run.termination(&engine), None);
        step.output.outputs.set("logits", BatchField::Stacked(Tensor::from_slice(&[0f32, f32::INFINITY])));
        test.call(&handler, "iteration_completed", Some(&step)).unwrap();
        assert_eq!(test.run.termination(&engine), Some(Termination::Run));
        test.run.clear_termination(&engine);
        let mut step = Step::default();
        step.output.losses.insert("loss".into(), Tensor::from(f64::NAN));
        test.call(&handler, "iteration_completed", Some(&step)).unwrap();
        assert_eq!(test.run.termination(&engine), Some(Termination::Run));
    }
}
