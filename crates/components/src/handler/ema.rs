//! `handler.ema`: updates an exponential moving average of a model's weights.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Handler;
use pipe_core::facts::Facts;
use pipe_core::{
    BuildContext, Component, Config, EventContext, Instance, Kind, Model, NodeId, Problems, Ref, Setting, Settings,
    Shared, State, Stateful,
};

/// Updates a `model.ema` from the weights of its model: `average ← (1 − momentum) · average + momentum · weights`.
///
/// Call it on the trainer's `iteration_completed`, and evaluate the average. With `warmup_iters` the momentum changes
/// linearly from `momentum_warmup` to `momentum` over that many calls. Names, defaults and numbers are those of PyTorch-Ignite's
/// `EMAHandler`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// The averaged model, a `model.ema`.
    pub model: Ref<dyn Model>,
    /// Weight of the model's current weights in the update (1 − decay).
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0, "x-reload" = "hot", "x-scheduled" = true))]
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Initial momentum of the warm-up.
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    #[serde(default)]
    pub momentum_warmup: Option<f64>,
    /// Number of warm-up calls.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default)]
    pub warmup_iters: Option<u64>,
    /// What to do with what is not trained: buffers such as running statistics, and frozen weights.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub handle_buffers: Buffers,
}

/// What to do with buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Buffers {
    /// Copy them from the model.
    #[default]
    Copy,
    /// Average them like weights; integers are copied.
    Update,
}

fn default_momentum() -> f64 {
    0.0002
}

impl Config for EmaConfig {
    const KIND: Kind = Kind::Handler;
    const TYPE: &'static str = "ema";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[model.average]
type = "ema"
model = "model.net"

[handler.ema]
type = "ema"
model = "model.average"
momentum = 0.0002
momentum_warmup = 0.02
warmup_iters = 1000

[[on]]
event = "engine.trainer:iteration_completed"
run = ["handler.ema"]
"#;

    fn facts(&self) -> Facts {
        Facts { averages: true, ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        if self.momentum_warmup.is_some() != self.warmup_iters.is_some() {
            let key = if self.warmup_iters.is_some() { "warmup_iters" } else { "momentum_warmup" };
            problems.at(key, "`momentum_warmup` and `warmup_iters` must be set together", "give both or neither");
        }
    }
}

impl Component for EmaConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let model = ctx.get(&self.model)?;
        let momentum = Setting::new(self.momentum, 0.0..=1.0);
        let settings = Rc::new(RefCell::new([("momentum".to_owned(), momentum)].into()));
        Ok(Instance::handler(Ema { node: ctx.node.clone(), model, config: self, calls: 0, settings }))
    }
}

pipe_core::register!(EmaConfig);

/// A momentum that is scheduled is recorded at each of so many calls.
const RECORDED: u64 = 10;

/// The running handler.
struct Ema {
    node: NodeId,
    model: Shared<dyn Model>,
    config: EmaConfig,
    calls: u64,
    /// What schedulers may drive.
    settings: Settings,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    calls: u64,
}

impl EmaConfig {
    /// The momentum of a call, counted from 1 (Ignite's `EMAWarmUp`), on its way to `last`.
    fn momentum_at(&self, call: u64, last: f64) -> f64 {
        let (Some(first), Some(iterations)) = (self.momentum_warmup, self.warmup_iters) else { return last };
        let part = (call - 1) as f64 / iterations.saturating_sub(1).max(1) as f64;
        let momentum = first + (last - first) * part;
        if last >= first { momentum.min(last) } else { momentum.max(last) }
    }
}

impl Handler for Ema {
    fn settings(&self) -> Option<Settings> {
        Some(self.settings.clone())
    }

    fn call(&mut self, ctx: &EventContext<'_>) -> Result<()> {
        self.calls += 1;
        ctx.run.weights_changed();
        let setting = self.settings.borrow().get("momentum").cloned();
        let momentum = setting.as_ref().map_or(self.config.momentum, Setting::value);
        if setting.is_some_and(|setting| setting.is_driven())
            && (self.calls == 1 || self.calls.is_multiple_of(RECORDED))
        {
            ctx.run.scalar(&self.node, format!("{}/momentum", self.node.name), momentum)?;
        }
        let momentum = self.config.momentum_at(self.calls, momentum);
        let copy = self.config.handle_buffers == Buffers::Copy;
        let averaged = self.model.try_borrow_mut().context("the averaged model is in use")?.average(momentum, copy);
        averaged.with_context(|| self.config.model.node.to_string())
    }
}

impl Stateful for Ema {
    fn state(&self) -> Result<State> {
        State::of(&Saved { calls: self.calls })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.calls = state.to::<Saved>()?.calls;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Result;
    use serde_json::{Value, json};
    use tch::{Kind as Type, Tensor};

    use pipe_core::{Instance, State, Stateful};
    use pipe_core::{Model, ModelOutput};
    use pipe_data::{Batch, BatchField};
    use pipe_run::testing::{TestRun, assert_close, numbers, parity, stored};

    /// Two trained tensors and three buffers; its output is one of its weights.
    struct Net(State);

    impl Stateful for Net {
        fn state(&self) -> Result<State> {
            Ok(self.0.shallow_clone())
        }
    }

    impl Model for Net {
        fn set_training(&mut self, _training: bool) {}

        fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
            anyhow::ensure!(batch.size > 0, "an empty batch");
            let mut output = ModelOutput::default();
            output.outputs.set("weight", BatchField::Stacked(self.0.tensors["weight"].copy()));
            Ok(output)
        }

        fn parameters(&self) -> Vec<(String, Tensor)> {
            ["weight", "bias"].iter().map(|name| ((*name).to_owned(), self.0.tensors[*name].shallow_clone())).collect()
        }
    }

