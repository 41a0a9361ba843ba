//! VGG: Simonyan and Zisserman, "Very Deep Convolutional Networks" (2015), with torchvision's names; `_bn` with batch norm.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use tch::{Device, Kind, Tensor};

use crate::nn::functional::{channels_last, dropout, max_pool2d};
use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, Linear, Norm, NormKind, ParameterStore, Scope, init};

/// Which network: how many layers it has, and whether with batch norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VggKind {
    layers: u8,
    norm: bool,
}

impl VggKind {
    /// `vgg16`.
    pub const VGG16: Self = Self { layers: 16, norm: false };

    /// Every kind with torchvision's name for it.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self { layers: 11, norm: false }, "vgg11"),
        (Self { layers: 11, norm: true }, "vgg11_bn"),
        (Self { layers: 13, norm: false }, "vgg13"),
        (Self { layers: 13, norm: true }, "vgg13_bn"),
        (Self { layers: 16, norm: false }, "vgg16"),
        (Self { layers: 16, norm: true }, "vgg16_bn"),
        (Self { layers: 19, norm: false }, "vgg19"),
        (Self { layers: 19, norm: true }, "vgg19_bn"),
    ];

    /// Whether it has batch norm.
    pub fn has_norm(self) -> bool {
        self.norm
    }

    /// Convolutions of each stage.
    fn depths(self) -> [usize; 5] {
        match self.layers {
            11 => [1, 1, 2, 2, 2],
            13 => [2, 2, 2, 2, 2],
            16 => [2, 2, 3, 3, 3],
            _ => [2, 2, 4, 4, 4],
        }
    }
}

impl fmt::Display for VggKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::ALL.iter().find(|(kind, _)| kind == self).map_or("vgg", |(_, name)| name))
    }
}

impl FromStr for VggKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
        found.ok_or_else(|| anyhow!("`{text}` is not a VGG; available: {}", Self::ALL.map(|(_, name)| name).join(", ")))
    }
}

/// Channels of each stage.
const CHANNELS: [i64; 5] = [64, 128, 256, 512, 512];
/// Sides of the classifier's input, and the widths of its layers but the last.
const POOLED: i64 = 7;
const WIDTH: i64 = 4096;

/// The convolutions of one size; pooling halves the size after each.
#[derive(Debug)]
pub struct Stage(Vec<(Conv2d, Option<Norm>)>);

impl Stage {
    /// `[N, in, H, W]` → `[N, out, H, W]`.
    ///
    /// # Errors
    /// The input has other channels, or memory is short.
    pub fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        let layer = |map: Tensor, (conv, norm): &(Conv2d, Option<Norm>)| {
            let mut map = match norm {
                Some(norm) => norm.after(conv, &map, train)?,
                None => conv.forward(&map)?,
            };
            anyhow::Ok(map.f_relu_()?)
        };
        self.0.iter().try_fold(input.shallow_clone(), layer)
    }
}

/// The five stages. `place`: where the layer of that number in torchvision's `features` is.
fn stages(kind: VggKind, place: impl Fn(usize) -> Scope) -> Result<Vec<Stage>> {
    let mut position = 0;
    let mut inputs = 3;
    let mut stages = Vec::new();
    for (depth, channels) in kind.depths().into_iter().zip(CHANNELS) {
        let mut layers = Vec::new();
        for _ in 0..depth {
            let options = Conv2dOptions { kernel: 3, padding: 1, ..Default::default() };
            let conv = Conv2d::new(&place(position), inputs, channels, options)?;
            let norm = kind.norm.then(|| Norm::new(&place(position + 1), NormKind::Batch, channels)).transpose()?;
            position += if kind.norm { 3 } else { 2 };
            inputs = channels;
            layers.push((conv, norm));
        }
        position += 1;
        stages.push(Stage(layers));
    }
    Ok(stages)
}

/// The five stages as the backbone of a detector, drawn as torchvision draws them: with a classifier, which is then dropped.
pub(crate) fn backbone(kind: VggKind, place: impl Fn(usize) -> Scope) -> Result<Vec<Stage>> {
    let stages = stages(kind, place)?;
    let layers = classifier(1000);
    for (inputs, outputs) in layers {
        Linear::new(&ParameterStore::new().root(), inputs, outputs)?;
    }
    init(&stages)?;
    for (inputs, outputs) in layers {
        init::normal(&Tensor::f_empty([outputs, inputs], (Kind::Float, Device::Cpu))?, 0.01)?;
    }
    Ok(stages)
}

/// Draws the stages' weights, after the classifier was made.
fn init(stages: &[Stage]) -> Result<()> {
    for (conv, _) in stages.iter().flat_map(|stage| &stage.0) {
        init::kaiming_normal(&conv.weight, Fan::Out)?;
        conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
    }
    Ok(())
}

/// The inputs and outputs of the classifier's layers.
fn classifier(num_classes: i64) -> [(i64, i64); 3] {
    [(CHANNELS[4] * POOLED * POOLED, WIDTH), (WIDTH, WIDTH), (WIDTH, num_classes)]
}

/// A VGG as a classifier.
#[derive(Debug)]
pub struct Vgg {
    store: ParameterStore,
    stages: Vec<Stage>,
    classifier: Vec<Linear>,
    dropout: f64,
}

impl Vgg {
    /// Makes a classifier for `num_classes` classes with fresh weights, on `device`.
    ///
    /// # Errors
    /// `num_classes` is not positive, or the device is absent or out of memory.
    pub fn new(kind: VggKind, num_classes: i64, dropout: f64, device: Device) -> Result<Self> {
        let store = ParameterStore::new();
        let root = store.root();
        let stages = stages(kind, |position| root.sub("features").sub(position))?;
        // torchvision counts each ReLU and dropout as a place of its own.
        let linear = |(index, (inputs, outputs))| Linear::new(&root.sub("classifier").sub(3 * index), inputs, outputs);
        let classifier = classifier(num_classes).into_iter().enumerate().map(linear).collect::<Result<Vec<_>>>()?;
        init(&stages)?;
        for linear in &classifier {
            init::normal(&linear.weight, 0.01)?;
            init::constant(&linear.bias, 0.0)?;
        }
        store.to(device)?;
        Ok(Self { store, stages, classifier, dropout })
    }

    /// The parameters and buffers, under torchvision's names.
    pub fn store(&self) -> &ParameterStore {
        &self.store
    }

    /// Images `[N, 3, H, W]` → logits `[N, num_classes]`.
    ///
    /// # Errors
    /// The input has not three channels or is smaller than 32 pixels, or memory is short.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        let mut map = channels_last(images, train)?;
        for stage in &self.stages {
            map = max_pool2d(&stage.forward(&map, train)?, 2, 2, 0)?;
        }
        let mut out = map.f_adaptive_avg_pool2d([POOLED, POOLED])?.f_flatten(1, -1)?;
        for (index, linear) in self.classifier.iter().enumerate() {
            if index > 0 {
                out = dropout(&out.f_relu_()?, self.dropout, train)?;
            }
            out = linear.forward(&out)?;
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_parameters_as_torchvisions() {
        for (name, count) in [("vgg11", 132_863_336), ("vgg16_bn", 138_365_992)] {
            let model = Vgg::new(name.parse().unwrap(), 1000, 0.5, Device::Cpu).unwrap();
            assert_eq!(model.store().parameter_count(), (count, count), "{name}");
        }
        let text = "vgg12".parse::<VggKind>().unwrap_err().to_string();
        assert!(text.starts_with("`vgg12` is not a VGG; available: vgg11,"), "{text}");
    }
}
