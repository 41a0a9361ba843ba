//! `handler.time_limit`: stops an engine after a time limit.

use std::sync::atomic::Ordering;
use std::time::{Duration as Span, Instant};

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Handler;
use pipe_core::{
    BuildContext, Component, Config, Duration, EventContext, Instance, Kind, NodeId, State, Stateful, Termination,
};

/// Stops the engine when the run reaches a time limit.
///
/// Time is counted from the first call, including the time before a resume. Call it on `iteration_completed`; the engine
/// stops after the iteration in which the limit is reached, and the run ends normally. Its `terminate` and `completed` fire then, not
/// `epoch_completed`: name the checkpoint handler on one of them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeLimitConfig {
    /// The time limit, such as `"90s"`, `"10m"` or `"1h30m"`.
    #[schemars(extend("x-reload" = "hot"))]
    pub limit: Duration,
}

impl Config for TimeLimitConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "time_limit";
    const EXAMPLE: &'static str = r#"
[handler.limit]
type = "time_limit"
limit = "8h"

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.limit"]
"#;
}

impl Component for TimeLimitConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let node = ctx.node.clone();
        Ok(Instance::handler(TimeLimit { node, limit: self.limit, before: Span::ZERO, started: None }))
    }
}

pipe_core::register!(TimeLimitConfig);

/// The running handler.
struct TimeLimit {
    node: NodeId,
    limit: Duration,
    /// Time before the run was resumed.
    before: Span,
    started: Option<Instant>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    seconds: f64,
}

impl TimeLimit {
    fn elapsed(&self) -> Span {
        self.before + self.started.map_or(Span::ZERO, |started| started.elapsed())
    }
}

impl Handler for TimeLimit {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        self.started.get_or_insert_with(Instant::now);
        if self.elapsed() >= self.limit.get() {
            tracing::info!("{}: the time limit of {} is reached; {} stops", self.node, self.limit, ctx.engine);
            // Inside another engine, such as an evaluation, the whole run ends, with a checkpoint.
            match ctx.run.depth.get() > 1 {
                true => ctx.run.interrupt.store(true, Ordering::Relaxed),
                false => ctx.run.terminate(ctx.engine, Termination::Run),
            }
        }
        Ok(())
    }
}

impl Stateful for TimeLimit {
    fn state(&self) -> Result<State> {
        State::of(&Saved { seconds: self.elapsed().as_secs_f64() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.before = Span::try_from_secs_f64(state.to::<Saved>()?.seconds)?;
        self.started = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use pipe_core::State;
    use pipe_run::testing::TestRun;

    #[test]
    fn time_of_earlier_lives_counts() {
        let test = TestRun::new();
        let handler = test.handler("handler.h", json!({ "type": "time_limit", "limit": "1h" }));
        let engine = "engine.trainer".parse().unwrap();
        test.call(&handler, "iteration_completed", None).unwrap();
        assert_eq!(test.run.termination(&engine), None);
        handler.borrow_mut().load_state(&State::of(&json!({ "seconds": 3600.0 })).unwrap()).unwrap();
        test.call(&handler, "iteration_completed", None).unwrap();
        assert!(test.run.termination(&engine).is_some());
        let saved = handler.borrow().state().unwrap().values["seconds"].as_f64().unwrap();
        assert!(saved >= 3600.0);
    }
}
