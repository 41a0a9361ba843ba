//! The options of `engine.train`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use pipe_core::event::ENGINE_EVENTS;
use pipe_core::facts::{Better, Facts, Role};
use pipe_core::{
    Config, Event, Kind, Loader, Model, Optimizer, Problems, Property, PropertyType, Ref, Setting, Settings,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
/// Every `log_interval` iterations it records each loss as `train/<name>`, their sum as `train/loss` and the learning rate as
/// `train/lr`; `tags` names them otherwise. Under `precision = "bf16"` or `"fp16"` the forward pass runs in autocast; fp16 scales the
/// loss.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-instead" = {
    "loss": "a loss is an option of the model: loss = { type = \"cross_entropy\" } in its table"
}))]
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
    /// Iterations per epoch, where an epoch is not one pass over the loader's data: the next epoch goes on where this one ended,
    /// and a pass that has ended begins anew.
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
    #[schemars(extend("exclusiveMinimum" = 0, "x-reload" = "hot", "x-scheduled" = true))]
    #[serde(default)]
    pub clip_grad_norm: Option<f64>,
    /// Weights of individual losses in the total, by name; default 1.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot", "x-tried" = true, "x-scheduled" = true))]
    pub loss_weights: BTreeMap<String, f64>,
    /// The tags of what it records.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub tags: TrainTags,
}

/// The tags under which training records its values, grouped by `/`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainTags {
    /// Each loss of the model; `{name}` stands for its name.
    pub losses: String,
    /// The weighted sum of the losses.
    pub loss: String,
    /// The learning rate of the first parameter group.
    pub lr: String,
}

impl Default for TrainTags {
    fn default() -> Self {
        TrainTags { losses: "train/{name}".into(), loss: "train/loss".into(), lr: "train/lr".into() }
    }
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

    fn facts(&self) -> Facts {
        Facts {
            role: Some(Role::Trains),
            accumulates: Some((self.accumulate, "accumulate")),
            tags: vec![(self.tags.loss.clone(), "tags.loss"), (self.tags.lr.clone(), "tags.lr")],
            better: vec![("loss".into(), Better::Lower)],
            ..Facts::default()
        }
    }

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
        if !self.tags.losses.contains("{name}") {
            let help = "put `{name}` where the loss's name belongs, such as \"loss/{name}\"";
            problems.at("tags.losses", "all losses would have one tag", help);
        }
    }
}

/// The norm of clipping, where there is one, and the weights of losses.
pub fn settings(config: &TrainConfig) -> Settings {
    let clip = config.clip_grad_norm.map(|norm| ("clip_grad_norm".to_owned(), Setting::new(norm, 0.0..=f64::MAX)));
    let weights = config.loss_weights.iter();
    let weights =
        weights.map(|(name, weight)| (format!("loss_weights.{name}"), Setting::new(*weight, f64::MIN..=f64::MAX)));
    Rc::new(RefCell::new(clip.into_iter().chain(weights).collect()))
}
