//! MobileNetV3: Howard et al., "Searching for MobileNetV3" (2019), with torchvision's names.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use tch::{Device, Tensor};

use crate::conv_block::{Activation, ConvBlock};
use crate::nn::functional::{channels_last, dropout, global_average};
use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, Linear, NormKind, ParameterStore, Scope, init};

/// Which network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are torchvision's.
pub enum MobileNetV3Kind {
    Large,
    Small,
}

/// The norm of a classifier.
const NORM: NormKind = NormKind::BatchOf { eps: 0.001, momentum: 0.01 };
/// Channels of the first convolution.
const STEM: i64 = 16;
/// Channels of the last convolution for each of the block before.
const LAST: i64 = 6;

/// A row of the paper's tables 1 and 2.
#[derive(Debug, Clone, Copy)]
struct Row {
    kernel: i64,
    expanded: i64,
    outputs: i64,
    squeeze: bool,
    activation: Activation,
    stride: i64,
}

const fn row(kernel: i64, expanded: i64, outputs: i64, squeeze: bool, activation: Activation, stride: i64) -> Row {
    Row { kernel, expanded, outputs, squeeze, activation, stride }
}

const RE: Activation = Activation::Relu;
const HS: Activation = Activation::Hardswish;

const LARGE: &[Row] = &[
    row(3, 16, 16, false, RE, 1),
    row(3, 64, 24, false, RE, 2),
    row(3, 72, 24, false, RE, 1),
    row(5, 72, 40, true, RE, 2),
    row(5, 120, 40, true, RE, 1),
    row(5, 120, 40, true, RE, 1),
    row(3, 240, 80, false, HS, 2),
    row(3, 200, 80, false, HS, 1),
    row(3, 184, 80, false, HS, 1),
    row(3, 184, 80, false, HS, 1),
    row(3, 480, 112, true, HS, 1),
    row(3, 672, 112, true, HS, 1),
    row(5, 672, 160, true, HS, 2),
    row(5, 960, 160, true, HS, 1),
    row(5, 960, 160, true, HS, 1),
];

const SMALL: &[Row] = &[
    row(3, 16, 16, true, RE, 2),
    row(3, 72, 24, false, RE, 2),
    row(3, 88, 24, false, RE, 1),
    row(5, 96, 40, true, HS, 2),
    row(5, 240, 40, true, HS, 1),
    row(5, 240, 40, true, HS, 1),
    row(5, 120, 48, true, HS, 1),
    row(5, 144, 48, true, HS, 1),
    row(5, 288, 96, true, HS, 2),
    row(5, 576, 96, true, HS, 1),
    row(5, 576, 96, true, HS, 1),
];

impl MobileNetV3Kind {
    /// Every kind with torchvision's name for it.
    pub const ALL: [(Self, &'static str); 2] =
        [(Self::Large, "mobilenet_v3_large"), (Self::Small, "mobilenet_v3_small")];

    /// The blocks; the last three have half as many channels where the tail is reduced, all but the expansion of the first of them.
    fn rows(self, reduced_tail: bool) -> Vec<Row> {
        let all = if self == Self::Large { LARGE } else { SMALL };
        let tail = all.len() - 3;
        let reduced = |(index, row): (usize, &Row)| match index {
            _ if !reduced_tail || index < tail => *row,
            _ if index == tail => Row { outputs: row.outputs / 2, ..*row },
            _ => Row { outputs: row.outputs / 2, expanded: row.expanded / 2, ..*row },
        };
        all.iter().enumerate().map(reduced).collect()
    }

    /// torchvision's layers at which a stage begins: the first, those that stride, and the last.
    pub(crate) fn stages(self) -> Vec<usize> {
        let rows = self.rows(false);
        let strided = rows.iter().enumerate().filter(|(_, row)| row.stride > 1).map(|(index, _)| index + 1);
        [0].into_iter().chain(strided).chain([rows.len() + 1]).collect()
    }

    /// The channels of the map that one of torchvision's layers gives, and its stride in pixels.
    pub(crate) fn map(self, layer: usize) -> (i64, i64) {
        let rows = self.rows(false);
        let stride = rows.iter().take(layer).fold(2, |stride, row| stride * row.stride);
        let channels = match layer.checked_sub(1).map(|index| rows.get(index)) {
            None => STEM,
            Some(Some(row)) => row.outputs,
            Some(None) => LAST * rows.last().map_or(STEM, |row| row.outputs),
        };
        (channels, stride)
    }

    /// Channels of the classifier's hidden layer.
    fn hidden(self) -> i64 {
        if self == Self::Large { 1280 } else { 1024 }
    }
}

impl fmt::Display for MobileNetV3Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("mobilenet_v3", |(_, name)| name))
    }
}

