//! `model.sequential`: a network spelled out layer by layer.

use anyhow::{Context, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::classification::{Classifier, Network};
use super::loss::Loss;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, PathValue};
use pipe_vision::nn;
use pipe_vision::nn::{BatchNorm2d, Conv2d, Conv2dOptions, Linear, ParameterStore, Scope};

/// A network defined layer by layer, with the names and initialization of `torch.nn.Sequential` (`0.weight`, `3.bias`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SequentialConfig {
    /// The layers, first to last; the last one returns one logit per class, or one number per number of the target.
    #[schemars(length(min = 1))]
    pub layers: Vec<LayerConfig>,
    /// A `.pth` or `.safetensors` file. Matching names are loaded, the others are reported.
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

/// A layer, with the options of the `torch.nn` class.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum LayerConfig {
    /// A convolution with a square kernel.
    Conv2d {
        /// Input channels.
        #[schemars(range(min = 1))]
        in_channels: i64,
        /// Output channels.
        #[schemars(range(min = 1))]
        out_channels: i64,
        /// Kernel size in pixels.
        #[schemars(range(min = 1))]
        kernel_size: i64,
        /// Stride in pixels.
        #[schemars(range(min = 1))]
        #[serde(default = "one")]
        stride: i64,
        /// Zero padding on every side, in pixels.
        #[schemars(range(min = 0))]
        #[serde(default)]
        padding: i64,
        /// Whether to add a bias.
        #[serde(default = "yes")]
        bias: bool,
    },
    /// Batch normalization over channels.
    BatchNorm2d {
        /// Channels.
        #[schemars(range(min = 1))]
        num_features: i64,
    },
    /// A fully connected layer.
    Linear {
        /// Numbers in.
        #[schemars(range(min = 1))]
        in_features: i64,
        /// Output features.
        #[schemars(range(min = 1))]
        out_features: i64,
    },
    /// max(x, 0).
    Relu {},
    /// Gaussian error linear unit.
    Gelu {},
    /// Max pooling.
    MaxPool2d {
        /// Side of the window in pixels.
        #[schemars(range(min = 1))]
        kernel_size: i64,
        /// Stride in pixels; default the window size.
        #[schemars(range(min = 1))]
        #[serde(default)]
        stride: Option<i64>,
    },
    /// Average pooling.
    AvgPool2d {
        /// Side of the window in pixels.
        #[schemars(range(min = 1))]
        kernel_size: i64,
    },
    /// Global average pooling, returns `[N, C]`.
    GlobalAveragePool {},
    /// Dropout in training.
    Dropout {
        /// Dropout probability.
        #[schemars(range(min = 0, max = 1))]
        #[serde(default = "half")]
        p: f64,
    },
    /// `[N, C, H, W]` to `[N, C * H * W]`.
    Flatten {},
}

fn one() -> i64 {
    1
}

fn yes() -> bool {
    true
}

fn half() -> f64 {
    0.5
}

impl Config for SequentialConfig {
    const KIND: Kind = Kind::Model;
    const TYPE: &'static str = "sequential";
    const EXAMPLE: &'static str = r#"
[model.net]
type = "sequential"
layers = [
  { type = "conv2d", in_channels = 1, out_channels = 10, kernel_size = 5 },
  { type = "max_pool2d", kernel_size = 2 },
  { type = "relu" },
  { type = "flatten" },
  { type = "linear", in_features = 1440, out_features = 10 },
]
"#;

    fn facts(&self) -> Facts {
        let outputs = self.layers.iter().rev().find_map(|layer| match layer {
            LayerConfig::Linear { out_features, .. } => Some(out_features.unsigned_abs()),
            _ => None,
        });
        Facts {
            weights: self.weights.is_some().then_some("weights"),
            batch_norm: self.layers.iter().any(|layer| matches!(layer, LayerConfig::BatchNorm2d { .. })),
            classes: outputs.filter(|_| self.loss.target().is_none()).map(|outputs| (outputs, "layers")),
            ..Facts::default()
        }
    }

    fn contract(&self) -> Contract {
        self.loss.contract()
    }
}

