//! `handler.unfreeze`: parts of a model that are trained from some event on.

use std::cell::Cell;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::optimizer::group::{matches, nothing_fits};
use pipe_core::Handler;
use pipe_core::frozen::Frozen;
use pipe_core::{BuildContext, Component, Config, EventContext, Instance, Kind, Model, NodeId, Ref, State, Stateful};

/// Freezes parameters of a model until it is called for the first time.
///
/// A frozen parameter gets no gradient and is not changed, by weight decay neither; its optimizer knows it all the while, and begins
/// with it as with a new one. Running statistics of batch normalization go on. With one handler for each stage, a model is unfrozen
/// stage by stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnfreezeConfig {
    /// The model.
    pub model: Ref<dyn Model>,
    /// Patterns on the names of the parameters: `*` stands for any text, dots included, `?` for one character (`backbone.*`).
    #[serde(rename = "match")]
    #[schemars(length(min = 1), extend("x-reload" = "hot"))]
    pub patterns: Vec<String>,
}

impl Config for UnfreezeConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "unfreeze";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "resnet"
num_classes = 10

[handler.unfreeze]
type = "unfreeze"
model = "model.net"
match = ["conv1.*", "bn1.*", "layer?.*"]

[[on]]
event = "engine.trainer:epoch_started"
once = 3
run = ["handler.unfreeze"]
"#;
}

impl Component for UnfreezeConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let parameters = ctx.get(&self.model)?.try_borrow().context("the model is in use")?.parameters();
        let names: Vec<String> = parameters.iter().map(|(name, _)| name.clone()).collect();
        for pattern in &self.patterns {
            let found = names.iter().any(|name| matches(pattern, name));
            ensure!(found, nothing_fits("match", pattern, &names));
        }
        let wanted = |name: &String| self.patterns.iter().any(|pattern| matches(pattern, name));
        let held: Vec<Tensor> =
            parameters.iter().filter(|(name, _)| wanted(name)).map(|(_, tensor)| tensor.shallow_clone()).collect();
        ensure!(
            held.len() < names.len(),
            "match: all parameters of {} would be frozen, and nothing trained",
            self.model.node
        );
        let hold = Hold { node: ctx.node.clone(), held, frozen: ctx.frozen() };
        let (called, placed) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let handler = Unfreeze { model: self.model.node, hold: Rc::new(hold), called, placed };
        let (hold, called, placed) = (handler.hold.clone(), handler.called.clone(), handler.placed.clone());
        ctx.on_commit(move |_| {
            placed.set(true);
            hold.apply(called.get());
        });
        Ok(Instance::handler(handler))
    }
}

pipe_core::register!(UnfreezeConfig);

/// The parameters, and who knows what is frozen.
struct Hold {
    node: NodeId,
    held: Vec<Tensor>,
    frozen: Rc<Frozen>,
}

impl Hold {
    fn apply(&self, called: bool) {
        match called {
            true => self.frozen.release(&self.node),
            false => self.frozen.hold(&self.node, self.held.iter().map(Tensor::shallow_clone).collect()),
        }
    }
}

/// The running handler.
struct Unfreeze {
    model: NodeId,
    hold: Rc<Hold>,
    called: Rc<Cell<bool>>,
    /// Whether it has its place in the run.
    placed: Rc<Cell<bool>>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    called: bool,
}

impl Handler for Unfreeze {
    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        if !self.called.replace(true) {
            self.hold.apply(true);
            let epoch = ctx.run.clock.get().epoch;
            tracing::info!(
                "{}: {} parameters of {} are trained from here on (epoch {epoch})",
                self.hold.node,
                self.hold.held.len(),
                self.model
            );
        }
        Ok(())
    }
}

