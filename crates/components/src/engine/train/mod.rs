//! `engine.train`: forward, backward, step.

mod config;
mod losses;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, bail};
use indexmap::IndexMap;
use pipe_core::{
    BuildContext, Component, Engine, EngineState, Instance, Limits, Model, ModelOutput, NodeId, Optimizer, Precision,
    Process, RecordValue, RunContext, Setting, Settings, Shared, State, Stateful, Step, record,
};
use pipe_data::Batch;
use pipe_data::upload::to_device;
use pipe_native::GradScaler;
use pipe_native::scaler::GradScalerState;
use pipe_vision::divisors::heard;
use serde::{Deserialize, Serialize};
use tch::{Kind as Type, Tensor};

use super::buffers::Buffers;
use super::preflight::{Kept, ahead, timed};
use super::together::Together;
use super::waiting::Waiting;
pub use config::{OnNonFinite, TrainConfig, settings};
use losses::{TOTAL, read, total};

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
            restored: None,
            losses: Vec::new(),
            skipped: 0,
            settings: settings(&self),
            together: Together::default(),
            config: self,
        };
        Ok(Instance::Engine(Rc::new(Engine::new(ctx.node.clone(), limits, loader, Box::new(process)))))
    }
}

pipe_core::register!(TrainConfig);

/// Publishes how long the engine will run, as far as that is known in advance.
fn offer(ctx: &mut BuildContext<'_>, limits: Limits, batches: Option<u64>) {
    let epoch = limits.epoch_length.or(batches);
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
    /// Those of the checkpoint that the run resumes from, until it goes on.
    restored: Option<Waiting>,
    /// The losses of the batch at work, the total last.
    losses: Vec<(String, f64)>,
    /// Batches skipped because of a non-finite loss.
    skipped: u64,
    /// What schedulers may drive.
    settings: Settings,
    /// Makes one of the gradients of all ranks.
    together: Together,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    skipped: u64,
    scaler: Option<GradScalerState>,
    /// Batches whose gradients are the state's tensors.
    #[serde(default)]
    pending: u64,
    /// The losses of the batch at work.
    #[serde(default)]
    losses: Vec<(String, serde_json::Value)>,
}

impl Stateful for Train {
    fn state(&self) -> Result<State> {
        let scaler = self.scaler.as_ref().map(GradScaler::state).transpose()?;
        let waiting = match &self.restored {
            Some(Waiting { batches, gradients }) => Waiting { batches: *batches, gradients: shared(gradients) },
            None if self.pending > 0 => Waiting::of(&*self.optimizer.borrow(), self.pending),
            None => Waiting::default(),
        };
        let losses = self.losses.iter().map(|(name, loss)| (name.clone(), record::number(*loss))).collect();
        let state = State::of(&Saved { skipped: self.skipped, scaler, pending: waiting.batches, losses })?;
        Ok(State { tensors: waiting.gradients, ..state })
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        let saved: Saved = state.to()?;
        self.skipped = saved.skipped;
        if let (Some(scaler), Some(state)) = (&mut self.scaler, saved.scaler) {
            scaler.load_state(state)?;
        }
        let read = |(name, loss): (String, serde_json::Value)| Some((name, record::read_number(&loss)?));
        self.losses = saved.losses.into_iter().filter_map(read).collect();
        let waiting = Waiting { batches: saved.pending, gradients: shared(&state.tensors) };
        self.restored = (waiting.batches > 0).then_some(waiting);
        Ok(())
    }
}

impl Process for Train {
    fn started(&mut self, _run: &RunContext) -> Result<()> {
        self.pending = 0;
        self.optimizer.borrow_mut().zero_grad();
        Ok(())
    }

    /// Goes on with the group of batches in which the run was left.
    fn goes_on(&mut self) -> Result<()> {
        if let Some(waiting) = self.restored.take() {
            waiting.give_to(&*self.optimizer.borrow())?;
            self.pending = waiting.batches;
        }
        Ok(())
    }

    fn settings(&self) -> Option<Settings> {
        Some(self.settings.clone())
    }

    fn takes_part(&self) -> bool {
        true
    }

