//! Shared by all optimizers: stepping group by group, and state tensors saved by parameter name.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use pipe_native::optim::Amp;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::group::{Settings, make_groups};
use pipe_core::{BuildContext, Instance, Model, Ref, State, Stateful};
use pipe_core::{Optimizer, ParamGroup};

/// The arithmetic of one optimizer.
pub trait Rule: 'static {
    /// The component's type, kept with the state: optimizers cannot use each other's state.
    const TYPE: &'static str;

    /// The state tensors of a parameter.
    fn slots(&self) -> Vec<(&'static str, Slot)>;

    /// Whether a parameter's first step differs from a step with zero state.
    fn first_step_differs(&self) -> bool {
        false
    }

    /// Changes parameters and their state in place.
    ///
    /// # Errors
    /// When libtorch fails.
    fn update(&self, part: &Part<'_>, amp: Amp<'_>) -> Result<()>;
}

/// The form of a state tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Shape and type of the parameter.
    LikeParameter,
    /// An f32 scalar on the parameter's device.
    Count,
}

/// Parameters of one group that have gradients, with what belongs to them.
#[derive(Debug)]
pub struct Part<'a> {
    /// The group, for its settings.
    pub group: &'a ParamGroup,
    /// Parameters.
    pub params: &'a [Tensor],
    /// Their gradients.
    pub grads: &'a [Tensor],
    /// Their state: one list a slot, in the order of [`Rule::slots`].
    pub slots: &'a [Vec<Tensor>],
    /// Whether it is the first step of all of them; always false unless [`Rule::first_step_differs`].
    pub first_step: bool,
}

/// An optimizer made of a rule.
pub struct Stepper<R> {
    rule: R,
    groups: Vec<ParamGroup>,
    /// State of each group.
    states: Vec<GroupState>,
}

struct GroupState {
    /// One list a slot, one tensor a parameter.
    slots: Vec<Vec<Tensor>>,
    /// Whether each parameter has been changed yet.
    started: Vec<bool>,
}

/// The plain part of the state.
#[derive(Serialize, Deserialize)]
struct Saved {
    r#type: String,
    /// Parameters that never had a gradient, so have no state.
    idle: Vec<String>,
}

impl<R: Rule> Stepper<R> {
    /// Builds the optimizer of a rule over a model's parameters.
    ///
    /// # Errors
    /// As [`make_groups`].
    pub fn build(ctx: &BuildContext<'_>, model: &Ref<dyn Model>, settings: &Settings<'_>, rule: R) -> Result<Instance> {
        let parameters = ctx.get(model)?.try_borrow().context("the model is in use")?.parameters();
        let groups = make_groups(parameters, settings).with_context(|| format!("parameters of {}", model.node))?;
        let states = groups.iter().map(|group| GroupState::new(&rule, group)).collect();
        Ok(Instance::Optimizer(Rc::new(RefCell::new(Stepper { rule, groups, states }))))
    }

    fn step_with(&mut self, amp: Amp<'_>) -> Result<()> {
        for (group, state) in self.groups.iter().zip(&mut self.states) {
            let grads: Vec<Tensor> = group.params.iter().map(Tensor::grad).collect();
            // One that was frozen since may still have a gradient from before.
            let ready = (0..grads.len()).filter(|i| grads[*i].defined() && group.params[*i].requires_grad());
            let ready: Vec<usize> = ready.collect();
            if !self.rule.first_step_differs() {
                step_part(&self.rule, group, state, &grads, &ready, false, amp)?;
                continue;
            }
            let (later, first): (Vec<usize>, Vec<usize>) = ready.iter().partition(|i| state.started[**i]);
            step_part(&self.rule, group, state, &grads, &later, false, amp)?;
            // A first step that is skipped must stay to be done: worth asking the device until it has happened.
            let skipped = match amp.found_inf {
                Some(found) if !first.is_empty() => f64::try_from(found)? != 0.0,
                _ => false,
            };
            if !skipped {
                step_part(&self.rule, group, state, &grads, &first, true, amp)?;
            }
        }
        Ok(())
    }
}

