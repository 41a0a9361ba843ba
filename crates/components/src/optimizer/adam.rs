//! Adam.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::adam_rule::{self, AdamRule, BETA1, BETA2, EPS, adam_config, check_betas};
use super::group::{GroupConfig, Settings, check_groups};
use super::stepper::Stepper;
use pipe_core::facts::{Facts, UpdateRule};
use pipe_core::{BuildContext, Component, Config, Instance, Kind, Model, Problems, Ref};

adam_config! {
    /// Adam: steps along the mean gradient, scaled by its mean square.
    ///
    /// With gradient `g` and weight decay `λ`, step `t` does `g ← g + λ θ`, `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`,
    /// `θ ← θ − lr · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + eps)` (Kingma & Ba 2015; names, defaults and results of torch's
    /// `Adam`).
    AdamConfig, decoupled: false,
    /// Weight decay (L2 penalty, added to the gradient). See `adamw` for decoupled weight decay.
    #[serde(default)]
    weight_decay
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

    fn facts(&self) -> Facts {
        let rule = UpdateRule { lr: self.lr, adaptive: true, coupled_decay: self.weight_decay > 0.0 };
        Facts { rule: Some(rule), ..Facts::default() }
    }

    fn check(&self, problems: &mut Problems) {
        check_groups(&self.groups, problems);
        check_betas(self.betas, problems);
    }
}