    fn step(&mut self, batch: Batch, state: &EngineState, run: &RunContext) -> Result<Step> {
        let id = self.id.clone();
        let mut model = self.model.borrow_mut();
        model.set_training(true);
        if batch.size > 0 || run.ranks.is_alone() {
            model.check(&batch)?;
        }
        let kept = match self.config.on_non_finite {
            OnNonFinite::Skip => Some(Buffers::keep(&*model)?),
            OnNonFinite::Raise => None,
        };
        run.ranks.check_parts(batch.size)?;
        run.ranks.seed_step(run.seed, state.iteration)?;
        let batch = run.timings.measure(&id, "to device", || run.uploads.take(&batch, run.device))?;
        drop(model);
        let output = self.forward(&batch, run)?;
        let total = (batch.size > 0 || run.ranks.is_alone())
            .then(|| total(&output.losses, &self.config, &self.settings))
            .transpose()?;
        // Reading the losses waits for the device, so backward is queued first, if its gradients can be thrown away.
        let fresh = self.pending == 0;
        if fresh {
            // Not after the step: handlers of `iteration_completed` may inspect the gradients.
            self.optimizer.borrow_mut().zero_grad();
            run.timings.measure(&id, "backward", || self.backward(total.as_ref(), run))?;
        }
        run.uploads.begin_next(run.device);
        let losses = run.timings.measure(&id, "losses", || match &total {
            Some(total) => self.together.losses(read(total, &output.losses)?, &batch, run),
            None => self.together.losses_of_others(run),
        })?;
        let bad = losses.bad;
        let losses = losses.all;
        if let Some(message) = bad {
            if fresh {
                self.together.finish(false, run)?;
            }
            kept.map_or(Ok(()), Buffers::put_back)?;
            if fresh {
                self.pending = 0;
                self.optimizer.borrow_mut().zero_grad();
            }
            self.skip_or_fail(message, run)?;
            self.losses.clear();
            return Ok(Step { batch, output, ..Step::default() });
        }
        self.losses = losses;
        if !fresh {
            run.timings.measure(&id, "backward", || self.backward(total.as_ref(), run))?;
        }
        run.timings.measure(&id, "reduction", || self.together.finish(true, run))?;
        Ok(Step { batch, output, values: Vec::new(), backward: true })
    }

    fn update(&mut self, run: &RunContext) -> Result<bool> {
        let due = self.pending >= self.config.accumulate;
        if due {
            self.step_optimizer(run)?;
        }
        Ok(due)
    }

    fn report(&mut self, step: &mut Step, state: &EngineState, run: &RunContext) -> Result<()> {
        if step.backward {
            step.values = self.record(state, run)?;
        }
        Ok(())
    }

    /// The last batches of an epoch make a step even if fewer than `accumulate`, averaged over their own number.
    fn epoch_ended(&mut self, run: &RunContext) -> Result<bool> {
        if self.pending == 0 {
            return Ok(false);
        }
        let share = self.config.accumulate as f64 / self.pending as f64;
        self.together.arm(&*self.optimizer.borrow(), run)?;
        self.together.finish(true, run)?;
        for mut gradient in gradients(&*self.optimizer.borrow()) {
            let _ = gradient.f_mul_scalar_(share)?;
        }
        self.step_optimizer(run)?;
        Ok(true)
    }

    /// Not while gradients are being accumulated.
    fn at_rest(&self) -> bool {
        self.pending == 0 && self.restored.is_none()
    }

    fn gradients(&self) -> State {
        State { tensors: Waiting::of(&*self.optimizer.borrow(), self.pending).gradients, ..State::default() }
    }

    fn put_gradients(&mut self, gradients: &State) -> Result<()> {
        let waiting = Waiting { batches: self.pending, gradients: shared(&gradients.tensors) };
        self.optimizer.borrow_mut().zero_grad();
        waiting.give_to(&*self.optimizer.borrow())
    }

    fn padded(&self, images: &[[usize; 2]]) -> [usize; 2] {
        self.model.borrow().padded(images)
    }

    fn preflight(&mut self, batch: &Batch, run: &RunContext) -> Result<Duration> {
        let kept = Kept::of(&*self.model.borrow(), &*self.optimizer.borrow())?;
        let scaler = self.scaler.as_ref().map(GradScaler::state).transpose()?;
        self.model.borrow_mut().take_largest(true);
        run.frozen.lift(true);
        // The second meets the gradients of the first, as in training.
        let spent = self.whole(batch, run).and_then(|()| timed(run.device, || self.whole(batch, run)));
        run.frozen.lift(false);
        self.model.borrow_mut().take_largest(false);
        self.optimizer.borrow_mut().zero_grad();
        self.pending = 0;
        if let (Some(own), Some(state)) = (&mut self.scaler, scaler) {
            own.load_state(state)?;
        }
        kept.put_back(&mut *self.model.borrow_mut(), &mut *self.optimizer.borrow_mut())?;
        spent
    }

    fn rehearse(&mut self, batch: Batch, run: &RunContext) -> Result<()> {
        let mut model = self.model.borrow_mut();
        model.set_training(true);
        model.check(&batch)?;
        let batch = to_device(&batch, run.device)?;
        // A forward pass in training updates running statistics: they are restored.
        let state = model.state()?;
        let kept = State { tensors: state.tensors.iter().map(|(name, t)| (name.clone(), t.copy())).collect(), ..state };
        let output = tch::no_grad(|| run.autocast(|| model.forward(&batch)));
        model.load_state(&kept)?;
        drop(model);
        total(&output??.losses, &self.config, &self.settings).map(drop)
    }

    fn completed(&mut self, _state: &EngineState, _run: &RunContext) -> Result<()> {
        if self.skipped > 0 {
            tracing::warn!("{}: {} batches were skipped because their loss was not finite", self.id, self.skipped);
        }
        Ok(())
    }
}

