//! `engine.train`: forward, backward, step.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use indexmap::IndexMap;
use pipe_native::GradScaler;
use pipe_native::scaler::GradScalerState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Kind as Type, Tensor};

use pipe_core::event::ENGINE_EVENTS;
use pipe_core::{
    BuildContext, Component, Config, Engine, EngineState, Event, Instance, Kind, Limits, Loader, Model, NodeId,
    Optimizer, Precision, Problems, Process, Property, PropertyType, Ref, RunContext, Shared, State, Stateful, Step,
};
use pipe_data::Batch;

/// What to do when a loss is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnNonFinite {
    /// Stop the run with an error that names the samples.
    #[default]
    Raise,
    /// Skip the batch, log its samples and continue.
    Skip,
}

/// Trains a model: forward, sum of the losses, backward, optimizer step.
///
/// Every `log_interval` iterations it records each loss as `loss/<name>`, their sum as `loss/total_loss` and the learning
/// rate as `learning rate/lr`. Under `precision = "bf16"` or `"fp16"` the forward pass runs in autocast; fp16 scales the
/// loss.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// The model to train.
    pub model: Ref<dyn Model>,
    /// The optimizer that updates its parameters.
    pub optimizer: Ref<dyn Optimizer>,
    /// The loader of the batches.
    pub loader: Ref<dyn Loader>,
    /// Total number of epochs.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default)]
    pub max_epochs: Option<u64>,
    /// Total number of iterations over all epochs.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default)]
    pub max_iterations: Option<u64>,
    /// Iterations per epoch, if fewer than the loader has.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default)]
    pub epoch_length: Option<u64>,
    /// Iterations between logged losses and learning rates.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "ten")]
    pub log_interval: u64,
    /// What to do when a loss is NaN or infinite.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub on_non_finite: OnNonFinite,
    /// Gradient accumulation: number of batches whose gradients are averaged into one optimizer step.
    #[schemars(extend("x-reload" = "hot"), range(min = 1))]
    #[serde(default = "one")]
    pub accumulate: u64,
    /// Gradient clipping: maximum global norm of the gradients.
    #[schemars(extend("exclusiveMinimum" = 0, "x-reload" = "hot"))]
    #[serde(default)]
    pub clip_grad_norm: Option<f64>,
    /// Weights of individual losses in the total, by name; default 1.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub loss_weights: BTreeMap<String, f64>,
}

fn ten() -> u64 {
    10
}

fn one() -> u64 {
    1
}

impl Config for TrainConfig {
    const KIND: Kind = Kind::Engine;
    const TYPE: &'static str = "train";
    const EXAMPLE: &'static str = r#"
[dataset.train]
type = "mnist"
root = "builtin:digits"

[loader.train]
type = "batch"
dataset = "dataset.train"
batch_size = 64
shuffle = true

[model.net]
type = "sequential"
layers = [{ type = "flatten" }, { type = "linear", in_features = 784, out_features = 10 }]

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.01

[engine.trainer]
type = "train"
model = "model.net"
optimizer = "optimizer.sgd"
loader = "loader.train"
max_epochs = 5
"#;

    fn events() -> &'static [Event] {
        ENGINE_EVENTS
    }

    fn properties() -> &'static [Property] {
        &[
            Property {
                name: "iterations",
                ty: PropertyType::Integer,
                doc: "Total number of iterations over all epochs.",
            },
            Property { name: "epoch_length", ty: PropertyType::Integer, doc: "Iterations per epoch." },
        ]
    }

    fn values(&self) -> Vec<String> {
        vec!["loss".into(), "lr".into()]
    }

    fn check(&self, problems: &mut Problems) {
        if self.max_epochs.is_none() && self.max_iterations.is_none() {
            problems.at("", "the engine would never stop", "give `max_epochs` or `max_iterations`");
        }
    }
}

impl Component for TrainConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let scaler = match ctx.precision {
            Precision::Fp16 => Some(GradScaler::new(ctx.device, GradScalerState::default())?),
            Precision::Fp32 | Precision::Bf16 => None,
        };
        let limits = Limits {
            max_epochs: self.max_epochs,
            max_iterations: self.max_iterations,
            epoch_length: self.epoch_length,
        };
        let loader = ctx.get(&self.loader)?;
        offer(ctx, limits, loader.borrow().epoch_length().map(|length| length as u64));
        let process = Train {
            id: ctx.node.clone(),
            model: ctx.get(&self.model)?,
            optimizer: ctx.get(&self.optimizer)?,
            scaler,
            pending: 0,
            skipped: 0,
            config: self,
        };
        Ok(Instance::Engine(std::rc::Rc::new(Engine::new(ctx.node.clone(), limits, loader, Box::new(process)))))
    }
}

