//! Schedulers one after another.

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::curve::{Curve, Scheduled};
use pipe_core::facts::{Facts, Schedule};
use pipe_core::{
    BuildContext, Component, Config, Instance, Kind, Nested, Optimizer, PortKind, Problems, Ref, Scheduler,
    SchedulerKind, Shared, Target,
};

/// Follows several schedulers, one after another, each counting its steps from its own beginning.
///
/// The first drives the setting for `durations[0]` steps, the next for `durations[1]`, the last from there on (Ignite's
/// `ConcatScheduler`; torch's `SequentialLR`, whose `milestones` are the sums of the durations). `optimizer` or `target` stands here, not
/// in the parts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcatenatedConfig {
    /// The optimizer whose learning rate is scheduled.
    #[serde(default)]
    pub optimizer: Option<Ref<dyn Optimizer>>,
    /// Another setting to schedule instead: `optimizer.NAME:weight_decay`, `optimizer.NAME:groups[0].lr`,
    /// `engine.NAME:clip_grad_norm`, `engine.NAME:loss_weights.LOSS`, `handler.NAME:momentum`.
    #[serde(default)]
    pub target: Option<Target>,
    /// The parts, each a table with its own `type`.
    #[schemars(extend("x-reload" = "hot"))]
    pub schedulers: Vec<Nested<SchedulerKind>>,
    /// Steps of each part but the last.
    #[schemars(extend("x-reload" = "hot"), inner(range(min = 1)))]
    pub durations: Vec<u64>,
}

impl Config for ConcatenatedConfig {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "concatenated";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9

[scheduler.both]
type = "concatenated"
optimizer = "optimizer.sgd"
schedulers = [{ type = "linear_warmup", iterations = 1000 }, { type = "cosine", t_max = 89000 }]
durations = [1000]

[[on]]
event = "engine.trainer:iteration_completed"
run = ["scheduler.both"]
"#;

    fn facts(&self) -> Facts {
        let total = |sum: &mut u64, duration: &u64| {
            *sum = sum.saturating_add(*duration);
            Some(*sum)
        };
        let schedule = Schedule {
            changes: Some((self.durations.iter().scan(0, total).collect(), "durations")),
            ..Schedule::default()
        };
        Facts { schedule: Some(schedule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        let (parts, durations) = (self.schedulers.len(), self.durations.len());
        if parts < 2 {
            problems.at("schedulers", "there is nothing to concatenate", "give at least two schedulers");
        } else if durations + 1 != parts {
            let message = format!("{parts} schedulers have {} changes, but there are {durations} durations", parts - 1);
            problems.at("durations", message, "give the steps of each part but the last");
        }
        for (i, part) in self.schedulers.iter().enumerate() {
            for key in ["optimizer", "target"].into_iter().filter(|key| part.table.contains_key(*key)) {
                let message = format!("a part drives what the whole drives, so it has no `{key}`");
                problems.at(&format!("schedulers.{i}.{key}"), message, "remove it");
            }
            if part.table.get("type").is_some_and(|name| name == "plateau") {
                let message = "`plateau` follows a measured value and knows no steps, so it cannot be a part";
                problems.at(&format!("schedulers.{i}"), message, "give it a node of its own");
            }
        }
    }
}

impl Component for ConcatenatedConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let part = |(i, nested)| {
            let built = ctx.nested(nested).with_context(|| format!("schedulers[{i}]"))?;
            let part = <dyn Scheduler>::from_instance(&built);
            let part = part.with_context(|| format!("schedulers[{i}] is not a scheduler"))?;
            ensure!(part.borrow().value_at(0, 1.0).is_some(), "schedulers[{i}] does not know its values in advance");
            Ok(part)
        };
        let parts = self.schedulers.iter().enumerate().map(part).collect::<Result<_>>()?;
        Scheduled::build(ctx, self.optimizer, self.target, Chain { parts, durations: self.durations })
    }
}

pipe_core::register!(ConcatenatedConfig);

struct Chain {
    parts: Vec<Shared<dyn Scheduler>>,
    durations: Vec<u64>,
}

impl Chain {
    /// The part that a step belongs to, and the steps since it began.
    fn part(&self, step: u64) -> (&Shared<dyn Scheduler>, u64) {
        let mut into = step;
        let mut at = 0;
        while let Some(duration) = self.durations.get(at).filter(|duration| into >= **duration) {
            into -= duration;
            at += 1;
        }
        (&self.parts[at], into)
    }
}

impl Curve for Chain {
    fn value(&self, step: u64, base: f64) -> f64 {
        let (part, into) = self.part(step);
        part.borrow().value_at(into, base).unwrap_or(base)
    }

    fn momentum(&self, step: u64) -> Option<f64> {
        let (part, into) = self.part(step);
        part.borrow().momentum_at(into)
    }
}