impl Train {
    /// What the model says of a batch, its losses divided as the ranks agreed.
    fn forward(&mut self, batch: &Batch, run: &RunContext) -> Result<ModelOutput> {
        let counts = run.ranks.counts_are_joint();
        // A rank without a part of the batch only goes along.
        let (mut output, divisors) = if batch.size == 0 && !run.ranks.is_alone() {
            (ModelOutput::default(), Vec::new())
        } else {
            let mut model = self.model.borrow_mut();
            let forward = || run.ranks.jointly(|| run.autocast(|| model.forward(batch)));
            let forward = || run.timings.measure(&self.id, "forward", forward);
            let (output, divisors) = if counts { heard(forward) } else { (forward(), Vec::new()) };
            (output??, divisors)
        };
        if counts {
            self.together.by_all(&mut output.losses, &divisors, run)?;
        }
        Ok(output)
    }

    /// A number as it is now, if there is one.
    fn setting(&self, option: &str) -> Option<f64> {
        self.settings.borrow().get(option).map(Setting::value)
    }

    /// An iteration with an optimizer's step, while the next batch is copied ahead.
    fn whole(&mut self, batch: &Batch, run: &RunContext) -> Result<()> {
        let mut model = self.model.borrow_mut();
        model.set_training(true);
        model.check(batch)?;
        let there = ahead(batch, run)?;
        let output = run.autocast(|| model.forward(&there))??;
        drop(model);
        let total = total(&output.losses, &self.config, &self.settings)?;
        if self.config.accumulate == 1 {
            self.optimizer.borrow_mut().zero_grad();
        }
        self.backward(Some(&total), run)?;
        read(&total, &output.losses)?;
        self.together.finish(true, run)?;
        self.apply_gradients()
    }

    /// With other ranks, the last of the batches of a step sends the gradients of all of them as it makes them.
    fn backward(&mut self, total: Option<&Tensor>, run: &RunContext) -> Result<()> {
        if self.pending + 1 >= self.config.accumulate {
            self.together.arm(&*self.optimizer.borrow(), run)?;
        }
        if let Some(total) = total {
            // Of the whole batch: batches of a step may be shared out differently.
            let share = run.ranks.share() / self.config.accumulate as f64;
            let share = if share == 1.0 { total.shallow_clone() } else { total * share };
            let loss = match &self.scaler {
                Some(scaler) => scaler.scale(&share)?,
                None => share,
            };
            loss.f_backward()?;
        }
        self.pending += 1;
        Ok(())
    }

    fn step_optimizer(&mut self, run: &RunContext) -> Result<()> {
        let id = self.id.clone();
        run.timings.measure(&id, "optimizer step", || self.apply_gradients())?;
        run.weights_changed();
        Ok(())
    }

    fn apply_gradients(&mut self) -> Result<()> {
        let mut optimizer = self.optimizer.borrow_mut();
        let gradients = gradients(&*optimizer);
        if let Some(scaler) = &mut self.scaler {
            scaler.unscale(&gradients)?;
        }
        if let Some(max_norm) = self.setting("clip_grad_norm") {
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

    /// An error that says what to do, or as the options say a warning and a record.
    fn skip_or_fail(&mut self, message: String, run: &RunContext) -> Result<()> {
        if self.config.on_non_finite == OnNonFinite::Raise {
            bail!("{message}. Set `on_non_finite = \"skip\"` to skip such batches and continue");
        }
        self.skipped += 1;
        tracing::warn!("{}: {message}; the batch is skipped", self.id);
        run.emit(&self.id, "train/skipped", RecordValue::Text(message))
    }

    /// The losses and the learning rate, where the interval has come; as what handlers see, always.
    fn record(&self, state: &EngineState, run: &RunContext) -> Result<Vec<(String, f64)>> {
        let losses = &self.losses;
        let lr = self.optimizer.borrow().groups().first().map_or(0.0, |group| group.lr());
        let total = losses.last().map_or(f64::NAN, |(_, loss)| *loss);
        run.set_value(&self.id, "loss", total);
        run.set_value(&self.id, "lr", lr);
        if state.iteration.is_multiple_of(self.config.log_interval) || state.iteration == 1 {
            let tags = &self.config.tags;
            let tag = |name: &str| tags.losses.replace("{name}", name);
            // A model whose only loss is called `loss` has its sum under that tag already.
            for (name, loss) in losses.iter().filter(|(name, _)| name != TOTAL && tag(name) != tags.loss) {
                run.scalar(&self.id, tag(name), *loss)?;
            }
            run.scalar(&self.id, tags.loss.as_str(), total)?;
            run.scalar(&self.id, tags.lr.as_str(), lr)?;
            let settings = self.settings.borrow();
            for (option, setting) in settings.iter().filter(|(_, setting)| setting.is_driven()) {
                run.scalar(&self.id, format!("{}/{option}", self.id.name), setting.value())?;
            }
        }
        Ok(vec![("loss".into(), total), ("lr".into(), lr)])
    }
}

/// The same tensors.
fn shared(tensors: &IndexMap<String, Tensor>) -> IndexMap<String, Tensor> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
}

/// The gradients that are defined.
fn gradients(optimizer: &dyn Optimizer) -> Vec<Tensor> {
    let parameters = optimizer.groups().iter().flat_map(|group| &group.params);
    parameters.map(Tensor::grad).filter(Tensor::defined).collect()
}
