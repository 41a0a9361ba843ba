//! Events, filters, and which targets run on them.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};

use super::{Engine, EngineState, Step};
use crate::components::{handler::Handler, metric::Metric, scheduler::Scheduler, sink::Sink};
use crate::fault::guarded;
use crate::registry::{Event, NodeId};
use crate::run::{RunContext, Shared};

/// Names of the events that every engine fires; those of PyTorch-Ignite.
pub mod names {
    /// The engine starts.
    pub const STARTED: &str = "started";
    /// An epoch starts.
    pub const EPOCH_STARTED: &str = "epoch_started";
    /// Before a batch is asked for.
    pub const GET_BATCH_STARTED: &str = "get_batch_started";
    /// After a batch was got.
    pub const GET_BATCH_COMPLETED: &str = "get_batch_completed";
    /// Before an iteration.
    pub const ITERATION_STARTED: &str = "iteration_started";
    /// After an iteration.
    pub const ITERATION_COMPLETED: &str = "iteration_completed";
    /// The loader has no more batches.
    pub const DATALOADER_STOP_ITERATION: &str = "dataloader_stop_iteration";
    /// An error stops the engine.
    pub const EXCEPTION_RAISED: &str = "exception_raised";
    /// A handler ended the epoch.
    pub const TERMINATE_SINGLE_EPOCH: &str = "terminate_single_epoch";
    /// An epoch has ended.
    pub const EPOCH_COMPLETED: &str = "epoch_completed";
    /// A handler ended the engine.
    pub const TERMINATE: &str = "terminate";
    /// Ctrl-C ended the engine.
    pub const INTERRUPT: &str = "interrupt";
    /// The engine has ended.
    pub const COMPLETED: &str = "completed";
}

/// What `pipe components` says of the events of engines.
pub const ENGINE_EVENTS: &[Event] = &[
    Event { name: names::STARTED, doc: "the engine starts" },
    Event { name: names::EPOCH_STARTED, doc: "an epoch starts" },
    Event { name: names::GET_BATCH_STARTED, doc: "before a batch is asked for" },
    Event { name: names::GET_BATCH_COMPLETED, doc: "after a batch was got" },
    Event { name: names::ITERATION_STARTED, doc: "before an iteration" },
    Event { name: names::ITERATION_COMPLETED, doc: "after an iteration" },
    Event { name: names::DATALOADER_STOP_ITERATION, doc: "the loader has no more batches" },
    Event { name: names::EXCEPTION_RAISED, doc: "an error stops the engine" },
    Event { name: names::TERMINATE_SINGLE_EPOCH, doc: "a handler ended the epoch" },
    Event { name: names::EPOCH_COMPLETED, doc: "an epoch has ended" },
    Event { name: names::TERMINATE, doc: "a handler ended the engine" },
    Event { name: names::INTERRUPT, doc: "Ctrl-C ended the engine" },
    Event { name: names::COMPLETED, doc: "the engine has ended" },
];

/// On which occurrences of an event its targets run. `count` is the engine's iteration for iteration events, its epoch
/// for the others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Every n-th time; with `after`, counted from there.
    pub every: Option<u64>,
    /// At these counts, once each.
    pub once: Vec<u64>,
    /// Only below this count.
    pub before: Option<u64>,
    /// Only above this count.
    pub after: Option<u64>,
    /// Also the first time, whatever `every` says.
    pub first: bool,
}

impl Filter {
    /// Whether the targets run at this count.
    pub fn passes(&self, count: u64) -> bool {
        let after = self.after.unwrap_or(0);
        if count <= after && self.after.is_some() || self.before.is_some_and(|before| count >= before) {
            return false;
        }
        if self.first && count == after + 1 {
            return true;
        }
        let every = match (self.every, self.after) {
            (None, _) => self.once.is_empty() && !self.first,
            (Some(n), None) => count.is_multiple_of(n),
            // Ignite counts from the first event that is let through.
            (Some(n), Some(after)) => (count - after - 1).is_multiple_of(n),
        };
        every || self.once.contains(&count)
    }
}

/// What a target does.
#[derive(Clone)]
pub enum TargetAction {
    /// Call a handler.
    Call(Shared<dyn Handler>),
    /// Step a scheduler.
    Step(Shared<dyn Scheduler>),
    /// Run an engine to completion.
    Run(Rc<Engine>),
    /// Forget what a metric has seen.
    Reset(Shared<dyn Metric>),
    /// Give a metric the iteration's batch and output.
    Update(Shared<dyn Metric>),
    /// Compute a metric and record its values.
    Compute(Shared<dyn Metric>),
    /// Flush a sink.
    Flush(Shared<dyn Sink>),
}

/// A target of an event.
#[derive(Clone)]
pub struct Target {
    /// Its node.
    pub node: NodeId,
    /// What it does.
    pub action: TargetAction,
}

/// One `[[on]]` table, resolved.
pub struct Wire {
    /// The events it waits for: node and event name.
    pub events: Vec<(NodeId, String)>,
    /// On which occurrences.
    pub filter: Filter,
    /// What runs, in this order.
    pub targets: Vec<Target>,
    fired_once: RefCell<BTreeSet<(NodeId, u64)>>,
}

impl Wire {
    /// A wire that has not fired.
    pub fn new(events: Vec<(NodeId, String)>, filter: Filter, targets: Vec<Target>) -> Wire {
        Wire { events, filter, targets, fired_once: RefCell::default() }
    }