impl GroupState {
    fn new(rule: &impl Rule, group: &ParamGroup) -> GroupState {
        let zeros = |slot| {
            let tensors = group.params.iter().map(|param| match slot {
                Slot::LikeParameter => param.zeros_like(),
                Slot::Count => Tensor::zeros([0_i64; 0], (Kind::Float, param.device())),
            });
            tensors.map(|t| t.set_requires_grad(false)).collect()
        };
        let slots = rule.slots().into_iter().map(|(_, slot)| zeros(slot)).collect();
        GroupState { slots, started: vec![false; group.params.len()] }
    }
}

fn step_part(
    rule: &impl Rule,
    group: &ParamGroup,
    state: &mut GroupState,
    grads: &[Tensor],
    which: &[usize],
    first_step: bool,
    amp: Amp<'_>,
) -> Result<()> {
    if which.is_empty() {
        return Ok(());
    }
    if which.len() == group.params.len() {
        rule.update(&Part { group, params: &group.params, grads, slots: &state.slots, first_step }, amp)?;
    } else {
        let pick = |from: &[Tensor]| which.iter().map(|i| from[*i].shallow_clone()).collect::<Vec<_>>();
        let slots: Vec<Vec<Tensor>> = state.slots.iter().map(|slot| pick(slot)).collect();
        let (params, grads) = (pick(&group.params), pick(grads));
        rule.update(&Part { group, params: &params, grads: &grads, slots: &slots, first_step }, amp)?;
    }
    which.iter().for_each(|i| state.started[*i] = true);
    Ok(())
}

impl<R: Rule> Optimizer for Stepper<R> {
    fn groups(&self) -> &[ParamGroup] {
        &self.groups
    }

    fn groups_mut(&mut self) -> &mut [ParamGroup] {
        &mut self.groups
    }

    fn step(&mut self) -> Result<()> {
        self.step_with(Amp::default())
    }

    fn step_scaled(&mut self, scale: &Tensor, found_inf: &Tensor) -> Result<()> {
        self.step_with(Amp { grad_scale: Some(scale), found_inf: Some(found_inf) })
    }
}

