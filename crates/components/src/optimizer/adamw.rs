//! AdamW.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam_rule::{self, AdamRule, BETA1, BETA2, EPS, adam_config, check_betas};
use super::group::{GroupConfig, Settings, check_groups};
use super::stepper::Stepper;
use pipe_core::facts::{Facts, UpdateRule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Problems, Ref};

adam_config! {
    /// AdamW: Adam with weight decay apart from the gradient.
    ///
    /// Each step first shrinks the weights, `θ ← θ − lr · λ θ`, then does what `adam` does without weight decay
    /// (Loshchilov & Hutter 2019; names, defaults and results of torch's `AdamW`).
    AdamWConfig, decoupled: true,
    /// Decoupled weight decay.
    #[serde(default = "default_weight_decay")]
    weight_decay
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

    fn facts(&self) -> Facts {
        let rule = UpdateRule { lr: self.lr, adaptive: true, coupled_decay: false };
        Facts { rule: Some(rule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        check_groups(&self.groups, problems);
        check_betas(self.betas, problems);
    }
}