    /// Remembers what a wire of the same events and the same filter has run `once`.
    pub fn remember(&self, former: &EventTable) {
        let same = former.wires.iter().find(|wire| wire.events == self.events && wire.filter == self.filter);
        if let Some(same) = same {
            *self.fired_once.borrow_mut() = same.fired_once.borrow().clone();
        }
    }

    fn passes(&self, ctx: &EventContext<'_>) -> bool {
        if !self.events.iter().any(|(node, event)| node == ctx.node && event == ctx.event) {
            return false;
        }
        if ctx.event == names::STARTED {
            self.fired_once.borrow_mut().retain(|(engine, _)| engine != ctx.engine);
        }
        if !self.filter.passes(ctx.count) {
            return false;
        }
        // The same count can come twice (an epoch ended early and begun again); `once` means once.
        !self.filter.once.contains(&ctx.count) || self.fired_once.borrow_mut().insert((ctx.engine.clone(), ctx.count))
    }
}

/// Every `[[on]]` table, in the order of the file.
#[derive(Default)]
pub struct EventTable {
    /// The wires.
    pub wires: Vec<Wire>,
}

/// What a handler is told.
pub struct EventContext<'a> {
    /// What everything running shares.
    pub run: &'a RunContext,
    /// The engine inside which the event fired.
    pub engine: &'a NodeId,
    /// The node that fired it: the engine, or a handler with events of its own.
    pub node: &'a NodeId,
    /// The event's name.
    pub event: &'a str,
    /// The count that filters see.
    pub count: u64,
    /// Where the engine stands.
    pub state: &'a EngineState,
    /// The iteration's batch and output, on `iteration_completed`.
    pub step: Option<&'a Step>,
}

impl EventContext<'_> {
    /// Fires an event of a handler's own, such as `saved_checkpoint`.
    ///
    /// # Errors
    /// Those of its targets.
    pub fn fire(&self, node: &NodeId, event: &str) -> Result<()> {
        let table = self.run.events.borrow().clone();
        table.fire(&EventContext { node, event, ..*self })
    }
}

impl EventTable {
    /// Runs the targets of an event, in the order of the file. An error of one does not keep the others from running.
    ///
    /// # Errors
    /// All errors of the targets, the first as the cause.
    pub fn fire(&self, ctx: &EventContext<'_>) -> Result<()> {
        let mut errors = Vec::new();
        for wire in self.wires.iter().filter(|wire| wire.passes(ctx)) {
            for target in &wire.targets {
                let result = run_timed(target, ctx);
                errors.extend(result.with_context(|| format!("{} on {}:{}", target.node, ctx.node, ctx.event)).err());
            }
        }
        let Some(first) = errors.first() else { return Ok(()) };
        if errors.len() == 1 {
            return Err(errors.remove(0));
        }
        let others: Vec<String> = errors[1..].iter().map(|e| format!("{e:#}")).collect();
        Err(anyhow!("{first:#}\nand {} more: {}", others.len(), others.join("\nand: ")))
    }
}

fn run_timed(target: &Target, ctx: &EventContext<'_>) -> Result<()> {
    if !ctx.run.timings.enabled() {
        return guarded(|| run_target(target, ctx));
    }
    let what = format!("{} on {}", target.node, ctx.event);
    ctx.run.timings.measure(ctx.engine, &what, || guarded(|| run_target(target, ctx)))
}

fn run_target(target: &Target, ctx: &EventContext<'_>) -> Result<()> {
    let busy = || anyhow!("{} is already at work: an event of its own work cannot call it again", target.node);
    match &target.action {
        TargetAction::Call(handler) => handler.try_borrow_mut().map_err(|_| busy())?.call(ctx),
        TargetAction::Step(scheduler) => scheduler.try_borrow_mut().map_err(|_| busy())?.step(ctx.run),
        TargetAction::Run(engine) => engine.run(ctx.run).map(|_| ()),
        TargetAction::Reset(metric) => {
            metric.try_borrow_mut().map_err(|_| busy())?.reset();
            Ok(())
        }
        TargetAction::Update(metric) => {
            let step = ctx.step.ok_or_else(|| anyhow!("a metric is updated on `iteration_completed` only"))?;
            metric.try_borrow_mut().map_err(|_| busy())?.update(&step.batch, &step.output)
        }
        TargetAction::Compute(metric) => {
            let report = metric.try_borrow_mut().map_err(|_| busy())?.compute()?;
            record_metric(ctx.run, &target.node, &report)
        }
        TargetAction::Flush(sink) => sink.try_borrow_mut().map_err(|_| busy())?.flush(),
    }
}

/// Remembers a metric's values for monitors and records them as `<metric>/<value>`.
///
/// # Errors
/// When a sink cannot take them.
pub fn record_metric(run: &RunContext, node: &NodeId, report: &crate::components::metric::MetricReport) -> Result<()> {
    for (name, value) in &report.values {
        run.set_value(node, name, *value);
        let tag = if *name == node.name { name.clone() } else { format!("{}/{name}", node.name) };
        run.scalar(node, tag, *value)?;
    }
    if let Some(text) = &report.text {
        run.emit(node, format!("{}/summary", node.name), crate::run::RecordValue::Text(text.clone()))?;
    }
    Ok(())
}
