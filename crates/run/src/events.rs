//! Which targets run on which event.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use pipe_core::{
    Engine, EngineEvent, EventContext, Filter, Handler, Interrupted, Metric, NoStep, NodeId, Scheduler, Shared, Sink,
};
use pipe_native::fault::guarded;

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
    fired_once: RefCell<BTreeSet<Fired>>,
}

/// What fired `once`, of which run of an engine: the engine, the node and its event, the count.
type Fired = (NodeId, NodeId, String, u64);

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

    /// A run of an engine begins: its counts are new, so what ran `once` may run again.
    fn begin(&self, engine: &NodeId) {
        self.fired_once.borrow_mut().retain(|(fired, ..)| fired != engine);
    }

    fn passes(&self, ctx: &EventContext<'_>) -> bool {
        if !self.events.iter().any(|(node, event)| node == ctx.node && event == ctx.event.as_str()) {
            return false;
        }
        if !self.filter.passes(ctx.count) {
            return false;
        }
        // The same count can come twice (an epoch ended early and begun again); `once` means once.
        let fired = || (ctx.engine.clone(), ctx.node.clone(), ctx.event.as_str().to_owned(), ctx.count);
        !self.filter.once.contains(&ctx.count) || self.fired_once.borrow_mut().insert(fired())
    }
}

/// Every `[[on]]` table, in the order of the file.
#[derive(Default)]
pub struct EventTable {
    /// The wires.
    pub wires: Vec<Wire>,
}

impl EventTable {
    /// Runs the targets of an event, in the order of the file. An error of one does not keep the others from running; an
    /// interruption does, and is passed on.
    ///
    /// # Errors
    /// All errors of the targets, the first as the cause.
    pub fn fire(&self, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
        if ctx.event == EngineEvent::Started && ctx.node == ctx.engine {
            self.wires.iter().for_each(|wire| wire.begin(ctx.engine));
        }
        let mut left = ctx.cut.done.borrow().clone();
        let mut errors = Vec::new();
        let mut flow = ControlFlow::Continue(());
        'targets: for wire in self.wires.iter().filter(|wire| wire.passes(ctx)) {
            for target in &wire.targets {
                if let Some(at) = left.iter().position(|done| *done == target.node) {
                    left.remove(at);
                    continue;
                }
                let result = run_timed(target, ctx);
                match result.with_context(|| format!("{} on {}:{}", target.node, ctx.node, ctx.event)) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(broken) => {
                        flow = broken;
                        break 'targets;
                    }
                    Err(error) => errors.push(error),
                }
            }
        }
        let Some(first) = errors.first() else { return Ok(flow) };
        if errors.len() == 1 {
            return Err(errors.remove(0));
        }
        let others: Vec<String> = errors[1..].iter().map(|e| format!("{e:#}")).collect();
        Err(anyhow!("{first:#}\nand {} more: {}", others.len(), others.join("\nand: ")))
    }
}

fn run_timed(target: &Target, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
    if !ctx.run.timings.enabled() {
        return guarded(|| run_target(target, ctx));
    }
    let what = format!("{} on {}", target.node, ctx.event);
    ctx.run.timings.measure(ctx.engine, &what, || guarded(|| run_target(target, ctx)))
}

fn run_target(target: &Target, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
    if let TargetAction::Run(engine) = &target.action {
        let flow = engine.run(ctx.run, ctx.dispatch)?;
        // An engine that was cut off runs again from its beginning when the run is resumed.
        if flow.is_continue() {
            ctx.cut.done.borrow_mut().push(target.node.clone());
        }
        return Ok(flow);
    }
    // Before it runs: a checkpoint that it takes continues with the next target.
    ctx.cut.done.borrow_mut().push(target.node.clone());
    let result = act(target, ctx);
    match result {
        // A resume in the middle of an event has no batch any more.
        Err(error) if ctx.step.is_none() && ctx.event == EngineEvent::IterationCompleted && error.is::<NoStep>() => {
            tracing::warn!(
                "{}: the run was resumed between two targets of this event, so its batch is gone",
                target.node
            );
            Ok(ControlFlow::Continue(()))
        }
        Err(error) => Err(error),
        Ok(flow) => Ok(flow),
    }
}

fn act(target: &Target, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
    let busy = || anyhow!("{} is already running: its own events cannot call it again", target.node);
    match &target.action {
        TargetAction::Call(handler) => {
            handler.try_borrow_mut().map_err(|_| busy())?.call(ctx)?;
            if ctx.cut.interrupted.take() {
                return Ok(ControlFlow::Break(Interrupted));
            }
        }
        TargetAction::Step(scheduler) => scheduler.try_borrow_mut().map_err(|_| busy())?.step(ctx.run)?,
        TargetAction::Run(engine) => return engine.run(ctx.run, ctx.dispatch),
        TargetAction::Reset(metric) => metric.try_borrow_mut().map_err(|_| busy())?.reset(),
        TargetAction::Update(metric) => {
            let step = ctx.step()?;
            metric.try_borrow_mut().map_err(|_| busy())?.update(&step.batch, &step.output)?;
        }
        TargetAction::Compute(metric) => {
            let report = metric.try_borrow_mut().map_err(|_| busy())?.compute()?;
            ctx.run.record_metric(&target.node, None, &report)?;
        }
        TargetAction::Flush(sink) => sink.try_borrow_mut().map_err(|_| busy())?.flush()?,
    }
    Ok(ControlFlow::Continue(()))
}
