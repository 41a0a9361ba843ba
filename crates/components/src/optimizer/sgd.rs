//! Stochastic gradient descent.

use anyhow::Result;
use pipe_native::optim::{Amp, Sgd, sgd_step};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::group::{GroupConfig, Settings, check_groups};
use super::stepper::{Part, Rule, Slot, Stepper};
use pipe_core::facts::{Facts, UpdateRule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Problems, Ref};

/// Stochastic gradient descent with momentum.
///
/// With gradient `g`, weight decay `λ`, momentum `μ` and dampening `τ`, each step does `g ← g + λ θ`,
/// `b ← μ b + (1 − τ) g` (the first time `b ← g`), `θ ← θ − lr · b`; Nesterov's form steps along `g + μ b`
/// (Sutskever et al. 2013; names, defaults and results of torch's `SGD`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SgdConfig {
    /// The model whose parameters are optimized.
    pub model: Ref<dyn Model>,
    /// Learning rate.
    #[serde(default = "default_lr")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub lr: f64,
    /// Momentum factor; 0 disables momentum.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0, max = 1.0))]
    pub momentum: f64,
    /// Dampening of momentum.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub dampening: f64,
    /// Weight decay (L2 penalty, added to the gradient).
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub weight_decay: f64,
    /// Nesterov momentum; requires momentum and no dampening.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub nesterov: bool,
    /// Parameter groups with their own settings. A parameter belongs to the first table whose `match` matches.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub groups: Vec<GroupConfig>,
    /// Parameters without weight decay, in every group: patterns such as `*.bias`, and `norm` for the weights and biases
    /// of normalization layers.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub no_weight_decay: Vec<String>,
}

fn default_lr() -> f64 {
    1e-3
}

impl Config for SgdConfig {
    const KIND: Kind = Kind::Optimizer;
    const TYPE: &'static str = "sgd";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.sgd]
type = "sgd"
model = "model.net"
lr = 0.02
momentum = 0.9
weight_decay = 0.0001
no_weight_decay = ["norm"]
groups = [{ match = "backbone.*", lr_scale = 0.1 }]
"#;

    fn facts(&self) -> Facts {
        let rule = UpdateRule { lr: self.lr, adaptive: false, coupled_decay: false };
        Facts { rule: Some(rule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        check_groups(&self.groups, problems);
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let message = "Nesterov momentum requires momentum above 0 and no dampening";
            problems.at("nesterov", message, "set `momentum = 0.9` and remove `dampening`");
        }
    }
}

impl Component for SgdConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let momentum = self.momentum != 0.0;
        let others = [("momentum", self.momentum), ("dampening", self.dampening)];
        let settings = Settings {
            lr: self.lr,
            weight_decay: self.weight_decay,
            others: if momentum { &others } else { &[] },
            groups: &self.groups,
            no_weight_decay: &self.no_weight_decay,
        };
        let rule = SgdRule { dampened: self.dampening != 0.0, nesterov: self.nesterov, momentum };
        Stepper::build(ctx, &self.model, &settings, rule)
    }
}

pipe_core::register!(SgdConfig);

struct SgdRule {
    dampened: bool,
    nesterov: bool,
    momentum: bool,
}

impl Rule for SgdRule {
    const TYPE: &'static str = SgdConfig::TYPE;

    fn slots(&self) -> Vec<(&'static str, Slot)> {
        if self.momentum { vec![("momentum_buffer", Slot::LikeParameter)] } else { Vec::new() }
    }

    /// A buffer of zeros gives the first step as torch has it, except that dampening must not touch the first gradient.
    fn first_step_differs(&self) -> bool {
        self.momentum && self.dampened
    }

    fn update(&self, part: &Part<'_>, amp: Amp<'_>) -> Result<()> {
        let setting = |name| part.group.value(name).unwrap_or(0.0);
        let sgd = Sgd {
            lr: part.group.lr(),
            momentum: setting("momentum"),
            dampening: setting("dampening"),
            weight_decay: setting("weight_decay"),
            nesterov: self.nesterov,
            maximize: false,
            first_step: part.first_step,
        };
        let buffers = part.slots.first().map_or(&[][..], Vec::as_slice);
        sgd_step(part.params, part.grads, buffers, &sgd, amp)
    }
}
