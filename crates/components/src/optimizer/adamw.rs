//! AdamW.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam_rule::{self, AdamRule, adam_config, check_betas};
use super::group::{GroupConfig, Settings, check_groups};
use super::stepper::Stepper;
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Problems, Ref};

/// AdamW: Adam with decoupled weight decay.
///
/// Each step first shrinks the weights, `θ ← θ − lr · λ θ`, then does what `adam` does without weight decay
/// (Loshchilov & Hutter 2019; names, defaults and results of torch's `AdamW`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
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
    /// Decoupled weight decay.
    #[serde(default = "default_weight_decay")]
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

fn default_weight_decay() -> f64 {
    1e-2
}

impl Config for AdamWConfig {
    const KIND: Kind = Kind::Optimizer;
    const TYPE: &'static str = "adamw";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "mask_rcnn"
num_classes = 91

[optimizer.adamw]
type = "adamw"
model = "model.net"
lr = 0.0003
weight_decay = 0.05
no_weight_decay = ["*.bias", "norm"]
"#;

    fn check(&self, problems: &mut Problems) {
        check_groups(&self.groups, problems);
        check_betas(self.betas, problems);
    }
}