impl FromStr for MobileNetV3Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
        found.ok_or_else(|| {
            anyhow!("`{text}` is not a MobileNetV3; available: {}", Self::ALL.map(|(_, name)| name).join(", "))
        })
    }
}

/// The nearest multiple of 8 that is not smaller by more than a tenth: `_make_divisible`.
fn divisible(channels: i64) -> i64 {
    let rounded = ((channels + 4) / 8 * 8).max(8);
    if rounded * 10 < channels * 9 { rounded + 8 } else { rounded }
}

/// `SqueezeExcitation`: each channel is weighted by what the image as a whole looks like (Hu et al. 2018).
#[derive(Debug)]
struct SqueezeExcitation {
    fc1: Conv2d,
    fc2: Conv2d,
}

impl SqueezeExcitation {
    fn new(scope: &Scope, channels: i64) -> Result<Self> {
        let squeezed = divisible(channels / 4);
        let fc1 = Conv2d::new(&scope.sub("fc1"), channels, squeezed, Conv2dOptions::default())?;
        let fc2 = Conv2d::new(&scope.sub("fc2"), squeezed, channels, Conv2dOptions::default())?;
        Ok(Self { fc1, fc2 })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let mean = input.f_adaptive_avg_pool2d([1, 1])?;
        let scale = self.fc2.forward(&self.fc1.forward(&mean)?.f_relu()?)?.f_hardsigmoid()?;
        Ok(scale.f_mul(input)?)
    }
}

/// `InvertedResidual`: figure 4 of the paper.
#[derive(Debug)]
pub(crate) struct InvertedResidual {
    expand: Option<ConvBlock>,
    depthwise: ConvBlock,
    squeeze: Option<SqueezeExcitation>,
    project: ConvBlock,
    shortcut: bool,
}

impl InvertedResidual {
    /// `place`: where the layer of that number is.
    fn new(place: impl Fn(usize) -> Scope, inputs: i64, row: Row, norm: NormKind) -> Result<Self> {
        let Row { kernel, expanded, outputs, activation, stride, .. } = row;
        let mut number = 0;
        let mut next = || {
            number += 1;
            place(number - 1)
        };
        let plain = Conv2dOptions::default();
        let expand = (expanded != inputs)
            .then(|| ConvBlock::with(&next(), (inputs, expanded), plain, Some(norm), activation))
            .transpose()?;
        let options = Conv2dOptions { kernel, stride, groups: expanded, ..plain };
        let depthwise = ConvBlock::with(&next(), (expanded, expanded), options, Some(norm), activation)?;
        let squeeze = row.squeeze.then(|| SqueezeExcitation::new(&next(), expanded)).transpose()?;
        let project = ConvBlock::with(&next(), (expanded, outputs), plain, Some(norm), Activation::None)?;
        Ok(Self { expand, depthwise, squeeze, project, shortcut: stride == 1 && inputs == outputs })
    }

    /// Channels of the widened map.
    pub(crate) fn expanded(&self) -> i64 {
        self.depthwise.conv.weight.size()[0]
    }

