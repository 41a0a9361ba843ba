//! `handler.process`: events for an external program.

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::child::{Child, ChildConfig};
use pipe_core::Handler;
use pipe_core::{
    BuildContext, Component, Config, EventContext, Instance, Kind, NodeId, Problems, RunContext, Stateful, Termination,
    record::number,
};

/// Sends events to a child process, one JSON object per line, in any language; it may answer with records, or stop the engine.
///
/// Each line has the event, the engine's state, and the latest measured values. With `answer = true` the run
/// waits for an answer to each, for at most `timeout`. The protocol is in `docs/child_processes.md`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct ProcessHandlerConfig {
    /// Whether the child answers each event and the run waits for the answer.
    #[serde(default)]
    pub answer: bool,
    /// The program and its limits.
    #[serde(flatten)]
    pub child: ChildConfig,
}

impl Config for ProcessHandlerConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "process";
    const EXAMPLE: &'static str = r#"
[handler.notify]
type = "process"
command = ["python3", "notify.py"]
timeout = "5s"

[[on]]
event = "engine.trainer:completed"
run = ["handler.notify"]
"#;

    fn check(&self, problems: &mut Problems) {
        self.child.check(problems);
    }
}

impl Component for ProcessHandlerConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let child = Child::start(&ctx.node.to_string(), self.child, ctx.folder())?;
        Ok(Instance::handler(ProcessHandler { node: ctx.node.clone(), child, answer: self.answer, sent: 0 }))
    }
}

pipe_core::register!(ProcessHandlerConfig);

/// The running handler.
struct ProcessHandler {
    node: NodeId,
    child: Child,
    answer: bool,
    sent: u64,
}

impl Stateful for ProcessHandler {}

impl Handler for ProcessHandler {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        self.sent += 1;
        let (state, clock) = (ctx.state, ctx.run.clock.get());
        self.child.send(&json!({
            "type": "event", "id": self.sent, "answer": self.answer, "engine": ctx.engine.to_string(),
            "node": ctx.node.to_string(), "event": ctx.event.as_str(), "step": clock.step, "iteration": state.iteration,
            "epoch": state.epoch, "epoch_iteration": state.epoch_iteration, "epoch_length": state.epoch_length,
            "values": values(ctx.run), "time": pipe_core::now(),
        }))?;
        if !self.answer {
            return Ok(());
        }
        match self.child.answer(self.sent)? {
            Some(answer) => self.obey(&answer, ctx),
            None => Ok(()),
        }
    }

    fn finish(&mut self, run: &RunContext) -> Result<()> {
        self.child.finish(&json!({ "type": "finish", "values": values(run) }))
    }
}

fn values(run: &RunContext) -> Map<String, Value> {
    run.values().into_iter().map(|(name, value)| (name, number(value))).collect()
}

impl ProcessHandler {
    /// Records what the answer contains, and stops the engine if requested. Invalid answers are logged, never fatal.
    fn obey(&self, answer: &Value, ctx: &EventContext<'_>) -> Result<()> {
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("the child process reports: {error}");
        }
        for (tag, value) in answer.get("scalars").and_then(Value::as_object).into_iter().flatten() {
            match value.as_f64() {
                Some(value) => ctx.run.scalar(&self.node, tag, value)?,
                None => tracing::warn!("{}: the answer's scalar `{tag}` is {value}, which is not a number", self.node),
            }
        }
        let how_far = match answer.get("terminate").filter(|value| !value.is_null()) {
            None | Some(Value::Bool(false)) => return Ok(()),
            Some(Value::String(text)) if text == "epoch" => Termination::Epoch,
            Some(Value::String(text)) if text == "run" => Termination::Run,
            Some(Value::Bool(true)) => Termination::Run,
            Some(other) => {
                tracing::warn!("{}: `terminate` is {other}; write \"epoch\" or \"run\"", self.node);
                return Ok(());
            }
        };
        tracing::info!("{}: the child process stops {}", self.node, ctx.engine);
        ctx.run.terminate(ctx.engine, how_far);
        Ok(())
    }
}
