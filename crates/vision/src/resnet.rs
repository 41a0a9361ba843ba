//! Residual networks: He et al., "Deep Residual Learning" (2015), ResNeXt (Xie et al. 2017), Wide ResNet (Zagoruyko and
//! Komodakis 2016), with torchvision's names. As there, a bottleneck strides in its 3×3 convolution ("V1.5").

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use tch::{Device, Tensor};

use crate::nn::functional::{channels_last, global_average, max_pool2d};
use crate::nn::init::Fan;
use crate::nn::{Conv2d, Conv2dOptions, Linear, Norm, NormKind, ParameterStore, Scope, init};

/// Which residual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are torchvision's and speak for themselves.
pub enum ResNetKind {
    ResNet18,
    ResNet34,
    ResNet50,
    ResNet101,
    ResNet152,
    ResNext50_32x4d,
    ResNext101_32x8d,
    ResNext101_64x4d,
    WideResNet50_2,
    WideResNet101_2,
}

/// Depths of the four layers, whether blocks are bottlenecks, groups and width of a group.
struct Shape {
    blocks: [usize; 4],
    bottleneck: bool,
    groups: i64,
    width: i64,
}

impl ResNetKind {
    /// Every kind with torchvision's name for it.
    pub const ALL: [(Self, &'static str); 10] = [
        (Self::ResNet18, "resnet18"),
        (Self::ResNet34, "resnet34"),
        (Self::ResNet50, "resnet50"),
        (Self::ResNet101, "resnet101"),
        (Self::ResNet152, "resnet152"),
        (Self::ResNext50_32x4d, "resnext50_32x4d"),
        (Self::ResNext101_32x8d, "resnext101_32x8d"),
        (Self::ResNext101_64x4d, "resnext101_64x4d"),
        (Self::WideResNet50_2, "wide_resnet50_2"),
        (Self::WideResNet101_2, "wide_resnet101_2"),
    ];

    fn shape(self) -> Shape {
        let (blocks, bottleneck) = match self {
            Self::ResNet18 => ([2, 2, 2, 2], false),
            Self::ResNet34 => ([3, 4, 6, 3], false),
            Self::ResNet50 | Self::ResNext50_32x4d | Self::WideResNet50_2 => ([3, 4, 6, 3], true),
            Self::ResNet152 => ([3, 8, 36, 3], true),
            Self::ResNet101 | Self::ResNext101_32x8d | Self::ResNext101_64x4d | Self::WideResNet101_2 => {
                ([3, 4, 23, 3], true)
            }
        };
        let (groups, width) = match self {
            Self::ResNext50_32x4d => (32, 4),
            Self::ResNext101_32x8d => (32, 8),
            Self::ResNext101_64x4d => (64, 4),
            Self::WideResNet50_2 | Self::WideResNet101_2 => (1, 128),
            _ => (1, 64),
        };
        Shape { blocks, bottleneck, groups, width }
    }

    /// Channels of the maps that `layer1` to `layer4` give.
    pub fn channels(self) -> [i64; 4] {
        let expansion = if self.shape().bottleneck { 4 } else { 1 };
        [64, 128, 256, 512].map(|planes| planes * expansion)
    }
}

impl fmt::Display for ResNetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(kind, _)| kind == self).map_or("resnet", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for ResNetKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|(_, name)| *name).collect();
            anyhow!("`{text}` is not a ResNet; available: {}", names.join(", "))
        })
    }
}

/// How far apart a block's 3×3 convolution looks, and how far it steps.
#[derive(Debug, Clone, Copy)]
struct Reach {
    stride: i64,
    dilation: i64,
}

/// How much of a body is made, and how coarse its maps become.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// `layer1` to `layer<layers>`.
    layers: usize,
    late: Late,
}

/// What `layer3` and `layer4` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Late {
    /// Halve the map.
    Stride,
    /// Leave it at 1/8 of the size and dilate instead: torchvision's `replace_stride_with_dilation=[False, True, True]`.
    Dilate,
    /// Leave it there.
    Stay,
}

impl Extent {
    const WHOLE: Extent = Extent { layers: 4, late: Late::Stride };

    /// What the first block of a layer does and what the others do; the dilation grows from layer to layer.
    fn reaches(self, layer: usize) -> [Reach; 2] {
        let stride = if layer == 0 || self.late != Late::Stride && layer >= 2 { 1 } else { 2 };
        let dilation = |layer: usize| if self.late == Late::Dilate && layer >= 2 { 1 << (layer - 1) } else { 1 };
        [Reach { stride, dilation: dilation(layer.saturating_sub(1)) }, Reach { stride: 1, dilation: dilation(layer) }]
    }
}

