//! Adam.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam_rule::{self, AdamRule, adam_config, check_betas};
use super::group::{GroupConfig, Settings, check_groups};
use super::stepper::Stepper;
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Problems, Ref};

/// Adam: steps along a running mean of the gradient, scaled by its running mean square.
///
/// With gradient `g` and weight decay `λ`, step `t` does `g ← g + λ θ`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
/// `θ ← θ − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)` (Kingma & Ba 2015; names, defaults and results of torch's
/// `Adam`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamConfig {
    /// The model whose parameters are optimized.
    pub model: Ref<dyn Model>,
    /// Learning rate.
    #[serde(default = "default_lr")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub lr: f64,
    /// Decay rates of the first and second moment estimates.
    #[serde(default = "default_betas")]
    #[schemars(extend("x-reload" = "hot"))]
    pub betas: [f64; 2],
    /// Added to the denominator for numerical stability.
    #[serde(default = "default_eps")]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub eps: f64,
    /// Weight decay (L2 penalty, added to the gradient). See `adamw` for decoupled weight decay.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"), range(min = 0.0))]
    pub weight_decay: f64,
    /// AMSGrad: divide by the maximum second moment so far (Reddi et al. 2018).
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub amsgrad: bool,
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

fn default_betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn default_eps() -> f64 {
    1e-8
}

impl Config for AdamConfig {
    const KIND: Kind = Kind::Optimizer;
    const TYPE: &'static str = "adam";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.adam]
type = "adam"
model = "model.net"
lr = 0.0003
"#;

    fn check(&self, problems: &mut Problems) {
        check_groups(&self.groups, problems);
        check_betas(self.betas, problems);
    }
}

impl Component for AdamConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let settings = Settings {
            lr: self.lr,
            weight_decay: self.weight_decay,
            momentum: Some(self.betas[0]),
            groups: &self.groups,
            no_weight_decay: &self.no_weight_decay,
        };
        let rule = AdamRule::<false> { beta2: self.betas[1], eps: self.eps, amsgrad: self.amsgrad };
        Stepper::build(ctx, &self.model, &settings, rule)
    }
}

pipe_core::register!(AdamConfig);

/// Checks that decay rates are valid.
pub(super) fn check_betas(betas: [f64; 2], problems: &mut Problems) {
    if let Some(beta) = betas.into_iter().find(|beta| !(0.0..1.0).contains(beta)) {
        problems.at("betas", format!("{beta} is not a valid decay rate"), "use two numbers in [0, 1)");
    }
}

/// Adam's update; `DECOUPLED` weight decay makes it AdamW's.
pub(super) struct AdamRule<const DECOUPLED: bool> {
    pub beta2: f64,
    pub eps: f64,
    pub amsgrad: bool,
}

impl<const DECOUPLED: bool> Rule for AdamRule<DECOUPLED> {
    const TYPE: &'static str = if DECOUPLED { "adamw" } else { AdamConfig::TYPE };

    fn slots(&self) -> Vec<(&'static str, Slot)> {
        let mut slots =
            vec![("step", Slot::Count), ("exp_avg", Slot::LikeParameter), ("exp_avg_sq", Slot::LikeParameter)];
        if self.amsgrad {
            slots.push(("max_exp_avg_sq", Slot::LikeParameter));
        }
        slots
    }

    fn update(&self, part: &Part<'_>, amp: Amp<'_>) -> Result<()> {
        let adam = Adam {
            lr: part.group.lr(),
            betas: (part.group.momentum.unwrap_or(0.0), self.beta2),
            eps: self.eps,
            weight_decay: part.group.weight_decay,
            amsgrad: self.amsgrad,
            maximize: false,
        };
        let state = AdamState {
            steps: &part.slots[0],
            exp_avgs: &part.slots[1],
            exp_avg_sqs: &part.slots[2],
            max_exp_avg_sqs: part.slots.get(3).map_or(&[], Vec::as_slice),
        };
        let step = if DECOUPLED { adamw_step } else { adam_step };
        step(part.params, part.grads, state, &adam, amp)
    }
}