pipe_core::register!(TrainConfig);

/// Publishes how long the engine will run, as far as that is known in advance.
fn offer(ctx: &mut BuildContext<'_>, limits: Limits, batches: Option<u64>) {
    let epoch = match (limits.epoch_length, batches) {
        (Some(limit), Some(batches)) => Some(limit.min(batches)),
        (limit, batches) => limit.or(batches),
    };
    let epochs = limits.max_epochs.zip(epoch).map(|(epochs, length)| epochs.saturating_mul(length));
    let iterations = match (epochs, limits.max_iterations) {
        (Some(epochs), Some(limit)) => Some(epochs.min(limit)),
        (epochs, limit) => epochs.or(limit),
    };
    if let Some(epoch) = epoch {
        ctx.offer("epoch_length", epoch);
    }
    if let Some(iterations) = iterations {
        ctx.offer("iterations", iterations);
    }
}

/// The running engine.
struct Train {
    id: NodeId,
    config: TrainConfig,
    model: Shared<dyn Model>,
    optimizer: Shared<dyn Optimizer>,
    scaler: Option<GradScaler>,
    /// Batches accumulated since the last optimizer step.
    pending: u64,
    /// Batches skipped because of a non-finite loss.
    skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    skipped: u64,
    scaler: Option<GradScalerState>,
}

impl Stateful for Train {
    fn state(&self) -> Result<State> {
        let scaler = self.scaler.as_ref().map(GradScaler::state).transpose()?;
        State::of(&Saved { skipped: self.skipped, scaler })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let saved: Saved = state.to()?;
        self.skipped = saved.skipped;
        if let (Some(scaler), Some(state)) = (&mut self.scaler, saved.scaler) {
            scaler.load_state(state)?;
        }
        Ok(())
    }
}

impl Process for Train {
    fn started(&mut self, _run: &RunContext) -> Result<()> {
        self.pending = 0;
        self.optimizer.borrow_mut().zero_grad();
        Ok(())
    }

    fn step(&mut self, batch: Batch, state: &EngineState, run: &RunContext) -> Result<Step> {
        let id = self.id.clone();
        let batch = run.timings.measure(&id, "to device", || batch.to_device(run.device));
        let mut model = self.model.borrow_mut();
        model.set_training(true);
        let output = run.timings.measure(&id, "forward", || run.autocast(|| model.forward(&batch)))??;
        drop(model);
        let total = self.total(&output.losses)?;
        let losses = read(&total, &output.losses)?;
        if let Some(message) = non_finite(&losses, &batch) {
            self.skip_or_fail(message, run)?;
            return Ok(Step { batch, output, values: Vec::new() });
        }
        if self.pending == 0 {
            // Not after the step: handlers of `iteration_completed` may inspect the gradients.
            self.optimizer.borrow_mut().zero_grad();
        }
        run.timings.measure(&id, "backward", || self.backward(&total))?;
        if self.pending >= self.config.accumulate {
            run.timings.measure(&id, "optimizer step", || self.update())?;
        }
        let values = self.report(&losses, state, run)?;
        Ok(Step { batch, output, values })
    }

    /// The last batches of an epoch make a step even if fewer than `accumulate`, averaged over their own number.
    fn epoch_ended(&mut self, run: &RunContext) -> Result<()> {
        if self.pending == 0 {
            return Ok(());
        }
        let share = self.config.accumulate as f64 / self.pending as f64;
        for mut gradient in gradients(&*self.optimizer.borrow()) {
            let _ = gradient.f_mul_scalar_(share)?;
        }
        let id = self.id.clone();
        run.timings.measure(&id, "optimizer step", || self.update())
    }

    /// Not while gradients are being accumulated.
    fn at_rest(&self) -> bool {
        self.pending == 0
    }

    fn rehearse(&mut self, batch: Batch, run: &RunContext) -> Result<()> {
        let batch = batch.to_device(run.device);
        let mut model = self.model.borrow_mut();
        // A forward pass in training updates running statistics: they are restored.
        let state = model.state()?;
        let kept = State { tensors: state.tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect(), ..state };
        model.set_training(true);
        let output = tch::no_grad(|| run.autocast(|| model.forward(&batch)));
        model.load_state(&kept)?;
        drop(model);
        self.total(&output??.losses).map(drop)
    }

    fn completed(&mut self, _state: &EngineState, _run: &RunContext) -> Result<()> {
        if self.skipped > 0 {
            tracing::warn!("{}: {} batches were skipped because their loss was not finite", self.id, self.skipped);
        }
        Ok(())
    }
}