    /// As `fill` of make.py.
    fn fill(state: &State, file: &Value, t: i64) {
        for (name, tensor) in &state.tensors {
            let mut tensor = tensor.shallow_clone();
            if name == "num_batches_tracked" {
                let _ = tensor.fill_(t);
                continue;
            }
            let offset = t as f64 * file["step"][name].as_f64().unwrap() + (t % 3) as f64;
            let values: Vec<f64> = numbers(&file["base"][name]).iter().map(|base| base + offset).collect();
            tensor.copy_(&Tensor::from_slice(&values));
        }
    }

    fn net(file: &Value) -> State {
        let mut state = State::default();
        for name in ["weight", "bias", "running_mean", "running_var"] {
            state.tensors.insert(name.into(), Tensor::zeros([2], (Type::Float, tch::Device::Cpu)));
        }
        state.tensors.insert("num_batches_tracked".into(), Tensor::from(0i64));
        fill(&state, file, 0);
        state
    }

    fn assert_averages(what: &str, state: &State, expected: &Value) {
        for (name, values) in expected.as_object().unwrap() {
            let got: Vec<f64> = Vec::try_from(state.tensors[name].to_kind(Type::Double).flatten(0, -1)).unwrap();
            assert_close(&format!("{what} {name}"), &got, &numbers(values), 1e-6);
        }
    }

    #[test]
    fn averages_are_ignite_s_and_go_on_after_a_resume() {
        let file = parity("ema/expected.json");
        for case in file["cases"].as_array().unwrap() {
            let mut table = case.clone();
            table.as_object_mut().unwrap().shift_remove("averages");
            table["type"] = "ema".into();
            table["model"] = "model.average".into();
            let state = net(&file);
            let mut saved: Option<(State, State)> = None;
            let build = || {
                let test = TestRun::new();
                test.add("model.net", Instance::model(Net(state.shallow_clone())));
                let average = test.try_build("model.average", json!({ "type": "ema", "model": "model.net" })).unwrap();
                let Instance::Model(average) = average else { panic!("no model") };
                let handler = test.handler("handler.ema", table.clone());
                (test, average, handler)
            };
            let (mut test, mut average, mut handler) = build();
            for (i, expected) in case["averages"].as_array().unwrap().iter().enumerate() {
                fill(&state, &file, i as i64 + 1);
                if let Some((of_model, of_handler)) = saved.take() {
                    (test, average, handler) = build();
                    average.borrow_mut().load_state(&of_model).unwrap();
                    handler.borrow_mut().load_state(&of_handler).unwrap();
                }
                test.call(&handler, "iteration_completed", None).unwrap();
                assert_averages(&format!("{table} iteration {}", i + 1), &average.borrow().state().unwrap(), expected);
                if i == 2 {
                    let states = (average.borrow().state().unwrap(), handler.borrow().state().unwrap());
                    saved = Some((stored(&states.0), stored(&states.1)));
                }
            }
        }
    }

    #[test]
    fn an_evaluation_of_the_average_leaves_the_weights_as_they_were() {
        let file = parity("ema/expected.json");
        let state = net(&file);
        let test = TestRun::new();
        test.add("model.net", Instance::model(Net(state.shallow_clone())));
        let built = test.try_build("model.average", json!({ "type": "ema", "model": "model.net" })).unwrap();
        let Instance::Model(average) = built else { panic!("no model") };
        let weight = || Vec::<f32>::try_from(&state.tensors["weight"]).unwrap();
        let before = weight();
        let _ = state.tensors["weight"].shallow_clone().fill_(7.0);
        let output = average.borrow_mut().forward(&Batch::new(1)).unwrap();
        assert_eq!(Vec::<f32>::try_from(output.outputs.stacked("weight").unwrap()).unwrap(), before);
        assert_eq!(weight(), [7.0, 7.0]);
        assert!(average.borrow_mut().forward(&Batch::new(0)).is_err());
        average.borrow_mut().set_training(true);
        assert!(average.borrow_mut().forward(&Batch::new(1)).unwrap_err().to_string().contains("not trained"));
        assert_eq!(weight(), [7.0, 7.0], "also after an error");
        assert!(average.borrow().parameters().is_empty());
    }

    #[test]
    fn only_an_average_is_moved() {
        let test = TestRun::with_parameters(&[]);
        let handler = test.handler("handler.ema", json!({ "type": "ema", "model": "model.net" }));
        let error = format!("{:#}", test.call(&handler, "iteration_completed", None).unwrap_err());
        assert!(error.contains("model.net") && error.contains("`model.ema` is one"), "{error}");
        let half = json!({ "type": "ema", "model": "model.net", "warmup_iters": 4 });
        assert!(test.try_build("handler.e", half).err().unwrap().to_string().contains("must be set together"));
    }
}
