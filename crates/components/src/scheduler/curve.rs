//! Settings in closed form: a function of the number of steps and the configured value.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use pipe_core::Scheduler;
use pipe_core::{
    BuildContext, Instance, LR, NodeId, Optimizer, ParamGroup, Ref, RunContext, Setting, Settings, Shared, State,
    Stateful, Target, writable,
};

/// A setting in closed form.
pub trait Curve: 'static {
    /// The value after `step` steps where `base` is configured.
    fn value(&self, step: u64, base: f64) -> f64;

    /// The momentum after `step` steps, for curves that move it with the learning rate.
    fn momentum(&self, _step: u64) -> Option<f64> {
        None
    }
}

/// What a scheduler drives.
pub enum Driven {
    /// One setting of an optimizer's parameter groups.
    Groups {
        /// The optimizer.
        optimizer: Shared<dyn Optimizer>,
        /// The one table of `groups`, or all parameters.
        table: Option<usize>,
        /// The setting.
        setting: String,
    },
    /// A number of another node.
    Number {
        /// The node's numbers.
        settings: Settings,
        /// Which of them.
        option: String,
    },
}

impl Driven {
    /// The learning rate of `optimizer`, or `target`; nothing where neither is named, of a part of another scheduler.
    ///
    /// # Errors
    /// When both are named, or the node has no such setting in use.
    pub fn of(
        ctx: &BuildContext<'_>,
        optimizer: Option<&Ref<dyn Optimizer>>,
        target: Option<&Target>,
    ) -> Result<Option<Driven>> {
        let (node, option) = match (optimizer, target) {
            (Some(_), Some(_)) => bail!("both `optimizer` and `target` are given: keep one of them"),
            (Some(optimizer), None) => (&optimizer.node, LR),
            (None, Some(target)) => (&target.node, target.option.as_str()),
            (None, None) => return Ok(None),
        };
        let driven = match ctx.instance(node)? {
            Instance::Optimizer(optimizer) => {
                let in_table = option.strip_prefix("groups[").and_then(|rest| rest.split_once("]."));
                let (table, setting) = match in_table {
                    Some((index, setting)) => (Some(index.parse().context("`groups[…]` needs a number")?), setting),
                    None => (None, option),
                };
                Driven::Groups { optimizer: optimizer.clone(), table, setting: setting.to_owned() }
            }
            other => {
                let settings = other.settings().with_context(|| format!("no option of {node} can be scheduled"))?;
                Driven::Number { settings, option: option.to_owned() }
            }
        };
        let bases = driven.bases()?;
        if bases.is_empty() {
            bail!("{node} has no setting `{option}` in use: give it a value above 0, or name another");
        }
        if option != LR && bases.iter().all(|base| *base == 0.0) {
            bail!("`{node}:{option}` is 0, so it is switched off and cannot be scheduled: set it to another value");
        }
        Ok(Some(driven))
    }

    /// The configured values of what is driven.
    fn bases(&self) -> Result<Vec<f64>> {
        Ok(match self {
            Driven::Groups { optimizer, table, setting } => {
                let optimizer = optimizer.try_borrow().context("the optimizer is in use")?;
                let groups = optimizer.groups().iter().filter(|group| is_in(*table, group));
                groups.filter_map(|group| group.settings.get(setting).copied()).collect()
            }
            Driven::Number { settings, option } => {
                settings.borrow().get(option).map(Setting::configured).into_iter().collect()
            }
        })
    }

