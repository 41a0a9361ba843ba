//! `model.vgg`: VGG as a classifier.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::choice::Choice;
use super::classification::{Classifier, Network};
use super::ground_truth::NUM_CLASSES;
use super::loss::Loss;
use super::weights;
use pipe_core::facts::Facts;
use pipe_core::{
    BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, Property, PropertyType,
};
use pipe_vision::{Vgg, VggKind};

/// VGG for classification, compatible with torchvision's weights and parameter names.
///
/// Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2015. Normalize the images as for the pretrained weights: `transform.normalize` with
/// ImageNet's mean and standard deviation for torchvision's weights.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VggConfig {
    /// The architecture.
    pub arch: Choice<VggKind>,
    /// Number of classes.
    #[schemars(range(min = 1))]
    pub num_classes: i64,
    /// Probability with which a number of the classifier's hidden layers is zeroed in training.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
    /// A `.pth` or `.safetensors` file, a run's folder (its best checkpoint), or torchvision's by name, such as `torchvision:vgg16`.
    /// Matching names are loaded, the others are reported; a last layer for another number of classes keeps its initial values.
    #[schemars(extend("x-reload" = "hot"))]
    pub weights: Option<PathValue>,
    /// Whether an edit of `weights` in a run at work also takes the state of the optimizer (momentum, averages of gradients) and of
    /// averages of this model from the checkpoint that the weights lie in. It means nothing at the beginning of a run.
    #[schemars(extend("x-reload" = "hot"))]
    pub optimizer_state: bool,
    /// The loss.
    pub loss: Loss,
}

impl Default for VggConfig {
    fn default() -> Self {
        Self {
            arch: Choice(VggKind::VGG16),
            num_classes: 1000,
            dropout: 0.5,
            weights: None,
            optimizer_state: false,
            loss: Loss::default(),
        }
    }
}

impl Config for VggConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "vgg";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "vgg"
arch = "vgg16"
num_classes = 10
"#;

    fn facts(&self) -> Facts {
        Facts {
            weights: self.weights.is_some().then_some("weights"),
            // Of other files it is not known how they were trained.
            wants_normalized: weights::named(self.weights.as_ref()).is_some(),
            batch_norm: self.arch.0.has_norm(),
            classes: self.loss.target().is_none().then_some((self.num_classes.unsigned_abs(), "num_classes")),
            ..Facts::default()
        }
    }

    fn contract(&self) -> Contract {
        self.loss.contract()
    }

    fn check(&self, problems: &mut Problems) {
        let arch = self.arch.0.to_string();
        weights::check("weights", self.weights.as_ref(), problems, |named| {
            (named.model != arch).then(|| format!("`arch` is {arch}: `torchvision:{arch}`"))
        });
    }

    fn properties() -> &'static [Property] {
        &[Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes." }]
    }
}

impl Component for VggConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        ctx.offer("num_classes", self.num_classes);
        let network = Vgg::new(self.arch.0, self.num_classes, self.dropout, Device::Cpu)?;
        let store = network.store().clone();
        Ok(Instance::model(Classifier::new(network, store, self.loss, self.weights.as_ref(), ctx)?))
    }
}

pipe_core::register!(VggConfig);

impl Network for Vgg {
    const HELP: &'static str = NUM_CLASSES;

    fn classes(&self) -> Option<i64> {
        self.store().get("classifier.6.bias").map(|bias| bias.size()[0])
    }

    fn forward(&self, images: &Tensor, training: bool) -> Result<Tensor> {
        Vgg::forward(self, images, training)
    }
}
