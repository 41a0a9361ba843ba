//! Semantic segmentation: FCN (Long et al. 2015) and DeepLabV3 (Chen et al. 2017) with torchvision's names and numbers.
//!
//! A residual network whose last layers dilate, a head on its last map, and for training another, the auxiliary one, on the map before.

use std::fmt;

use anyhow::{Result, ensure};
use tch::{Device, Tensor};

use crate::conv_block::ConvBlock;
use crate::nn::functional::{dropout, resize_bilinear};
use crate::nn::{Conv2d, Conv2dOptions, LoadOptions, LoadReport, Norm, NormKind, ParameterStore, Scope, StateDict};
use crate::resnet::{ResNetBody, ResNetKind};

/// Channels inside DeepLab's head.
const CHANNELS: i64 = 256;
/// Dilations of its three 3×3 convolutions.
const RATES: [i64; 3] = [12, 24, 36];
/// The layers whose shape depends on the number of classes.
const PREDICTORS: [&str; 2] = ["classifier.4.", "aux_classifier.4."];

/// Which head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// Two convolutions.
    Fcn,
    /// Convolutions of several dilations side by side (atrous spatial pyramid pooling), then two.
    DeepLabV3,
}

impl fmt::Display for HeadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fcn => "fcn",
            Self::DeepLabV3 => "deeplabv3",
        })
    }
}

/// What a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentationOptions {
    /// The head.
    pub head: HeadKind,
    /// The residual network.
    pub backbone: ResNetKind,
    /// The layer of it whose map is classified, 2 to 4; later ones are not made.
    pub out_layer: usize,
    /// Whether there is an auxiliary head on the layer before.
    pub aux: bool,
    /// Classes, the background included.
    pub num_classes: i64,
}

/// torchvision's `FCNHead`: modules `0`, `1` and `4`.
#[derive(Debug)]
struct FcnHead {
    inner: ConvBlock,
    classify: Conv2d,
}

impl FcnHead {
    fn new(scope: &Scope, inputs: i64, classes: i64) -> Result<Self> {
        let inner = ConvBlock::new(scope, (inputs, inputs / 4), (3, 1), Some(NormKind::Batch), true)?;
        Ok(Self { inner, classify: Conv2d::new(&scope.sub(4), inputs / 4, classes, Conv2dOptions::default())? })
    }

    fn forward(&self, map: &Tensor, train: bool) -> Result<Tensor> {
        self.classify.forward(&dropout(&self.inner.forward(map, train)?, 0.1, train)?)
    }
}

/// A convolution without bias, batch norm and ReLU, each under a number of its own in a `torch.nn.Sequential`.
#[derive(Debug)]
struct Layers {
    conv: Conv2d,
    norm: Norm,
}

impl Layers {
    /// The convolution is module `first`, its norm the next.
    fn new(scope: &Scope, first: usize, (inputs, outputs): (i64, i64), kernel: i64) -> Result<Self> {
        let options = Conv2dOptions { kernel, padding: kernel / 2, bias: false, ..Conv2dOptions::default() };
        let conv = Conv2d::new(&scope.sub(first), inputs, outputs, options)?;
        Ok(Self { conv, norm: Norm::new(&scope.sub(first + 1), NormKind::Batch, outputs)? })
    }

    fn forward(&self, map: &Tensor, train: bool) -> Result<Tensor> {
        Ok(self.norm.forward(&self.conv.forward(map)?, train)?.f_relu_()?)
    }
}

/// torchvision's `DeepLabHead`: the pyramid `0`, then `1`, `2` and `4`.
#[derive(Debug)]
struct DeepLabHead {
    /// A 1×1 convolution, then those that dilate.
    convs: Vec<ConvBlock>,
    /// Over the mean of the whole map.
    pooled: Layers,
    project: ConvBlock,
    inner: Layers,
    classify: Conv2d,
}

impl DeepLabHead {
    fn new(scope: &Scope, inputs: i64, classes: i64) -> Result<Self> {
        let (pyramid, norm) = (scope.sub(0), Some(NormKind::Batch));
        let branches = pyramid.sub("convs");
        let kernels = std::iter::once((1, 1)).chain(RATES.map(|rate| (3, rate)));
        let conv = |(index, kernel)| ConvBlock::new(&branches.sub(index), (inputs, CHANNELS), kernel, norm, true);
        let convs = kernels.enumerate().map(conv).collect::<Result<Vec<_>>>()?;
        let pooled = Layers::new(&branches.sub(convs.len()), 1, (inputs, CHANNELS), 1)?;
        let all = (convs.len() as i64 + 1) * CHANNELS;
        let project = ConvBlock::new(&pyramid.sub("project"), (all, CHANNELS), (1, 1), norm, true)?;
        let inner = Layers::new(scope, 1, (CHANNELS, CHANNELS), 3)?;
        let classify = Conv2d::new(&scope.sub(4), CHANNELS, classes, Conv2dOptions::default())?;
        Ok(Self { convs, pooled, project, inner, classify })
    }

    fn forward(&self, map: &Tensor, train: bool) -> Result<Tensor> {
        let (_, _, height, width) = map.size4()?;
        let mut branches = self.convs.iter().map(|conv| conv.forward(map, train)).collect::<Result<Vec<_>>>()?;
        let mean = self.pooled.forward(&map.f_adaptive_avg_pool2d([1, 1])?, train)?;
        branches.push(resize_bilinear(&mean, (height, width))?);
        let map = self.project.forward(&Tensor::f_cat(&branches, 1)?, train)?;
        self.classify.forward(&self.inner.forward(&dropout(&map, 0.5, train)?, train)?)
    }
}