    /// Gives the setting the value that `value` makes of the configured one, and momentum its own if the setting is the
    /// learning rate.
    ///
    /// # Errors
    /// When the optimizer makes a step just now, or the setting cannot have such a value.
    pub fn apply(&self, node: &NodeId, value: impl Fn(f64) -> f64, momentum: Option<f64>) -> Result<()> {
        match self {
            Driven::Groups { optimizer, table, setting } => {
                let mut optimizer = writable(optimizer, node)?;
                for group in optimizer.groups_mut().iter_mut().filter(|group| is_in(*table, group)) {
                    let Some(base) = group.settings.get(setting).copied() else { continue };
                    group.set(setting, node, value(base))?;
                    if let (Some(name), Some(now), true) = (group.momentum(), momentum, setting == LR) {
                        group.set(name, node, now)?;
                    }
                }
                Ok(())
            }
            Driven::Number { settings, option } => match settings.borrow_mut().get_mut(option) {
                Some(setting) => setting.set(node, value(setting.configured())).with_context(|| format!("`{option}`")),
                None => Ok(()),
            },
        }
    }
}

fn is_in(table: Option<usize>, group: &ParamGroup) -> bool {
    table.is_none() || table == group.table
}

/// A scheduler that follows a curve.
///
/// It owns one factor in each parameter group, under its own name: the curve's value over the configured one. So curves
/// compose, and only the number of steps has to be saved.
pub struct Scheduled<C> {
    node: NodeId,
    /// `None` of a part of another scheduler, which asks for its values only.
    driven: Option<Driven>,
    curve: C,
    step: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    step: u64,
}

impl<C: Curve> Scheduled<C> {
    /// Builds the scheduler of a curve and applies its value of step 0.
    ///
    /// # Errors
    /// As [`Driven::of`].
    pub fn build(
        ctx: &BuildContext<'_>,
        optimizer: Option<Ref<dyn Optimizer>>,
        target: Option<Target>,
        curve: C,
    ) -> Result<Instance> {
        let driven = Driven::of(ctx, optimizer.as_ref(), target.as_ref())?;
        let scheduled = Scheduled { node: ctx.node.clone(), driven, curve, step: 0 };
        scheduled.apply()?;
        Ok(Instance::Scheduler(Rc::new(RefCell::new(scheduled))))
    }

    fn apply(&self) -> Result<()> {
        let Some(driven) = &self.driven else { return Ok(()) };
        driven.apply(&self.node, |base| self.curve.value(self.step, base), self.curve.momentum(self.step))
    }
}

impl<C: Curve> Scheduler for Scheduled<C> {
    fn step(&mut self, _run: &RunContext) -> Result<()> {
        self.step += 1;
        self.apply()
    }

    fn value_at(&self, step: u64, base: f64) -> Option<f64> {
        Some(self.curve.value(step, base))
    }

    fn momentum_at(&self, step: u64) -> Option<f64> {
        self.curve.momentum(step)
    }
}

impl<C: Curve> Stateful for Scheduled<C> {
    fn state(&self) -> Result<State> {
        State::of(&Saved { step: self.step })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.step = state.to::<Saved>()?.step;
        self.apply()
    }
}