impl Component for SequentialConfig {
    fn build(self, ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let store = ParameterStore::new();
        let root = store.root();
        let layers = self
            .layers
            .iter()
            .enumerate()
            .map(|(index, config)| Layer::new(config, &root.sub(index)).with_context(|| format!("layer {index}")));
        let network = Sequential { layers: layers.collect::<Result<_>>()? };
        Ok(Instance::model(Classifier::new(network, store, self.loss, self.weights.as_ref(), ctx)?))
    }
}

pipe_core::register!(SequentialConfig);

/// The running network.
struct Sequential {
    layers: Vec<Layer>,
}

/// A layer with its parameters.
enum Layer {
    Conv2d(Conv2d),
    BatchNorm2d(BatchNorm2d),
    Linear(Linear),
    Relu,
    Gelu,
    MaxPool2d { kernel: i64, stride: i64 },
    AvgPool2d(i64),
    GlobalAveragePool,
    Dropout(f64),
    Flatten,
}

impl Layer {
    fn new(config: &LayerConfig, scope: &Scope) -> Result<Layer> {
        Ok(match *config {
            LayerConfig::Conv2d { in_channels, out_channels, kernel_size, stride, padding, bias } => {
                let options = Conv2dOptions { kernel: kernel_size, stride, padding, bias, ..Conv2dOptions::default() };
                Layer::Conv2d(Conv2d::new(scope, in_channels, out_channels, options)?)
            }
            LayerConfig::BatchNorm2d { num_features } => Layer::BatchNorm2d(BatchNorm2d::new(scope, num_features)?),
            LayerConfig::Linear { in_features, out_features } => {
                Layer::Linear(Linear::new(scope, in_features, out_features)?)
            }
            LayerConfig::Relu {} => Layer::Relu,
            LayerConfig::Gelu {} => Layer::Gelu,
            LayerConfig::MaxPool2d { kernel_size, stride } => {
                Layer::MaxPool2d { kernel: kernel_size, stride: stride.unwrap_or(kernel_size) }
            }
            LayerConfig::AvgPool2d { kernel_size } => Layer::AvgPool2d(kernel_size),
            LayerConfig::GlobalAveragePool {} => Layer::GlobalAveragePool,
            LayerConfig::Dropout { p } => Layer::Dropout(p),
            LayerConfig::Flatten {} => Layer::Flatten,
        })
    }

    fn forward(&self, x: &Tensor, training: bool) -> Result<Tensor> {
        Ok(match self {
            Layer::Conv2d(conv) => conv.forward(x)?,
            Layer::BatchNorm2d(norm) => norm.forward(x, training)?,
            Layer::Linear(linear) => linear.forward(x)?,
            Layer::Relu => x.f_relu()?,
            Layer::Gelu => x.f_gelu("none")?,
            Layer::MaxPool2d { kernel, stride } => nn::functional::max_pool2d(x, *kernel, *stride, 0)?,
            Layer::AvgPool2d(kernel) => {
                x.f_avg_pool2d([*kernel, *kernel], [*kernel, *kernel], [0, 0], false, true, None)?
            }
            Layer::GlobalAveragePool => x.f_mean_dim(&[-2i64, -1][..], false, x.kind())?,
            Layer::Dropout(p) => nn::functional::dropout(x, *p, training)?,
            Layer::Flatten => x.f_flatten(1, -1)?,
        })
    }
}

impl Network for Sequential {
    const HELP: &'static str = "set the last layer's `out_features` to the dataset's number of classes";

    fn classes(&self) -> Option<i64> {
        let mut shaping =
            self.layers.iter().rev().skip_while(|l| matches!(l, Layer::Relu | Layer::Gelu | Layer::Dropout(_)));
        match shaping.next()? {
            Layer::Linear(linear) => Some(linear.bias.size()[0]),
            _ => None,
        }
    }

    fn forward(&self, images: &Tensor, training: bool) -> Result<Tensor> {
        self.layers.iter().enumerate().try_fold(images.shallow_clone(), |x, (index, layer)| {
            layer.forward(&x, training).with_context(|| format!("layer {index}, given {:?}", x.size()))
        })
    }
}