/// A residual block: convolutions and norms in order, and the projection of the shortcut where shapes differ.
#[derive(Debug)]
struct Block {
    convs: Vec<(Conv2d, Norm)>,
    downsample: Option<(Conv2d, Norm)>,
}

impl Block {
    fn new(scope: &Scope, (inputs, planes): (i64, i64), reach: Reach, shape: &Shape, norm: NormKind) -> Result<Self> {
        let Reach { stride, dilation } = reach;
        let conv = |index: usize, from: i64, to: i64, options: Conv2dOptions| {
            let padding = (options.kernel - 1) / 2 * options.dilation;
            let options = Conv2dOptions { padding, bias: false, ..options };
            let conv = Conv2d::new(&scope.sub(format!("conv{index}")), from, to, options)?;
            anyhow::Ok((conv, Norm::new(&scope.sub(format!("bn{index}")), norm, to)?))
        };
        let plain = Conv2dOptions::default();
        let (outputs, convs) = if shape.bottleneck {
            let width = planes * shape.width / 64 * shape.groups;
            let middle = Conv2dOptions { kernel: 3, stride, dilation, groups: shape.groups, ..plain };
            let convs = vec![
                conv(1, inputs, width, plain)?,
                conv(2, width, width, middle)?,
                conv(3, width, planes * 4, plain)?,
            ];
            (planes * 4, convs)
        } else {
            let first = conv(1, inputs, planes, Conv2dOptions { kernel: 3, stride, ..plain })?;
            (planes, vec![first, conv(2, planes, planes, Conv2dOptions { kernel: 3, ..plain })?])
        };
        let downsample = (stride != 1 || inputs != outputs).then(|| {
            let scope = scope.sub("downsample");
            let options = Conv2dOptions { stride, bias: false, ..plain };
            let conv = Conv2d::new(&scope.sub(0), inputs, outputs, options)?;
            anyhow::Ok((conv, Norm::new(&scope.sub(1), norm, outputs)?))
        });
        Ok(Self { convs, downsample: downsample.transpose()? })
    }

    fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        let mut out = input.shallow_clone();
        for (index, (conv, norm)) in self.convs.iter().enumerate() {
            if index > 0 {
                out = out.f_relu_()?;
            }
            out = norm.after(conv, &out, train)?;
        }
        let shortcut = match &self.downsample {
            Some((conv, norm)) => norm.after(conv, input, train)?,
            None => input.shallow_clone(),
        };
        Ok(out.f_add_(&shortcut)?.f_relu_()?)
    }

    fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        self.convs.iter().chain(&self.downsample).map(|(conv, _)| conv)
    }
}

/// The convolutional part of a residual network: `conv1`, `bn1`, `layer1` … `layer4`.
#[derive(Debug)]
pub struct ResNetBody {
    conv1: Conv2d,
    bn1: Norm,
    layers: Vec<Vec<Block>>,
}

impl ResNetBody {
    /// Makes the parameters under `scope`. Initial values are drawn only by [`Self::init`].
    fn new(scope: &Scope, kind: ResNetKind, norm: NormKind, extent: Extent) -> Result<Self> {
        let stem = Conv2dOptions { kernel: 7, stride: 2, padding: 3, bias: false, ..Default::default() };
        let conv1 = Conv2d::new(&scope.sub("conv1"), 3, 64, stem)?;
        let bn1 = Norm::new(&scope.sub("bn1"), norm, 64)?;
        let (shape, channels) = (kind.shape(), kind.channels());
        let mut layers = Vec::new();
        let mut inputs = 64;
        for (index, planes) in [64, 128, 256, 512].into_iter().enumerate().take(extent.layers) {
            let [first, others] = extent.reaches(index);
            let scope = scope.sub(format!("layer{}", index + 1));
            let mut blocks = Vec::new();
            for block in 0..shape.blocks[index] {
                let reach = if block == 0 { first } else { others };
                blocks.push(Block::new(&scope.sub(block), (inputs, planes), reach, &shape, norm)?);
                inputs = channels[index];
            }
            layers.push(blocks);
        }
        Ok(Self { conv1, bn1, layers })
    }

    /// A body up to `layer<layers>` as the backbone of a detector, drawn as torchvision draws it: with the layers behind it and a
    /// classifier, which are then dropped.
    ///
    /// # Errors
    /// The names are taken.
    pub fn backbone(scope: &Scope, kind: ResNetKind, norm: NormKind, layers: usize) -> Result<Self> {
        let mut body = Self::drawn(scope, kind, norm, Extent::WHOLE)?;
        for dropped in layers..body.layers.len() {
            scope.store().remove(&format!("{}.layer{}.", scope.name(), dropped + 1));
        }
        body.layers.truncate(layers);
        Ok(body)
    }

