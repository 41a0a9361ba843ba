//! The settings of the detectors, with torchvision's names and default values.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Result, anyhow, ensure};

use super::fpn::LastLevels;
use super::mobilenet_v3::MobileNetV3Kind;
use super::resnet::ResNetKind;
use crate::nn::NormKind;
use crate::nn::norm::EPS;

/// The network under a pyramid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackboneKind {
    /// A residual network.
    ResNet(ResNetKind),
    /// A MobileNetV3.
    MobileNetV3(MobileNetV3Kind),
}

impl BackboneKind {
    /// torchvision's names of all.
    pub fn names() -> Vec<&'static str> {
        let resnets = ResNetKind::ALL.into_iter().map(|(_, name)| name);
        resnets.chain(MobileNetV3Kind::ALL.into_iter().map(|(_, name)| name)).collect()
    }

    /// How many layers there are to train or to freeze.
    pub fn layers(self) -> usize {
        match self {
            Self::ResNet(_) => 5,
            Self::MobileNetV3(kind) => kind.stages().len(),
        }
    }

    /// The layers whose maps a pyramid can be made of.
    pub fn maps(self) -> RangeInclusive<usize> {
        match self {
            Self::ResNet(_) => 1..=4,
            Self::MobileNetV3(kind) => 0..=kind.stages().len() - 1,
        }
    }

    /// Those of which torchvision makes it.
    pub fn usual_maps(self) -> Vec<usize> {
        match self {
            Self::ResNet(_) => vec![1, 2, 3, 4],
            Self::MobileNetV3(kind) => vec![kind.stages().len() - 2, kind.stages().len() - 1],
        }
    }

    /// Channels of the map of one of those, and its stride in pixels.
    pub fn map(self, layer: usize) -> (i64, i64) {
        match self {
            Self::ResNet(kind) => (kind.channels()[layer.clamp(1, 4) - 1], 2 << layer),
            Self::MobileNetV3(kind) => kind.map(kind.stages().get(layer).copied().unwrap_or(0)),
        }
    }
}

impl From<ResNetKind> for BackboneKind {
    fn from(kind: ResNetKind) -> Self {
        Self::ResNet(kind)
    }
}

impl From<MobileNetV3Kind> for BackboneKind {
    fn from(kind: MobileNetV3Kind) -> Self {
        Self::MobileNetV3(kind)
    }
}

impl fmt::Display for BackboneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResNet(kind) => kind.fmt(f),
            Self::MobileNetV3(kind) => kind.fmt(f),
        }
    }
}

impl FromStr for BackboneKind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mobile = text.parse().map(Self::MobileNetV3);
        mobile
            .or_else(|_| text.parse().map(Self::ResNet))
            .map_err(|_: anyhow::Error| anyhow!("`{text}` is not a backbone; available: {}", Self::names().join(", ")))
    }
}

/// The settings of a [`super::backbone::BackboneWithFpn`].
#[derive(Debug, Clone, PartialEq)]
pub struct BackboneOptions {
    /// The network.
    pub kind: BackboneKind,
    /// The network's normalisation. torchvision: frozen when starting from trained weights, batch otherwise.
    pub norm: NormKind,
    /// The pyramid's normalisation; none in V1, batch in V2.
    pub fpn_norm: Option<NormKind>,
    /// Layers trained, counted from the last, at most [`BackboneKind::layers`]. torchvision: 3 when starting from trained weights, all
    /// otherwise.
    pub trainable_layers: usize,
    /// Layers whose maps go into the pyramid, ascending, of [`BackboneKind::maps`].
    pub returned_layers: Vec<usize>,
    /// The maps on top of theirs.
    pub last_levels: LastLevels,
    /// Channels of every map of the pyramid; torchvision: 256.
    pub out_channels: i64,
}

impl BackboneOptions {
    /// For starting from trained weights: frozen norms, the last three layers trained.
    pub fn pretrained(kind: impl Into<BackboneKind>) -> Self {
        let kind = kind.into();
        Self {
            kind,
            norm: NormKind::Frozen { eps: EPS },
            fpn_norm: None,
            trainable_layers: 3,
            returned_layers: kind.usual_maps(),
            last_levels: LastLevels::MaxPool,
            out_channels: 256,
        }
    }

    /// Maps in the pyramid.
    pub fn levels(&self) -> usize {
        self.returned_layers.len() + self.last_levels.count()
    }

    /// The stride of each map, in pixels.
    pub fn strides(&self) -> Vec<f64> {
        let mut strides: Vec<_> = self.returned_layers.iter().map(|layer| self.kind.map(*layer).1 as f64).collect();
        for _ in 0..self.last_levels.count() {
            strides.push(strides.last().copied().unwrap_or(1.0) * 2.0);
        }
        strides
    }

    /// Whether there are anchors for each map.
    ///
    /// # Errors
    /// There are not.
    pub fn check_anchors(&self, levels: usize) -> Result<()> {
        let (own, extra) = (self.levels(), self.last_levels.count());
        ensure!(
            levels == own,
            "anchor_sizes are given for {levels} levels; the FPN has {own} (one for each of returned_layers, and {extra} extra)"
        );
        Ok(())
    }

    /// For starting from nothing: batch norms, everything trained.
    pub fn scratch(kind: impl Into<BackboneKind>) -> Self {
        let kind = kind.into();
        Self { norm: NormKind::Batch, trainable_layers: kind.layers(), ..Self::pretrained(kind) }
    }
}