impl Stateful for Unfreeze {
    fn state(&self) -> Result<State> {
        State::of(&Saved { called: self.called.get() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.called.set(state.to::<Saved>()?.called);
        if self.placed.get() {
            self.hold.apply(self.called.get());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::{Device, Kind as Type};

    use super::*;
    use pipe_core::{Optimizer, Shared};
    use pipe_run::testing::{TestRun, stored};

    fn parameters() -> Vec<(&'static str, Tensor)> {
        ["stem.weight", "body.weight", "head.weight"]
            .map(|name| (name, Tensor::ones([2], (Type::Float, Device::Cpu)).set_requires_grad(true)))
            .into()
    }

    fn run(parameters: &[(&'static str, Tensor)]) -> (TestRun, Shared<dyn Optimizer>) {
        let named: Vec<(&str, &Tensor)> = parameters.iter().map(|(name, tensor)| (*name, tensor)).collect();
        let test = TestRun::with_parameters(&named);
        let table = json!({ "type": "sgd", "model": "model.net", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.1 });
        let optimizer = test.optimizer("optimizer.sgd", table);
        (test, optimizer)
    }

    fn unfreeze(patterns: &[&str]) -> Value {
        json!({ "type": "unfreeze", "model": "model.net", "match": patterns })
    }

    fn step(parameters: &[(&'static str, Tensor)], optimizer: &Shared<dyn Optimizer>) -> Vec<bool> {
        let before: Vec<Tensor> = parameters.iter().map(|(_, tensor)| tensor.detach().copy()).collect();
        optimizer.borrow_mut().zero_grad();
        parameters.iter().map(|(_, tensor)| tensor.sum(Type::Float)).reduce(|sum, one| sum + one).unwrap().backward();
        optimizer.borrow_mut().step().unwrap();
        parameters.iter().zip(before).map(|((_, now), before)| *now != before).collect()
    }

    #[test]
    fn stages_are_trained_from_their_call_on_and_after_a_resume() {
        let parameters = parameters();
        let (test, optimizer) = run(&parameters);
        let stem = test.handler("handler.stem", unfreeze(&["stem.*"]));
        let body = test.handler("handler.body", unfreeze(&["body.*"]));
        assert_eq!(step(&parameters, &optimizer), [false, false, true]);
        test.call(&body, "epoch_started", None).unwrap();
        assert_eq!(step(&parameters, &optimizer), [false, true, true]);
        let states = [stored(&stem.borrow().state().unwrap()), stored(&body.borrow().state().unwrap())];
        test.call(&stem, "epoch_started", None).unwrap();
        test.call(&stem, "epoch_started", None).unwrap();
        assert_eq!(step(&parameters, &optimizer), [true, true, true]);

        let parameters = self::parameters();
        let (test, optimizer) = run(&parameters);
        let (stem, body) =
            (test.handler("handler.stem", unfreeze(&["stem.*"])), test.handler("handler.body", unfreeze(&["body.*"])));
        stem.borrow_mut().load_state(&states[0]).unwrap();
        body.borrow_mut().load_state(&states[1]).unwrap();
        assert_eq!(step(&parameters, &optimizer), [false, true, true]);
    }

    #[test]
    fn an_edit_lets_go_of_what_it_does_not_name_any_more() {
        let parameters = parameters();
        let (test, optimizer) = run(&parameters);
        test.handler("handler.stem", unfreeze(&["stem.*", "body.*"]));
        test.handler("handler.other", unfreeze(&["stem.*"]));
        assert_eq!(step(&parameters, &optimizer), [false, false, true]);
        // Built anew under its name, as a reload does.
        test.handler("handler.stem", unfreeze(&["body.*"]));
        assert_eq!(step(&parameters, &optimizer), [false, false, true]);
        test.run.forget(&"handler.other".parse().unwrap());
        assert_eq!(step(&parameters, &optimizer), [true, false, true]);
        test.run.frozen.lift(true);
        assert_eq!(step(&parameters, &optimizer), [true, true, true]);
        test.run.frozen.lift(false);
        assert_eq!(step(&parameters, &optimizer), [true, false, true]);
    }

    #[test]
    fn patterns_are_held_against_the_model() {
        let (test, _) = run(&parameters());
        let error = |patterns: &[&str]| match test.try_build("handler.unfreeze", unfreeze(patterns)) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{patterns:?}"),
        };
        assert!(error(&["boddy.*"]).contains("the nearest are `body.weight`"));
        assert!(error(&["*"]).contains("all parameters of model.net would be frozen"));
    }
}