    /// A body up to `layer<layers>` as the backbone of a segmentation network, drawn likewise. Networks of bottlenecks dilate their
    /// `layer3` and `layer4`; basic blocks cannot, as in torchvision, and stride.
    ///
    /// # Errors
    /// The names are taken.
    pub fn dilated(scope: &Scope, kind: ResNetKind, layers: usize) -> Result<Self> {
        let late = if kind.shape().bottleneck { Late::Dilate } else { Late::Stride };
        Self::drawn(scope, kind, NormKind::Batch, Extent { layers, late })
    }

    /// A body up to `layer3`, whose map stays at 1/8 of the size, as the backbone of an SSD.
    ///
    /// # Errors
    /// The names are taken.
    pub fn fine(scope: &Scope, kind: ResNetKind) -> Result<Self> {
        Self::drawn(scope, kind, NormKind::Batch, Extent { layers: 3, late: Late::Stay })
    }

    fn drawn(scope: &Scope, kind: ResNetKind, norm: NormKind, extent: Extent) -> Result<Self> {
        let body = Self::new(scope, kind, norm, extent)?;
        Linear::new(&ParameterStore::new().root(), kind.channels()[3], 1000)?;
        body.init()?;
        Ok(body)
    }

    fn init(&self) -> Result<()> {
        let blocks = self.layers.iter().flatten().flat_map(Block::convolutions);
        std::iter::once(&self.conv1).chain(blocks).try_for_each(|conv| init::kaiming_normal(&conv.weight, Fan::Out))
    }

    /// Images `[N, 3, H, W]` → the maps of `layer1` to the last layer, at 1/4 to 1/32 of the size (1/8 where dilated).
    ///
    /// # Errors
    /// The input has not three channels, or memory is short.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let images = channels_last(images, train)?;
        let stem = self.bn1.after(&self.conv1, &images, train)?.f_relu_()?;
        let mut map = max_pool2d(&stem, 3, 2, 1)?;
        let mut maps = Vec::with_capacity(self.layers.len());
        for blocks in &self.layers {
            for block in blocks {
                map = block.forward(&map, train)?;
            }
            maps.push(map.shallow_clone());
        }
        Ok(maps)
    }
}

/// A residual network as a classifier.
#[derive(Debug)]
pub struct ResNet {
    store: ParameterStore,
    body: ResNetBody,
    fc: Linear,
}

impl ResNet {
    /// Makes a classifier for `num_classes` classes with fresh weights, on `device`.
    ///
    /// # Errors
    /// `num_classes` is not positive, or the device is absent or out of memory.
    pub fn new(kind: ResNetKind, num_classes: i64, norm: NormKind, device: Device) -> Result<Self> {
        let store = ParameterStore::new();
        let root = store.root();
        let body = ResNetBody::new(&root, kind, norm, Extent::WHOLE)?;
        let fc = Linear::new(&root.sub("fc"), kind.channels()[3], num_classes)?;
        body.init()?;
        store.to(device)?;
        Ok(Self { store, body, fc })
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
        let maps = self.body.forward(images, train)?;
        self.fc.forward(&global_average(&maps[maps.len() - 1])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_parameters_as_torchvisions() {
        for (kind, count) in [
            (ResNetKind::ResNet18, 11_689_512),
            (ResNetKind::ResNet50, 25_557_032),
            (ResNetKind::ResNext50_32x4d, 25_028_904),
            (ResNetKind::WideResNet50_2, 68_883_240),
        ] {
            let model = ResNet::new(kind, 1000, NormKind::Batch, Device::Cpu).unwrap();
            assert_eq!(model.store().parameter_count(), (count, count), "{kind}");
            if kind == ResNetKind::ResNext50_32x4d {
                let images = Tensor::zeros([1, 3, 64, 64], (tch::Kind::Float, Device::Cpu));
                assert_eq!(model.forward(&images, false).unwrap().size(), [1, 1000]);
            }
        }
    }

    #[test]
    fn names_are_read_and_written() {
        for (kind, name) in ResNetKind::ALL {
            assert_eq!(kind.to_string(), name);
            assert_eq!(name.parse::<ResNetKind>().unwrap(), kind);
        }
        let text = "resnet51".parse::<ResNetKind>().unwrap_err().to_string();
        assert!(text.starts_with("`resnet51` is not a ResNet; available: resnet18,"), "{text}");
    }
}
