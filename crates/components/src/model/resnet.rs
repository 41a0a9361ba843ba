//! `model.resnet`: residual networks as classifiers.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::classification::{Classifier, Network};
use super::ground_truth::NUM_CLASSES;
use super::loss::Loss;
use super::weights;
use pipe_core::facts::Facts;
use pipe_core::{
    BuildContext, Component, Config, Contract, Instance, Kind, PathValue, Problems, Property, PropertyType,
};
use pipe_vision::nn::NormKind;
use pipe_vision::{ResNet, ResNetKind};

/// ResNet for classification, compatible with torchvision's weights and parameter names (`layer1.0.conv1.weight`).
///
/// He et al., "Deep Residual Learning for Image Recognition", 2016. Normalize the images as for the pretrained
/// weights: `transform.normalize` with ImageNet's mean and standard deviation for torchvision's weights.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// The architecture.
    #[serde(default)]
    pub arch: Arch,
    /// Number of classes.
    #[schemars(range(min = 1))]
    #[serde(default = "thousand")]
    pub num_classes: i64,
    /// A `.pth` or `.safetensors` file, a run's folder (its best checkpoint), or torchvision's by name, such as
    /// `torchvision:resnet50.imagenet1k_v2`. Matching names are loaded, the others are reported; a last layer for another number
    /// of classes keeps its initial values.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub weights: Option<PathValue>,
    /// Whether an edit of `weights` in a run at work also takes the state of the optimizer (momentum, averages of gradients) and of
    /// averages of this model from the checkpoint that the weights lie in. It means nothing at the beginning of a run.
    #[serde(default)]
    #[schemars(extend("x-reload" = "hot"))]
    pub optimizer_state: bool,
    /// The loss.
    #[serde(default)]
    pub loss: Loss,
}

fn thousand() -> i64 {
    1000
}

/// ResNets by torchvision's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Arch {
    #[default]
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    #[serde(rename = "resnext50_32x4d")]
    ResNext50,
    #[serde(rename = "resnext101_32x8d")]
    ResNext101,
    #[serde(rename = "wide_resnet50_2")]
    WideResNet50,
    #[serde(rename = "wide_resnet101_2")]
    WideResNet101,
}

impl Arch {
    fn kind(self) -> ResNetKind {
        match self {
            Arch::ResNet18 => ResNetKind::ResNet18,
            Arch::ResNet34 => ResNetKind::ResNet34,
            Arch::ResNet50 => ResNetKind::ResNet50,
            Arch::ResNet101 => ResNetKind::ResNet101,
            Arch::ResNet152 => ResNetKind::ResNet152,
            Arch::ResNext50 => ResNetKind::ResNext50_32x4d,
            Arch::ResNext101 => ResNetKind::ResNext101_32x8d,
            Arch::WideResNet50 => ResNetKind::WideResNet50_2,
            Arch::WideResNet101 => ResNetKind::WideResNet101_2,
        }
    }
}

impl Config for ResNetConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "resnet";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "resnet"
arch = "resnet50"
num_classes = 10
loss = { type = "cross_entropy", label_smoothing = 0.1 }
"#;

    fn facts(&self) -> Facts {
        Facts {
            weights: self.weights.is_some().then_some("weights"),
            // Of other files it is not known how they were trained.
            wants_normalized: weights::named(self.weights.as_ref()).is_some(),
            batch_norm: true,
            classes: self.loss.target().is_none().then_some((self.num_classes.unsigned_abs(), "num_classes")),
            ..Facts::default()
        }
    }

    fn contract(&self) -> Contract {
        self.loss.contract()
    }

    fn check(&self, problems: &mut Problems) {
        let arch = self.arch.kind().to_string();
        weights::check("weights", self.weights.as_ref(), problems, |named| {
            (named.model != arch).then(|| format!("`arch` is {arch}: `torchvision:{arch}`"))
        });
    }

    fn properties() -> &'static [Property] {
        &[Property { name: "num_classes", ty: PropertyType::Integer, doc: "Number of classes." }]
    }
}

impl Component for ResNetConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        ctx.offer("num_classes", self.num_classes);
        let network = ResNet::new(self.arch.kind(), self.num_classes, NormKind::Batch, Device::Cpu)?;
        let store = network.store().clone();
        Ok(Instance::model(Classifier::new(network, store, self.loss, self.weights.as_ref(), ctx)?))
    }
}

pipe_core::register!(ResNetConfig);

impl Network for ResNet {
    const HELP: &'static str = NUM_CLASSES;

    fn classes(&self) -> Option<i64> {
        self.store().get("fc.bias").map(|bias| bias.size()[0])
    }

    fn forward(&self, images: &Tensor, training: bool) -> Result<Tensor> {
        ResNet::forward(self, images, training)
    }
}