    /// The first layer, which widens.
    pub(crate) fn expand(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        match &self.expand {
            Some(expand) => expand.forward(input, train),
            None => Ok(input.shallow_clone()),
        }
    }

    /// The layers after the first.
    pub(crate) fn narrow(&self, expanded: &Tensor, train: bool) -> Result<Tensor> {
        let mut out = self.depthwise.forward(expanded, train)?;
        if let Some(squeeze) = &self.squeeze {
            out = squeeze.forward(&out)?;
        }
        self.project.forward(&out, train)
    }

    fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        let mut out = self.narrow(&self.expand(input, train)?, train)?;
        Ok(if self.shortcut { out.f_add_(input)? } else { out })
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        let squeeze = self.squeeze.iter().flat_map(|squeeze| [&squeeze.fc1, &squeeze.fc2]);
        let first = self.expand.iter().chain([&self.depthwise]).map(|block| &block.conv);
        first.chain(squeeze).chain([&self.project.conv])
    }
}

/// The convolutional part: `features`.
#[derive(Debug)]
pub(crate) struct Features {
    stem: ConvBlock,
    pub(crate) blocks: Vec<InvertedResidual>,
    last: ConvBlock,
    pub(crate) outputs: i64,
}

impl Features {
    /// `place`: where torchvision's layer of that number is, and of a block the part of it, if the layer is one.
    pub(crate) fn new(
        kind: MobileNetV3Kind,
        reduced_tail: bool,
        norm: NormKind,
        place: impl Fn(usize, Option<usize>) -> Scope,
    ) -> Result<Self> {
        let stem = Conv2dOptions { kernel: 3, stride: 2, ..Default::default() };
        let stem = ConvBlock::with(&place(0, None), (3, STEM), stem, Some(norm), HS)?;
        let (mut inputs, mut blocks) = (STEM, Vec::new());
        for (index, row) in kind.rows(reduced_tail).into_iter().enumerate() {
            blocks.push(InvertedResidual::new(|part| place(index + 1, Some(part)), inputs, row, norm)?);
            inputs = row.outputs;
        }
        let outputs = LAST * inputs;
        let place = place(blocks.len() + 1, None);
        let last = ConvBlock::with(&place, (inputs, outputs), Conv2dOptions::default(), Some(norm), HS)?;
        Ok(Self { stem, blocks, last, outputs })
    }

    pub(crate) fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        let blocks = self.blocks.iter().flat_map(InvertedResidual::convolutions);
        [&self.stem.conv].into_iter().chain(blocks).chain([&self.last.conv])
    }

    fn init(&self) -> Result<()> {
        self.convolutions().try_for_each(|conv| {
            init::kaiming_normal(&conv.weight, Fan::Out)?;
            conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))
        })
    }

    /// Draws the weights as torchvision does, with a classifier that is then dropped.
    pub(crate) fn init_as_backbone(&self, kind: MobileNetV3Kind, reduced_tail: bool) -> Result<()> {
        let layers = classifier(kind, reduced_tail, self.outputs, 1000);
        for (inputs, outputs) in layers {
            Linear::new(&ParameterStore::new().root(), inputs, outputs)?;
        }
        self.init()?;
        for (inputs, outputs) in layers {
            init::normal(&Tensor::f_empty([outputs, inputs], (tch::Kind::Float, Device::Cpu))?, 0.01)?;
        }
        Ok(())
    }

    /// Images → the map before the block of that number, counted from 0.
    pub(crate) fn until(&self, images: &Tensor, block: usize, train: bool) -> Result<Tensor> {
        let images = channels_last(images, train)?;
        self.through(self.stem.forward(&images, train)?, 0..block, train)
    }

    /// The map before a block → the last.
    pub(crate) fn after(&self, map: Tensor, block: usize, train: bool) -> Result<Tensor> {
        self.last.forward(&self.through(map, block..self.blocks.len(), train)?, train)
    }

    /// Images → the maps that these of torchvision's layers give, ascending.
    pub(crate) fn maps(&self, images: &Tensor, layers: &[usize], train: bool) -> Result<Vec<Tensor>> {
        let images = channels_last(images, train)?;
        let mut map = self.stem.forward(&images, train)?;
        let mut maps = Vec::new();
        for layer in 0..=layers.last().copied().unwrap_or(0) {
            map = match layer.checked_sub(1).map(|index| self.blocks.get(index)) {
                None => map,
                Some(Some(block)) => block.forward(&map, train)?,
                Some(None) => self.last.forward(&map, train)?,
            };
            if layers.contains(&layer) {
                maps.push(map.shallow_clone());
            }
        }
        Ok(maps)
    }

    fn through(&self, map: Tensor, blocks: std::ops::Range<usize>, train: bool) -> Result<Tensor> {
        self.blocks[blocks].iter().try_fold(map, |map, block| block.forward(&map, train))
    }
}

