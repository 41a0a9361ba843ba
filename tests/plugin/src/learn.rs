//! A model, an optimizer, a scheduler.

use pipe_plugin::prelude::*;
use pipe_plugin::tch::nn::{self, Module, VarStore};
use pipe_plugin::tch::{Kind as Type, Reduction};
use pipe_plugin::vars;

/// One linear layer from pixels to classes.
#[config]
pub struct Line {
    /// Number of pixels.
    pub inputs: i64,
    /// Number of classes.
    pub classes: i64,
    /// Panics in the forward pass.
    #[serde(default)]
    pub fault: bool,
}

impl Config for Line {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "test_line";
    const EXAMPLE: &'static str = "[model.line]\ntype = \"test_line\"\ninputs = 4\nclasses = 2\n";

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE, fields::LABEL]).adds([fields::LOGITS])
    }
}

impl Component for Line {
    fn build(self, ctx: &mut Build) -> Result<Instance> {
        let vars = VarStore::new(ctx.device());
        let layer = nn::linear(vars.root() / "fc", self.inputs, self.classes, Default::default());
        Ok(Instance::model(LineModel { vars, layer, fault: self.fault }))
    }
}

struct LineModel {
    vars: VarStore,
    layer: nn::Linear,
    fault: bool,
}

impl Stateful for LineModel {
    fn state(&self) -> Result<State> {
        Ok(vars::state(&self.vars))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        vars::load_state(&self.vars, state)
    }
}

impl Model for LineModel {
    fn set_training(&mut self, _training: bool) {}

    fn forward(&mut self, batch: &Batch) -> Result<ModelOutput> {
        assert!(!self.fault, "this model panics");
        let images = batch.stacked(fields::IMAGE)?.to_kind(Type::Float).flatten(1, -1) / 255.0;
        let logits = self.layer.forward(&images);
        let mut output = ModelOutput { outputs: Batch::new(batch.size), ..ModelOutput::default() };
        if batch.get(fields::LABEL).is_some() {
            let labels = batch.stacked(fields::LABEL)?;
            let loss = logits.f_cross_entropy_loss(labels, None::<Tensor>, Reduction::Mean, -100, 0.0)?;
            output.losses.insert("cross_entropy".into(), loss);
        }
        output.outputs.set(fields::LOGITS, BatchField::Stacked(logits));
        Ok(output)
    }

    fn parameters(&self) -> Vec<(String, Tensor)> {
        vars::parameters(&self.vars)
    }
}

/// Gradient descent as it stands in the book.
#[config]
pub struct Plain {
    /// The model whose parameters are changed.
    pub model: Ref<dyn Model>,
    /// Learning rate.
    pub lr: f64,
}

impl Config for Plain {
    const KIND: Kind = Kind::Optimizer;
    const TYPE: &'static str = "test_plain";
    const EXAMPLE: &'static str = "[model.line]\ntype = \"test_line\"\ninputs = 4\nclasses = 2\n\n\
        [optimizer.plain]\ntype = \"test_plain\"\nmodel = \"model.line\"\nlr = 0.1\n";
}

impl Component for Plain {
    fn build(self, ctx: &mut Build) -> Result<Instance> {
        let (names, params) = ctx.parameters(&self.model)?.into_iter().unzip();
        Ok(Instance::optimizer(PlainOptimizer { names, params, lr: self.lr, steps: 0 }))
    }
}

struct PlainOptimizer {
    names: Vec<String>,
    params: Vec<Tensor>,
    lr: f64,
    steps: u64,
}

impl Stateful for PlainOptimizer {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "steps": self.steps }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.steps = state.values["steps"].as_u64().context("no number of steps")?;
        Ok(())
    }
}

impl Optimizer for PlainOptimizer {
    fn groups(&self) -> Vec<ParamGroup> {
        let params = self.params.iter().map(Tensor::shallow_clone).collect();
        let settings = GroupSettings { lr: self.lr, weight_decay: 0.0, momentum: None };
        vec![ParamGroup { names: self.names.clone(), params, settings }]
    }

    fn step(&mut self, settings: &[GroupSettings]) -> Result<()> {
        self.steps += 1;
        for param in self.params.iter_mut().filter(|param| param.grad().defined()) {
            let _ = param.f_sub_(&(param.grad() * settings[0].lr))?;
        }
        Ok(())
    }
}

/// A rate that is divided by the number of steps.
#[config]
pub struct Harmonic {
    /// The optimizer that is driven.
    pub optimizer: Ref<dyn Optimizer>,
}

impl Config for Harmonic {
    const KIND: Kind = Kind::Scheduler;
    const TYPE: &'static str = "test_harmonic";
    const EXAMPLE: &'static str = "[model.line]\ntype = \"test_line\"\ninputs = 4\nclasses = 2\n\n\
        [optimizer.plain]\ntype = \"test_plain\"\nmodel = \"model.line\"\nlr = 0.1\n\n\
        [scheduler.harmonic]\ntype = \"test_harmonic\"\noptimizer = \"optimizer.plain\"\n";
}

impl Component for Harmonic {
    fn build(self, _ctx: &mut Build) -> Result<Instance> {
        Ok(Instance::scheduler(HarmonicRate { steps: 0 }))
    }
}

struct HarmonicRate {
    steps: u64,
}

impl Stateful for HarmonicRate {
    fn state(&self) -> Result<State> {
        State::of(&json!({ "steps": self.steps }))
    }

    fn load_state(&mut self, state: &State) -> Result<()> {
        self.steps = state.values["steps"].as_u64().context("no number of steps")?;
        Ok(())
    }
}

impl Scheduler for HarmonicRate {
    fn step(&mut self, _values: &Values) -> Result<()> {
        self.steps += 1;
        Ok(())
    }

    fn lr(&self, base: f64) -> f64 {
        base / (1 + self.steps) as f64
    }
}