#[derive(Debug)]
enum Head {
    Fcn(Box<FcnHead>),
    DeepLabV3(Box<DeepLabHead>),
}

impl Head {
    fn forward(&self, map: &Tensor, train: bool) -> Result<Tensor> {
        match self {
            Self::Fcn(head) => head.forward(map, train),
            Self::DeepLabV3(head) => head.forward(map, train),
        }
    }
}

/// A network that gives each pixel a score of each class.
#[derive(Debug)]
pub struct SegmentationNet {
    store: ParameterStore,
    options: SegmentationOptions,
    body: ResNetBody,
    head: Head,
    aux: Option<FcnHead>,
}

/// Scores of classes, at the size of the images.
#[derive(Debug)]
pub struct SegmentationLogits {
    /// `[N, classes, H, W]`.
    pub out: Tensor,
    /// Those of the auxiliary head, where it was asked for.
    pub aux: Option<Tensor>,
}

impl SegmentationNet {
    /// A network with fresh weights, drawn in torchvision's order.
    ///
    /// # Errors
    /// The options are out of their ranges, or the device is absent or out of memory.
    pub fn new(options: SegmentationOptions, device: Device) -> Result<Self> {
        let SegmentationOptions { backbone, out_layer, num_classes, .. } = options;
        ensure!((2..=4).contains(&out_layer), "out_layer must lie between 2 and 4, not {out_layer}");
        let store = ParameterStore::new();
        let root = store.root();
        let body = ResNetBody::dilated(&root.sub("backbone"), backbone, out_layer)?;
        let channels = backbone.channels();
        let aux = || FcnHead::new(&root.sub("aux_classifier"), channels[out_layer - 2], num_classes);
        let aux = options.aux.then(aux).transpose()?;
        let (scope, inputs) = (root.sub("classifier"), channels[out_layer - 1]);
        let head = match options.head {
            HeadKind::Fcn => Head::Fcn(Box::new(FcnHead::new(&scope, inputs, num_classes)?)),
            HeadKind::DeepLabV3 => Head::DeepLabV3(Box::new(DeepLabHead::new(&scope, inputs, num_classes)?)),
        };
        store.order_by(&["backbone.", "classifier.", "aux_classifier."]);
        store.to(device)?;
        Ok(Self { store, options, body, head, aux })
    }

    /// The parameters and buffers, under torchvision's names.
    pub fn store(&self) -> &ParameterStore {
        &self.store
    }

    /// What it is made of.
    pub fn options(&self) -> &SegmentationOptions {
        &self.options
    }

    /// Normalized images `[N, 3, H, W]` → scores of each pixel; those of the auxiliary head, if there is one, where `with_aux` says so.
    ///
    /// # Errors
    /// The input has not three channels, or memory is short; while training, a batch of one image with DeepLab's head.
    pub fn forward(&self, images: &Tensor, train: bool, with_aux: bool) -> Result<SegmentationLogits> {
        let (_, _, height, width) = images.size4()?;
        let maps = self.body.forward(images, train)?;
        let enlarged = |logits: Tensor| resize_bilinear(&logits, (height, width));
        let out = enlarged(self.head.forward(&maps[maps.len() - 1], train)?)?;
        let aux = self.aux.as_ref().filter(|_| with_aux);
        let aux = aux.map(|head| enlarged(head.forward(&maps[maps.len() - 2], train)?)).transpose()?;
        Ok(SegmentationLogits { out, aux })
    }

    /// Loads a network's weights. Those of another number of classes leave the last layers as they are, and the report names them under
    /// `misshapen`; an auxiliary head that this network has not is left aside.
    ///
    /// # Errors
    /// Anything else that does not fit; then nothing has changed.
    pub fn load(&self, state: &StateDict) -> Result<LoadReport> {
        let has_aux = |name: &str| name.starts_with("aux_classifier.");
        if self.aux.is_some() {
            let complete = state.keys().any(|name| has_aux(name)) || num_classes(state).is_none();
            ensure!(complete, "the weights have no auxiliary classifier: set `aux_loss = false`");
        }
        let own = state.iter().filter(|(name, _)| self.aux.is_some() || !has_aux(name));
        let own = own.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let replaceable = PREDICTORS.map(str::to_owned).to_vec();
        self.store.load_state_dict(&own, &LoadOptions { replaceable, ..LoadOptions::default() })
    }

    /// Loads a classifier's weights into the backbone; its last layer, and layers that this network has not, have no place there.
    ///
    /// # Errors
    /// Anything else that does not fit; then nothing has changed.
    pub fn load_backbone(&self, state: &StateDict) -> Result<LoadReport> {
        let beyond: Vec<String> = (self.options.out_layer + 1..=4).map(|layer| format!("layer{layer}.")).collect();
        let used = |name: &str| !name.starts_with("fc.") && !beyond.iter().any(|layer| name.starts_with(layer));
        let body = state.iter().filter(|(name, _)| used(name));
        let body = body.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let into = LoadOptions { into_prefix: "backbone.".to_owned(), ..LoadOptions::default() };
        self.store.load_state_dict(&body, &into)
    }
}

/// The number of classes, background included, that a segmentation network's weights are for.
pub fn num_classes(state: &StateDict) -> Option<i64> {
    state.get("backbone.conv1.weight")?;
    state.get("classifier.4.weight")?.size().first().copied()
}
