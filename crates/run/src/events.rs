//! Which targets run on which event.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use pipe_core::{
    Engine, EventContext, EventName, Filter, Frame, Handler, Interrupted, Metric, NodeId, Scheduler, Shared, Sink,
};
use pipe_native::fault::guarded;
use pipe_native::moments::{Moment, pass};
use serde_json::Value;

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
#[derive(Clone)]
pub struct Wire {
    /// The events it waits for: node and event name.
    pub events: Vec<(NodeId, String)>,
    /// On which occurrences.
    pub filter: Filter,
    /// What runs, in this order.
    pub targets: Vec<Target>,
    /// Their nodes.
    names: Rc<[NodeId]>,
    fired_once: RefCell<BTreeSet<Fired>>,
}

/// What fired `once`, of which run of an engine: the engine, the node and its event, the count.
type Fired = (NodeId, NodeId, String, u64);

impl Wire {
    /// A wire that has not fired.
    pub fn new(events: Vec<(NodeId, String)>, filter: Filter, targets: Vec<Target>) -> Wire {
        let names = targets.iter().map(|target| target.node.clone()).collect();
        Wire { events, filter, targets, names, fired_once: RefCell::default() }
    }

    /// Keeps some of its targets only.
    pub fn retain(&mut self, keep: impl FnMut(&Target) -> bool) {
        self.targets.retain(keep);
        self.names = self.targets.iter().map(|target| target.node.clone()).collect();
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
        self.events.iter().any(|(node, event)| node == ctx.node && event == ctx.event.as_str())
            && self.filter.passes(ctx.count)
            // The same count can come twice (an epoch ended early and begun again); `once` means once.
            && !(self.filter.once.contains(&ctx.count) && self.fired_once.borrow().contains(&fired(ctx)))
    }

    /// All its targets have run: not before, so that a resume among them finds it as it was.
    fn has_run(&self, ctx: &EventContext<'_>) {
        if self.filter.once.contains(&ctx.count) {
            self.fired_once.borrow_mut().insert(fired(ctx));
        }
    }
}

fn fired(ctx: &EventContext<'_>) -> Fired {
    (ctx.engine.clone(), ctx.node.clone(), ctx.event.as_str().to_owned(), ctx.count)
}

/// Every `[[on]]` table, in the order of the file.
#[derive(Clone, Default)]
pub struct EventTable {
    /// The wires.
    pub wires: Vec<Wire>,
}

impl EventTable {
    /// A run of an engine begins: its counts are new, so what ran `once` may run again.
    pub fn begin(&self, engine: &NodeId) {
        self.wires.iter().for_each(|wire| wire.begin(engine));
    }

    /// The targets of an event that may have to run yet.
    pub fn left<'a>(&'a self, frame: &'a Frame) -> impl Iterator<Item = &'a Target> {
        let of_event =
            |wire: &&Wire| wire.events.iter().any(|(node, event)| *node == frame.node && *event == frame.event);
        let targets = self.wires.iter().filter(of_event).flat_map(|wire| &wire.targets);
        targets.filter(|target| !frame.done.contains(&target.node))
    }

