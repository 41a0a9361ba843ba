//! `model.ema`: an average of another model's weights.

use anyhow::{Context, Result, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Ref, Shared, State, Stateful};
use pipe_core::{Model, ModelOutput};
use pipe_data::Batch;
use pipe_vision::nn::StateDict;

/// Exponential moving average (EMA) of another model's weights, which often evaluates better than the weights themselves.
///
/// It starts as a copy; `handler.ema` updates it. Evaluating it runs the other model with the averaged weights in place of
/// its own. Its weights are saved in checkpoints under the same names, so `pipe eval` and `pipe predict` use it like any
/// model.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-instead" = {
    "decay": "it belongs to `handler.ema`, as momentum = 1 - decay",
    "momentum": "it belongs to `handler.ema`"
}))]
pub struct EmaModelConfig {
    /// The model whose weights are averaged.
    pub model: Ref<dyn Model>,
}

impl Config for EmaModelConfig {
    const KIND: Kind = Kind::Model;
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
"#;

    fn facts(&self) -> Facts {
        Facts { averages: true, ..Facts::default() }
    }
}

impl Component for EmaModelConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let model = ctx.get(&self.model)?;
        let averages = copies(&model.borrow().state()?.tensors);
        Ok(Instance::model(Ema { model, averages, training: false }))
    }
}

pipe_core::register!(EmaModelConfig);

/// The running model.
struct Ema {
    model: Shared<dyn Model>,
    averages: StateDict,
    training: bool,
}

fn copies(tensors: &StateDict) -> StateDict {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.detach().copy())).collect()
}

impl Ema {
    /// The other model's tensors, sharing its memory, in the order of the averages.
    fn live(&self) -> Result<Vec<Tensor>> {
        let state = self.model.try_borrow().context("the averaged model is in use")?.state()?;
        let live = self.averages.keys().map(|name| {
            let tensor = state.tensors.get(name);
            tensor.map(Tensor::detach).with_context(|| format!("the averaged model no longer has `{name}`"))
        });
        live.collect()
    }
}

impl Stateful for Ema {
    fn state(&self) -> Result<State> {
        let tensors = self.averages.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        Ok(State { tensors, ..State::default() })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        for (name, average) in &self.averages {
            let saved = state.tensors.get(name).with_context(|| format!("`{name}` is missing"))?;
            let (saved_size, size) = (saved.size(), average.size());
            ensure!(saved_size == size, "`{name}` is {saved_size:?} in the file, {size:?} in the model");
        }
        if let Some(name) = state.tensors.keys().find(|name| !self.averages.contains_key(*name)) {
            bail!("the model has no `{name}`");
        }
        for (name, average) in &self.averages {
            tch::no_grad(|| average.shallow_clone().f_copy_(&state.tensors[name]))?;
        }
        Ok(())
    }
}

/// The other model while it has the averaged weights; its own come back when this is dropped, whatever happened.
struct Exchanged {
    live: Vec<Tensor>,
    own: Vec<Tensor>,
}

impl Exchanged {
    fn new(live: Vec<Tensor>, averages: &StateDict) -> Result<Exchanged> {
        let own = tch::no_grad(|| live.iter().map(Tensor::f_detach_copy).collect::<Result<Vec<_>, _>>())?;
        let exchanged = Exchanged { live, own };
        for (live, average) in exchanged.live.iter().zip(averages.values()) {
            tch::no_grad(|| live.shallow_clone().f_copy_(average))?;
        }
        Ok(exchanged)
    }
}

impl Drop for Exchanged {
    fn drop(&mut self) {
        let _no_gradients = tch::no_grad_guard();
        for (live, own) in self.live.iter().zip(&self.own) {
            if let Err(error) = live.shallow_clone().f_copy_(own) {
                tracing::error!("the weights of a model could not be restored after its average was used: {error}");
            }
        }
    }
}

impl Model for Ema {
    fn set_training(&mut self, training: bool) {
        self.training = training;
        self.model.borrow_mut().set_training(training);
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        self.model.borrow().check(batch)
    }

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        ensure!(!self.training, "an average is not trained: train the model that it averages");
        let _exchanged = Exchanged::new(self.live()?, &self.averages)?;
        // The weights are restored before anyone could request gradients.
        let _no_gradients = tch::no_grad_guard();
        self.model.borrow_mut().forward(batch)
    }

    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        self.model.borrow().padded(images)
    }

    fn take_largest(&mut self, on: bool) {
        self.model.borrow_mut().take_largest(on);
    }

    fn give_losses(&mut self, on: bool) {
        self.model.borrow_mut().give_losses(on);
    }

    fn average(&mut self, momentum: f64, copy_buffers: bool) -> Result<()> {
        let live = self.live()?;
        let trained = self.model.borrow().parameters();
        let trained: std::collections::BTreeSet<&String> = trained.iter().map(|(name, _)| name).collect();
        let (mut averages, mut weights) = (Vec::new(), Vec::new());
        for ((name, average), live) in self.averages.iter().zip(live) {
            if copy_buffers && !trained.contains(name) {
                tch::no_grad(|| average.shallow_clone().f_copy_(&live))?;
            } else {
                averages.push(average.shallow_clone());
                weights.push(live);
            }
        }
        pipe_native::optim::ema_update(&averages, &weights, 1.0 - momentum)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }
}