impl<R: Rule> Stateful for Stepper<R> {
    /// Tensors are named `<slot>/<parameter>` (`exp_avg/backbone.conv1.weight`). Learning rates and weight decay are not
    /// state: they come from the pipeline and the schedulers.
    fn state(&self) -> Result<State> {
        let mut tensors = IndexMap::new();
        let mut idle = Vec::new();
        for (group, state) in self.groups.iter().zip(&self.states) {
            for (i, name) in group.names.iter().enumerate() {
                if !state.started[i] {
                    idle.push(name.clone());
                    continue;
                }
                for ((slot, _), list) in self.rule.slots().iter().zip(&state.slots) {
                    tensors.insert(format!("{slot}/{name}"), list[i].shallow_clone());
                }
            }
        }
        let values = State::of(&Saved { r#type: R::TYPE.to_owned(), idle })?.values;
        Ok(State { values, tensors })
    }

    /// Parameters whose name or shape is not in the saved state (the model was changed) start with a new state, with a warning in the log.
    fn load_state(&mut self, saved: &State) -> Result<()> {
        let Saved { r#type, idle } = saved.to().context("this is not the state of an optimizer")?;
        if r#type != R::TYPE {
            bail!(
                "the saved state is of the optimizer type `{type}`, this optimizer is of type `{}`; change the type back, \
                 or start a new run from the saved weights",
                R::TYPE
            );
        }
        let mut afresh = Vec::new();
        for (group, state) in self.groups.iter().zip(&mut self.states) {
            // Not both at once: a device may have no room for them.
            state.slots.clear();
            *state = GroupState::new(&self.rule, group);
            for (i, name) in group.names.iter().enumerate() {
                let own: Option<Vec<&Tensor>> =
                    self.rule.slots().iter().map(|(slot, _)| saved.tensors.get(&format!("{slot}/{name}"))).collect();
                let fits =
                    |own: &Vec<&Tensor>| own.iter().zip(&state.slots).all(|(t, list)| t.size() == list[i].size());
                match own.filter(fits) {
                    _ if idle.contains(name) => {}
                    Some(own) => {
                        state.slots.iter_mut().zip(own).for_each(|(list, from)| list[i].copy_(from));
                        state.started[i] = true;
                    }
                    None => afresh.push(name.as_str()),
                }
            }
        }
        if !afresh.is_empty() {
            let more = if afresh.len() > 3 { ", …" } else { "" };
            let some = afresh[..afresh.len().min(3)].join(", ");
            tracing::warn!(
                "{} optimizer state reset for {} parameters without matching saved state: {some}{more}",
                R::TYPE,
                afresh.len()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::{Device, Kind, Tensor};

    use pipe_core::Optimizer;
    use pipe_core::Shared;
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored};

    /// The problem of `tests/parity/optim/optimizers.py`: `loss = ½ |a w₁ (w₂ x) − y|²` with `w₁` `[2, 3]`, `w₂` `[3, 2]`
    /// and a bias that joins at step 3, so that it has no gradient before.
    struct Problem {
        params: Vec<Tensor>,
        step: usize,
    }

    impl Problem {
        fn new(kind: Kind) -> Problem {
            let wave = |n: i64, shape: &[i64], phase: f64| {
                let t = (Tensor::arange(n, (kind, Device::Cpu)) * 0.7 + phase).sin();
                t.view(shape).set_requires_grad(true)
            };
            Problem { params: vec![wave(6, &[2, 3], 0.3), wave(6, &[3, 2], 1.1), wave(2, &[2], 2.0)], step: 0 }
        }

        fn run(&self) -> TestRun {
            TestRun::with_parameters(&[("w1", &self.params[0]), ("w2", &self.params[1]), ("bias", &self.params[2])])
        }

        fn backward(&mut self, scale: f64) {
            let kind = self.params[0].kind();
            let x = (Tensor::from_slice(&[1.0, 2.0]).to_kind(kind) + self.step as f64 * 0.5).cos();
            let y = Tensor::from_slice(&[0.5, -0.25]).to_kind(kind);
            let mut out = self.params[0].mv(&self.params[1].mv(&x));
            if self.step >= 3 {
                out += &self.params[2];
            }
            ((out - y).square().sum(kind) * (0.5 * scale)).backward();
            self.step += 1;
        }

        fn iterate(&mut self, optimizer: &Shared<dyn Optimizer>) {
            optimizer.borrow_mut().zero_grad();
            self.backward(1.0);
            optimizer.borrow_mut().step().unwrap();
        }

        fn values(&self) -> Vec<f64> {
            self.params.iter().flat_map(|p| Vec::<f64>::try_from(p.flatten(0, -1)).unwrap()).collect()
        }
    }

    fn cases() -> serde_json::Map<String, Value> {
        parity("optim/optimizers.json").as_object().unwrap().clone()
    }

    #[test]
    fn steps_are_those_of_torch() {
        for (name, case) in cases() {
            let mut problem = Problem::new(Kind::Double);
            let test = problem.run();
            let optimizer = test.optimizer("optimizer.o", case["optimizer"].clone());
            let schedulers = case["schedulers"].as_array().unwrap().iter().enumerate();
            let schedulers: Vec<_> =
                schedulers.map(|(i, table)| test.scheduler(&format!("scheduler.s{i}"), table.clone())).collect();
            for step in 1..=100 {
                problem.iterate(&optimizer);
                schedulers.iter().for_each(|s| s.borrow_mut().step(&test.run).unwrap());
                if let Some(expected) = case["params"].get(step.to_string()) {
                    assert_close(&format!("{name} step {step}"), &problem.values(), &numbers(expected), 1e-6);
                }
            }
        }
    }

    #[test]
    fn a_restored_optimizer_goes_on_bit_by_bit() {
        for (name, case) in cases() {
            for cut in [2, 10] {
                let mut problem = Problem::new(Kind::Float);
                let test = problem.run();
                let optimizer = test.optimizer("optimizer.o", case["optimizer"].clone());
                (0..cut).for_each(|_| problem.iterate(&optimizer));
                let state = stored(&optimizer.borrow().state().unwrap());

                let copies = problem.params.iter().map(|p| p.detach().copy().set_requires_grad(true));
                let mut again = Problem { params: copies.collect(), step: problem.step };
                let other = again.run();
                let resumed = other.optimizer("optimizer.o", case["optimizer"].clone());
                resumed.borrow_mut().load_state(&state).unwrap();
                for _ in 0..10 {
                    problem.iterate(&optimizer);
                    again.iterate(&resumed);
                }
                assert_eq!(problem.values(), again.values(), "{name}, cut at {cut}");
            }
        }
    }

    #[test]
    fn a_scaled_step_is_a_step_and_an_overflow_is_none() {
        for (name, case) in cases() {
            let (mut plain, mut scaled) = (Problem::new(Kind::Float), Problem::new(Kind::Float));
            let (run_a, run_b) = (plain.run(), scaled.run());
            let a = run_a.optimizer("optimizer.o", case["optimizer"].clone());
            let b = run_b.optimizer("optimizer.o", case["optimizer"].clone());
            let scale = Tensor::from(1024.0_f32);
            for step in 0..20 {
                plain.iterate(&a);
                // Every step is first tried with gradients that overflowed, the very first included.
                for found_inf in [1.0_f32, 0.0] {
                    b.borrow_mut().zero_grad();
                    scaled.step = step;
                    scaled.backward(1024.0);
                    if found_inf == 1.0 {
                        scaled.params.iter().map(Tensor::grad).filter(Tensor::defined).for_each(|mut g| {
                            let _ = g.fill_(f64::INFINITY);
                        });
                    }
                    b.borrow_mut().step_scaled(&scale, &Tensor::from(found_inf)).unwrap();
                }
            }
            assert_close(&name, &scaled.values(), &plain.values(), 1e-6);
        }
    }

    #[test]
    fn state_of_another_optimizer_is_refused() {
        let mut problem = Problem::new(Kind::Float);
        let test = problem.run();
        let sgd = test.optimizer("optimizer.a", json!({ "type": "sgd", "model": "model.net", "momentum": 0.9 }));
        let adam = test.optimizer("optimizer.b", json!({ "type": "adam", "model": "model.net" }));
        problem.iterate(&sgd);
        let state = sgd.borrow().state().unwrap();
        assert_eq!(state.tensors.keys().collect::<Vec<_>>(), ["momentum_buffer/w1", "momentum_buffer/w2"]);
        let error = adam.borrow_mut().load_state(&state).unwrap_err().to_string();
        assert!(error.contains("`sgd`") && error.contains("`adam`"), "{error}");
    }

    #[test]
    fn a_changed_parameter_starts_afresh_and_the_others_go_on() {
        let mut problem = Problem::new(Kind::Float);
        let test = problem.run();
        let table = json!({ "type": "sgd", "model": "model.net", "momentum": 0.9 });
        let optimizer = test.optimizer("optimizer.o", table.clone());
        (0..5).for_each(|_| problem.iterate(&optimizer));
        let state = stored(&optimizer.borrow().state().unwrap());
        let wider = Tensor::zeros([4, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let changed = TestRun::with_parameters(&[("w1", &wider), ("w2", &problem.params[1])]);
        let optimizer = changed.optimizer("optimizer.o", table);
        optimizer.borrow_mut().load_state(&state).unwrap();
        let restored = optimizer.borrow().state().unwrap();
        assert_eq!(restored.tensors.keys().collect::<Vec<_>>(), ["momentum_buffer/w2"]);
        assert_eq!(restored.tensors["momentum_buffer/w2"], state.tensors["momentum_buffer/w2"]);
    }

    #[test]
    fn options_that_exclude_each_other_are_found() {
        let test = Problem::new(Kind::Float).run();
        for (table, at) in [
            (json!({ "type": "sgd", "model": "model.net", "nesterov": true }), "nesterov: "),
            (json!({ "type": "adam", "model": "model.net", "betas": [0.9, 1.0] }), "betas: "),
            (
                json!({ "type": "adamw", "model": "model.net", "groups": [{ "match": "w*", "lr": 1, "lr_scale": 1 }] }),
                "groups.0.lr_scale: ",
            ),
        ] {
            let error = test.try_build("optimizer.o", table).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.starts_with(at), "{error}");
        }
    }
}
