//! What plugins build, fitted to the traits of this program.

use anyhow::{Context, Result};
use pipe_core::{
    EventContext, Handler, LR, NodeId, Optimizer, ParamGroup, RecordValue, RunContext, Scheduler, Shared, State,
    Stateful, Termination, writable,
};
use pipe_plugin::plugin::{RemoteHandler, RemoteOptimizer, RemoteScheduler};
use pipe_plugin::{Action, Event, GroupSettings, Handler as _, Values};
use tch::Tensor;

/// A handler of a plugin: told of the event, and what it asks for is done.
pub(super) struct PluggedHandler {
    handler: RemoteHandler,
    node: NodeId,
}

impl PluggedHandler {
    pub(super) fn new(handler: RemoteHandler, node: NodeId) -> PluggedHandler {
        PluggedHandler { handler, node }
    }
}

impl Stateful for PluggedHandler {
    fn state(&self) -> Result<State> {
        self.handler.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.handler.load_state(state)
    }
}

impl Handler for PluggedHandler {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        let mut event = Event::new(ctx.engine.clone(), ctx.event.as_str());
        event.node = ctx.node.clone();
        event.count = ctx.count;
        event.epoch = ctx.state.epoch;
        event.iteration = ctx.state.iteration;
        event.step = ctx.run.clock.get().step;
        event.values = Values::new(ctx.run.values());
        event.output = ctx.step.map(|step| (step.batch.shallow_clone(), step.output.shallow_clone()));
        self.handler.call(&event)?;
        event.asked().into_iter().try_for_each(|action| match action {
            Action::Emit(tag, RecordValue::Scalar(value)) => ctx.run.scalar(&self.node, tag, value),
            Action::Emit(tag, value) => ctx.run.emit(&self.node, tag, value),
            Action::Terminate => {
                ctx.run.terminate(ctx.engine, Termination::Run);
                Ok(())
            }
            Action::TerminateEpoch => {
                ctx.run.terminate(ctx.engine, Termination::Epoch);
                Ok(())
            }
        })
    }

    fn finish(&mut self, _run: &RunContext) -> Result<()> {
        self.handler.finish()
    }
}

/// A scheduler of a plugin. Like the program's own it keeps one factor in each parameter group, so schedulers multiply.
pub(super) struct PluggedScheduler {
    scheduler: RemoteScheduler,
    node: NodeId,
    optimizer: Shared<dyn Optimizer>,
}

impl PluggedScheduler {
    pub(super) fn new(scheduler: RemoteScheduler, node: NodeId, optimizer: Shared<dyn Optimizer>) -> Result<Self> {
        let plugged = PluggedScheduler { scheduler, node, optimizer };
        plugged.apply()?;
        Ok(plugged)
    }

    fn apply(&self) -> Result<()> {
        let mut optimizer = writable(&self.optimizer, &self.node)?;
        let bases: Vec<f64> = optimizer.groups().iter().filter_map(|group| group.settings.get(LR).copied()).collect();
        let (rates, momentum) = self.scheduler.rates(&bases)?;
        for (group, lr) in optimizer.groups_mut().iter_mut().zip(rates) {
            group.set(LR, &self.node, lr)?;
            if let (Some(setting), Some(now)) = (group.momentum(), momentum) {
                group.set(setting, &self.node, now)?;
            }
        }
        Ok(())
    }
}

impl Stateful for PluggedScheduler {
    fn state(&self) -> Result<State> {
        self.scheduler.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.scheduler.load_state(state)?;
        self.apply()
    }
}

impl Scheduler for PluggedScheduler {
    fn step(&mut self, run: &RunContext) -> Result<()> {
        self.scheduler.step(&Values::new(run.values()))?;
        self.apply()
    }
}

/// An optimizer of a plugin. The groups lie here, for schedulers; each step tells the plugin what they have become.
pub(super) struct PluggedOptimizer {
    optimizer: RemoteOptimizer,
    groups: Vec<ParamGroup>,
}

impl PluggedOptimizer {
    pub(super) fn new(optimizer: RemoteOptimizer) -> Result<PluggedOptimizer> {
        let groups = optimizer.groups()?.into_iter().map(|group| {
            let GroupSettings { lr, weight_decay, momentum } = group.settings;
            let settings = [(LR, lr), ("weight_decay", weight_decay)].into_iter();
            ParamGroup::new(group.names, group.params, settings.chain(momentum.map(|momentum| ("momentum", momentum))))
        });
        Ok(PluggedOptimizer { groups: groups.collect(), optimizer })
    }
}

impl Stateful for PluggedOptimizer {
    fn state(&self) -> Result<State> {
        self.optimizer.state()
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.optimizer.load_state(state)
    }
}

impl Optimizer for PluggedOptimizer {
    fn groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    fn groups_mut(&mut self) -> &mut [ParamGroup] {
        &mut self.groups
    }

    fn step(&mut self) -> Result<()> {
        let settings = |group: &ParamGroup| GroupSettings {
            lr: group.lr(),
            weight_decay: group.value("weight_decay").unwrap_or(0.0),
            momentum: group.value("momentum"),
        };
        let settings: Vec<GroupSettings> = self.groups.iter().map(settings).collect();
        self.optimizer.step(&settings)
    }

    /// A plugin knows nothing of mixed precision, so this waits for the device, unlike the program's own optimizers.
    fn step_scaled(&mut self, scale: &Tensor, found_inf: &Tensor) -> Result<()> {
        if f64::try_from(found_inf).context("the overflow mark is no number")? != 0.0 {
            return Ok(());
        }
        let scale = f64::try_from(scale).context("the scale is no number")?;
        if scale != 1.0 {
            let grads = self.groups.iter().flat_map(|group| &group.params).map(Tensor::grad).filter(Tensor::defined);
            for mut grad in grads {
                let _ = grad.f_div_scalar_(scale)?;
            }
        }
        self.step()
    }
}