/// Half a cosine from 1 at `part` 0 to 0 at `part` 1.
pub(super) fn half_cosine(part: f64) -> f64 {
    (1.0 + (std::f64::consts::PI * part).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tch::{Device, Kind, Tensor};

    use super::*;
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored};

    fn run_with_optimizer(lr: f64) -> (TestRun, Shared<dyn Optimizer>) {
        let w = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let test = TestRun::with_parameters(&[("w", &w)]);
        let table = json!({ "type": "sgd", "model": "model.net", "lr": lr, "momentum": 0.9, "weight_decay": 0.01 });
        let optimizer = test.optimizer("optimizer.o", table);
        (test, optimizer)
    }

    /// Every case: the schedulers of one optimizer, and the rates (and momenta) that torch or Ignite gave.
    #[test]
    fn rates_are_those_of_torch_and_ignite() {
        let cases = parity("optim/schedulers.json");
        for (name, case) in cases.as_object().unwrap() {
            let base = case["lr"].as_f64().unwrap();
            let (test, optimizer) = run_with_optimizer(base);
            let tables = case["schedulers"].as_array().unwrap();
            let schedulers: Vec<_> = tables
                .iter()
                .enumerate()
                .map(|(i, table)| test.scheduler(&format!("scheduler.s{i}"), table.clone()))
                .collect();
            let expected = numbers(&case["lrs"]);
            let setting = case.get("setting").map_or(LR, |setting| setting.as_str().unwrap());
            let momenta = case.get("momenta").map(numbers);
            let monitored = case.get("monitored").map(numbers);
            let (mut lrs, mut momentum) = (Vec::new(), Vec::new());
            for step in 0..expected.len() {
                lrs.push(optimizer.borrow().groups()[0].value(setting).unwrap());
                momentum.push(optimizer.borrow().groups()[0].value("momentum").unwrap());
                if let Some(values) = &monitored {
                    test.run.set_value(&"metric.m".parse().unwrap(), "value", values[step]);
                }
                schedulers.iter().for_each(|s| s.borrow_mut().step(&test.run).unwrap());
            }
            for (step, (got, expected)) in lrs.iter().zip(&expected).enumerate() {
                assert!(
                    (got - expected).abs() <= 1e-6 * expected + 1e-15,
                    "{name}[{step}]: {got}, expected {expected}"
                );
            }
            if let Some(expected) = momenta {
                assert_close(name, &momentum, &expected, 1e-6);
            }
        }
    }

    #[test]
    fn a_resumed_scheduler_goes_on_from_its_step() {
        let tables = [
            json!({ "type": "linear_warmup", "optimizer": "optimizer.o", "iterations": 5 }),
            json!({ "type": "cosine", "optimizer": "optimizer.o", "t_max": 20 }),
        ];
        let build = |test: &TestRun| [0, 1].map(|i| test.scheduler(&format!("scheduler.s{i}"), tables[i].clone()));
        let (whole, reference) = run_with_optimizer(0.1);
        let schedulers = build(&whole);
        (0..7).for_each(|_| schedulers.iter().for_each(|s| s.borrow_mut().step(&whole.run).unwrap()));
        let states = schedulers.each_ref().map(|s| stored(&s.borrow().state().unwrap()));

        let (half, resumed) = run_with_optimizer(0.1);
        let again = build(&half);
        assert_eq!(resumed.borrow().groups()[0].lr(), 0.1 * 1e-3);
        again.iter().zip(&states).for_each(|(s, state)| s.borrow_mut().load_state(state).unwrap());
        assert_eq!(resumed.borrow().groups()[0].lr(), reference.borrow().groups()[0].lr());
        again.iter().for_each(|s| s.borrow_mut().step(&half.run).unwrap());
        schedulers.iter().for_each(|s| s.borrow_mut().step(&whole.run).unwrap());
        assert_eq!(resumed.borrow().groups()[0].lr(), reference.borrow().groups()[0].lr());
    }

    #[test]
    fn a_target_may_be_a_number_of_another_node() {
        let (test, _) = run_with_optimizer(0.1);
        let settings = Rc::new(RefCell::new([("weight".to_owned(), Setting::new(2.0, 0.0..=3.0))].into()));
        test.add("handler.h", Instance::handler(Tuned(settings.clone())));
        let step = |gamma: f64| json!({ "type": "step", "target": "handler.h:weight", "step_size": 1, "gamma": gamma });
        let value = || settings.borrow()["weight"].value();
        let halved = test.scheduler("scheduler.a", step(0.5));
        let grown = test.scheduler("scheduler.b", step(1.5));
        halved.borrow_mut().step(&test.run).unwrap();
        assert_eq!(value(), 1.0);
        grown.borrow_mut().step(&test.run).unwrap();
        assert_eq!(value(), 1.5, "factors compose");
        let error = format!("{:#}", grown.borrow_mut().step(&test.run).unwrap_err());
        assert!(error.contains("scheduler.b would set it to 4.5, which is not between 0 and 3"), "{error}");
        let saved = halved.borrow().state().unwrap();
        let again = test.scheduler("scheduler.a", step(0.5));
        assert_eq!(value(), 2.0 * 1.5, "a new one is at its beginning");
        again.borrow_mut().load_state(&saved).unwrap();
        assert_eq!(value(), 1.5);
    }

    /// A handler with a number.
    struct Tuned(Settings);

    impl Stateful for Tuned {}

    impl pipe_core::Handler for Tuned {
        fn call(&mut self, _ctx: &pipe_core::EventContext<'_>) -> Result<()> {
            Ok(())
        }

        fn settings(&self) -> Option<Settings> {
            Some(self.0.clone())
        }
    }

    #[test]
    fn a_target_is_one_setting_of_the_groups_that_it_names() {
        let [a, b] = [(); 2].map(|()| Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true));
        let test = TestRun::with_parameters(&[("a.weight", &a), ("b.weight", &b)]);
        let optimizer = test.optimizer(
            "optimizer.o",
            json!({ "type": "adamw", "model": "model.net", "lr": 0.1, "weight_decay": 0.2, "betas": [0.8, 0.99],
                    "groups": [{ "match": "b.*", "lr": 0.5 }], "no_weight_decay": ["a.*"] }),
        );
        let halved = |target: &str| json!({ "type": "step", "target": target, "step_size": 1, "gamma": 0.5 });
        for (i, target) in ["weight_decay", "betas[1]", "eps", "groups[0].lr"].into_iter().enumerate() {
            let scheduler = test.scheduler(&format!("scheduler.s{i}"), halved(&format!("optimizer.o:{target}")));
            scheduler.borrow_mut().step(&test.run).unwrap();
        }
        let seen = |setting: &str| [0, 1].map(|i| optimizer.borrow().groups()[i].value(setting).unwrap());
        assert_eq!(seen("weight_decay"), [0.0, 0.1], "what is switched off stays off");
        assert_eq!(seen("lr"), [0.1, 0.25]);
        assert_eq!((seen("betas[0]"), seen("betas[1]"), seen("eps")), ([0.8; 2], [0.495; 2], [5e-9; 2]));

        for (table, part) in [
            (halved("optimizer.o:groups[1].lr"), "no setting `groups[1].lr` in use"),
            (halved("optimizer.o:momentum"), "no setting `momentum` in use"),
            (halved("model.net:lr"), "no option of model.net can be scheduled"),
            (
                json!({ "type": "step", "step_size": 1, "optimizer": "optimizer.o", "target": "optimizer.o:lr" }),
                "keep one",
            ),
        ] {
            let error = format!("{:#}", test.try_build("scheduler.x", table).err().unwrap());
            assert!(error.contains(part), "{error}");
        }
        let points = json!([[0, 0.5], [1, 1.0]]);
        let table = json!({ "type": "piecewise_linear", "target": "optimizer.o:betas[0]", "points": points });
        let error = test.scheduler("scheduler.y", table).borrow_mut().step(&test.run).unwrap_err().to_string();
        assert!(error.contains("scheduler.y would set `betas[0]` to 1,"), "{error}");
        let off = json!({ "type": "sgd", "model": "model.net", "lr": 0.1 });
        test.optimizer("optimizer.off", off);
        let error = test.try_build("scheduler.z", halved("optimizer.off:weight_decay")).err().unwrap().to_string();
        assert!(error.contains("is 0, so it is switched off"), "{error}");
    }

    #[test]
    fn a_live_edit_of_the_base_keeps_the_schedule() {
        let (test, optimizer) = run_with_optimizer(0.1);
        let table = json!({ "type": "step", "optimizer": "optimizer.o", "step_size": 1, "gamma": 0.5 });
        let scheduler = test.scheduler("scheduler.s", table);
        scheduler.borrow_mut().step(&test.run).unwrap();
        optimizer.borrow_mut().groups_mut()[0].settings.insert(LR.into(), 0.2);
        assert_close("edited", &[optimizer.borrow().groups()[0].lr()], &[0.1], 1e-12);
        optimizer.borrow_mut().groups_mut()[0].settings.insert(LR.into(), 0.0);
        scheduler.borrow_mut().step(&test.run).unwrap();
        assert_eq!(optimizer.borrow().groups()[0].lr(), 0.0);
    }
}
