//! Learning rates in closed form: a function of the number of steps and the configured rate.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use pipe_core::Scheduler;
use pipe_core::{BuildContext, Instance, NodeId, Optimizer, Ref, RunContext, Shared, State, Stateful, writable};

/// A learning rate in closed form.
pub trait Curve: 'static {
    /// The learning rate after `step` steps of a group whose configured rate is `base`.
    fn lr(&self, step: u64, base: f64) -> f64;

    /// The momentum after `step` steps, for curves that also schedule momentum.
    fn momentum(&self, _step: u64) -> Option<f64> {
        None
    }
}

/// A scheduler that follows a curve.
///
/// It owns one factor in each parameter group, under its own name: the curve's value over the configured rate. So curves
/// compose, and only the number of steps has to be saved.
pub struct Scheduled<C> {
    node: NodeId,
    optimizer: Shared<dyn Optimizer>,
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
    /// When the optimizer does not exist.
    pub fn build(ctx: &BuildContext<'_>, optimizer: &Ref<dyn Optimizer>, curve: C) -> Result<Instance> {
        let optimizer = ctx.get(optimizer)?;
        let scheduled = Scheduled { node: ctx.node.clone(), optimizer, curve, step: 0 };
        scheduled.apply()?;
        Ok(Instance::Scheduler(Rc::new(RefCell::new(scheduled))))
    }

    fn apply(&self) -> Result<()> {
        let mut optimizer = writable(&self.optimizer, &self.node)?;
        for group in optimizer.groups_mut() {
            group.set_factor(&self.node, self.curve.lr(self.step, group.base_lr));
            if let (Some(momentum), Some(now)) = (&mut group.momentum, self.curve.momentum(self.step)) {
                *momentum = now;
            }
        }
        Ok(())
    }
}

impl<C: Curve> Scheduler for Scheduled<C> {
    fn step(&mut self, _run: &RunContext) -> Result<()> {
        self.step += 1;
        self.apply()
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
        let table = json!({ "type": "sgd", "model": "model.net", "lr": lr, "momentum": 0.9 });
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
            let momenta = case.get("momenta").map(numbers);
            let monitored = case.get("monitored").map(numbers);
            let (mut lrs, mut momentum) = (Vec::new(), Vec::new());
            for step in 0..expected.len() {
                lrs.push(optimizer.borrow().groups()[0].lr());
                momentum.push(optimizer.borrow().groups()[0].momentum.unwrap());
                if let Some(values) = &monitored {
                    test.run.set_value(&"metric.m".parse().unwrap(), "value", values[step]);
                }
                schedulers.iter().for_each(|s| s.borrow_mut().step(&test.run).unwrap());
            }
            let relative: Vec<f64> = lrs.iter().zip(&expected).map(|(got, e)| got / e).collect();
            assert_close(name, &relative, &vec![1.0; expected.len()], 1e-6);
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
    fn a_live_edit_of_the_base_keeps_the_schedule() {
        let (test, optimizer) = run_with_optimizer(0.1);
        let table = json!({ "type": "step", "optimizer": "optimizer.o", "step_size": 1, "gamma": 0.5 });
        let scheduler = test.scheduler("scheduler.s", table);
        scheduler.borrow_mut().step(&test.run).unwrap();
        optimizer.borrow_mut().groups_mut()[0].base_lr = 0.2;
        assert_close("edited", &[optimizer.borrow().groups()[0].lr()], &[0.1], 1e-12);
        optimizer.borrow_mut().groups_mut()[0].base_lr = 0.0;
        scheduler.borrow_mut().step(&test.run).unwrap();
        assert_eq!(optimizer.borrow().groups()[0].lr(), 0.0);
    }
}