impl Train {
    /// The weighted sum of the losses, in fp32.
    fn total(&self, losses: &IndexMap<String, Tensor>) -> Result<Tensor> {
        ensure!(!losses.is_empty(), "the model returned no loss: does the batch have the targets to train on?");
        if let Some(name) = self.config.loss_weights.keys().find(|name| !losses.contains_key(*name)) {
            let known: Vec<&str> = losses.keys().map(String::as_str).collect();
            bail!("`loss_weights` names `{name}`, but the model's losses are {}", known.join(", "));
        }
        let weighted = losses.iter().map(|(name, loss)| {
            let loss = loss.to_kind(Type::Float);
            self.config.loss_weights.get(name).map_or_else(|| loss.shallow_clone(), |weight| &loss * *weight)
        });
        weighted.reduce(|sum, loss| sum + loss).context("the model returned no loss")
    }

    fn backward(&mut self, total: &Tensor) -> Result<()> {
        let share =
            if self.config.accumulate > 1 { total / self.config.accumulate as f64 } else { total.shallow_clone() };
        let loss = match &self.scaler {
            Some(scaler) => scaler.scale(&share)?,
            None => share,
        };
        loss.f_backward()?;
        self.pending += 1;
        Ok(())
    }

    fn update(&mut self) -> Result<()> {
        let mut optimizer = self.optimizer.borrow_mut();
        let gradients = gradients(&*optimizer);
        if let Some(scaler) = &mut self.scaler {
            scaler.unscale(&gradients)?;
        }
        if let Some(max_norm) = self.config.clip_grad_norm {
            let _norm = pipe_native::optim::clip_grad_norm_(&gradients, max_norm)?;
        }
        match &mut self.scaler {
            Some(scaler) => {
                // Gradients are already unscaled: the step only has to be skipped where they overflowed.
                let unscaled = Tensor::ones([], (Type::Float, scaler.found_inf().device()));
                optimizer.step_scaled(&unscaled, scaler.found_inf())?;
                scaler.update()?;
            }
            None => optimizer.step()?,
        }
        self.pending = 0;
        Ok(())
    }

    fn skip_or_fail(&mut self, message: String, run: &RunContext) -> Result<()> {
        if self.config.on_non_finite == OnNonFinite::Raise {
            bail!("{message}. Set `on_non_finite = \"skip\"` to skip such batches and continue");
        }
        self.skipped += 1;
        tracing::warn!("{}: {message}; the batch is skipped", self.id);
        run.emit(&self.id, "training/skipped", pipe_core::RecordValue::Text(message))
    }

    fn report(&self, losses: &[(String, f64)], state: &EngineState, run: &RunContext) -> Result<Vec<(String, f64)>> {
        let lr = self.optimizer.borrow().groups().first().map_or(0.0, |group| group.lr());
        let total = losses.last().map_or(f64::NAN, |(_, loss)| *loss);
        run.set_value(&self.id, "loss", total);
        run.set_value(&self.id, "lr", lr);
        if state.iteration.is_multiple_of(self.config.log_interval) || state.iteration == 1 {
            for (name, loss) in losses {
                run.scalar(&self.id, format!("loss/{name}"), *loss)?;
            }
            run.scalar(&self.id, "learning rate/lr", lr)?;
        }
        Ok(vec![("loss".into(), total), ("lr".into(), lr)])
    }
}

/// The gradients that are defined.
fn gradients(optimizer: &dyn Optimizer) -> Vec<Tensor> {
    let parameters = optimizer.groups().iter().flat_map(|group| &group.params);
    parameters.map(Tensor::grad).filter(Tensor::defined).collect()
}

/// All losses in one transfer from the device, the total last.
fn read(total: &Tensor, losses: &IndexMap<String, Tensor>) -> Result<Vec<(String, f64)>> {
    let scalars: Vec<Tensor> =
        losses.values().chain([total]).map(|loss| loss.detach().to_kind(Type::Double).reshape([])).collect();
    let values: Vec<f64> = Vec::try_from(Tensor::f_stack(&scalars, 0)?.to_device(tch::Device::Cpu))?;
    let names = losses.keys().map(String::as_str).chain(["total_loss"]);
    Ok(names.map(str::to_owned).zip(values).collect())
}

fn non_finite(losses: &[(String, f64)], batch: &Batch) -> Option<String> {
    let bad: Vec<String> =
        losses.iter().filter(|(_, loss)| !loss.is_finite()).map(|(name, loss)| format!("{name} = {loss}")).collect();
    (!bad.is_empty()).then(|| format!("a loss is not finite ({}) on {}", bad.join(", "), batch.sources().join(", ")))
}