    /// What has run `once`, for checkpoints: by place in the table, with the events that tell whether it is still that wire.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn fired(&self) -> Result<Value> {
        let wires = self.wires.iter().filter(|wire| !wire.fired_once.borrow().is_empty());
        Ok(serde_json::to_value(
            wires.map(|wire| (&wire.events, &wire.filter.once, &wire.fired_once)).collect::<Vec<_>>(),
        )?)
    }

    /// Goes back to what had run `once` at a checkpoint.
    ///
    /// # Errors
    /// When it is not what [`EventTable::fired`] wrote.
    pub fn restore_fired(&self, fired: &Value) -> Result<()> {
        type Saved = (Vec<(NodeId, String)>, Vec<u64>, BTreeSet<Fired>);
        let saved: Vec<Saved> = serde_json::from_value(fired.clone()).context("what ran once")?;
        for (events, once, fired) in saved {
            let same = self.wires.iter().find(|wire| wire.events == events && wire.filter.once == once);
            if let Some(wire) = same {
                *wire.fired_once.borrow_mut() = fired;
            }
        }
        Ok(())
    }

    /// Runs the targets of an event, in the order of the file. An error of one does not keep the others from running; an
    /// interruption does, and is passed on.
    ///
    /// # Errors
    /// All errors of the targets, the first as the cause.
    pub fn fire(&self, ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
        let wires: Vec<&Wire> = self.wires.iter().filter(|wire| wire.passes(ctx)).collect();
        if wires.is_empty() {
            return Ok(ControlFlow::Continue(()));
        }
        let done = ctx.resumed.map(|frame| frame.done.clone()).unwrap_or_default();
        let (engine, node, event) = (ctx.engine.clone(), ctx.node.clone(), ctx.event.as_str().to_owned());
        let place = &ctx.run.place;
        place.enter(Frame { engine, node, event, done }, wires.iter().map(|wire| wire.names.clone()).collect());
        let flow = self.run_targets(&wires, ctx);
        // Where the run is interrupted, it stands here until it has ended.
        if !matches!(flow, Ok(ControlFlow::Break(_))) {
            place.leave();
        }
        flow
    }

    fn run_targets(&self, wires: &[&Wire], ctx: &EventContext<'_>) -> Result<ControlFlow<Interrupted>> {
        let mut left = ctx.resumed.map(|frame| frame.done.clone()).unwrap_or_default();
        let mut errors = Vec::new();
        if ctx.resumed.is_some()
            && let Some(own) = ctx.run.place.take_resumed_own(ctx.engine)
        {
            let event = EventName::from(own.event.as_str());
            match self.fire(&EventContext { node: &own.node, event, resumed: Some(&own), ..*ctx }) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(broken) => return Ok(broken),
                Err(error) => errors.push(error),
            }
        }
        let mut position = 0;
        for wire in wires {
            for target in &wire.targets {
                if position > 0 {
                    pass(Moment::Target);
                }
                position += 1;
                if let Some(at) = left.iter().position(|done| *done == target.node) {
                    left.remove(at);
                    continue;
                }
                let result = run_timed(self, target, position - 1, ctx);
                match result.with_context(|| format!("{} on {}:{}", target.node, ctx.node, ctx.event)) {
                    Ok(ControlFlow::Continue(())) => {}
                    Ok(broken) => return Ok(broken),
                    Err(error) => errors.push(error),
                }
            }
            wire.has_run(ctx);
        }
        let Some(first) = errors.first() else { return Ok(ControlFlow::Continue(())) };
        if errors.len() == 1 {
            return Err(errors.remove(0));
        }
        let others: Vec<String> = errors[1..].iter().map(|e| format!("{e:#}")).collect();
        Err(anyhow!("{first:#}\nand {} more: {}", others.len(), others.join("\nand: ")))
    }
}

impl Target {
    /// Whether it looks at the gradients on a model's parameters.
    pub fn reads_gradients(&self) -> bool {
        matches!(&self.action, TargetAction::Call(handler) if handler.try_borrow().is_ok_and(|h| h.reads_gradients()))
    }
}

fn run_timed(
    table: &EventTable,
    target: &Target,
    position: usize,
    ctx: &EventContext<'_>,
) -> Result<ControlFlow<Interrupted>> {
    let _at = ctx.run.timings.at(&target.node);
    if !ctx.run.timings.enabled() {
        return guarded(|| run_target(table, target, position, ctx));
    }
    let what = format!("{} on {}", target.node, ctx.event);
    ctx.run.timings.measure_part(ctx.engine, &what, || guarded(|| run_target(table, target, position, ctx)))
}

fn run_target(
    table: &EventTable,
    target: &Target,
    position: usize,
    ctx: &EventContext<'_>,
) -> Result<ControlFlow<Interrupted>> {
    // A target is done once it has run: a checkpoint handler that was cut off behind its checkpoint has the rest to do, an engine
    // goes on or runs again.
    let place = &ctx.run.place;
    let busy = || anyhow!("{} is already running: its own events cannot call it again", target.node);
    match &target.action {
        TargetAction::Call(handler) => {
            let own = RefCell::default();
            let called = EventContext { own: &own, ..*ctx };
            let called = handler.try_borrow_mut().map_err(|_| busy())?.call(&called);
            place.done(position);
            called?;
            for event in own.into_inner() {
                let event = EventName::Own(&event);
                let flow = table.fire(&EventContext { node: &target.node, event, resumed: None, ..*ctx })?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
        }
        TargetAction::Step(scheduler) => scheduler.try_borrow_mut().map_err(|_| busy())?.step(ctx.run)?,
        TargetAction::Reset(metric) => metric.try_borrow_mut().map_err(|_| busy())?.reset(),
        TargetAction::Update(metric) => {
            let step = ctx.step()?;
            metric.try_borrow_mut().map_err(|_| busy())?.update(&step.batch, &step.output)?;
        }
        TargetAction::Compute(metric) => {
            let report = metric.try_borrow_mut().map_err(|_| busy())?.compute()?;
            let values = ctx.run.record_metric(&target.node, None, &report)?;
            ctx.run.evaluated(None, values);
        }
        TargetAction::Flush(sink) => sink.try_borrow_mut().map_err(|_| busy())?.flush()?,
        TargetAction::Run(engine) => {
            let flow = engine.run(ctx.run, ctx.dispatch)?;
            if flow.is_break() {
                return Ok(flow);
            }
        }
    }
    if !matches!(target.action, TargetAction::Call(_)) {
        place.done(position);
    }
    Ok(ControlFlow::Continue(()))
}