/// The inputs and outputs of the classifier's layers.
fn classifier(kind: MobileNetV3Kind, reduced_tail: bool, inputs: i64, num_classes: i64) -> [(i64, i64); 2] {
    let hidden = if reduced_tail { kind.hidden() / 2 } else { kind.hidden() };
    [(inputs, hidden), (hidden, num_classes)]
}

/// A MobileNetV3 as a classifier.
#[derive(Debug)]
pub struct MobileNetV3 {
    store: ParameterStore,
    features: Features,
    classifier: [Linear; 2],
    dropout: f64,
}

impl MobileNetV3 {
    /// Makes a classifier for `num_classes` classes with fresh weights, on `device`.
    ///
    /// # Errors
    /// `num_classes` is not positive, or the device is absent or out of memory.
    pub fn new(kind: MobileNetV3Kind, num_classes: i64, dropout: f64, device: Device) -> Result<Self> {
        let store = ParameterStore::new();
        let root = store.root();
        let features = Features::new(kind, false, NORM, |layer, part| {
            let layer = root.sub("features").sub(layer);
            part.map_or(layer.clone(), |part| layer.sub("block").sub(part))
        })?;
        let [first, second] = classifier(kind, false, features.outputs, num_classes);
        let scope = root.sub("classifier");
        let first = Linear::new(&scope.sub(0), first.0, first.1)?;
        // Behind the activation and the dropout.
        let classifier = [first, Linear::new(&scope.sub(3), second.0, second.1)?];
        features.init()?;
        for linear in &classifier {
            init::normal(&linear.weight, 0.01)?;
            init::constant(&linear.bias, 0.0)?;
        }
        store.to(device)?;
        Ok(Self { store, features, classifier, dropout })
    }

    /// The parameters and buffers, under torchvision's names.
    pub fn store(&self) -> &ParameterStore {
        &self.store
    }

    /// Images `[N, 3, H, W]` → logits `[N, num_classes]`.
    ///
    /// # Errors
    /// The input has not three channels, or memory is short.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let map = self.features.after(self.features.until(images, 0, train)?, 0, train)?;
        let hidden = self.classifier[0].forward(&global_average(&map)?)?.f_hardswish()?;
        self.classifier[1].forward(&dropout(&hidden, self.dropout, train)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_parameters_as_torchvisions() {
        for (name, count) in [("mobilenet_v3_large", 5_483_032), ("mobilenet_v3_small", 2_542_856)] {
            let model = MobileNetV3::new(name.parse().unwrap(), 1000, 0.2, Device::Cpu).unwrap();
            assert_eq!(model.store().parameter_count(), (count, count), "{name}");
        }
        let text = "mobilenet".parse::<MobileNetV3Kind>().unwrap_err().to_string();
        assert!(text.contains("available: mobilenet_v3_large, mobilenet_v3_small"), "{text}");
    }
}
