//! MobileNetV3 as SSDlite takes it: section 6.3 of its paper. torchvision's `SSDLiteFeatureExtractorMobileNet`.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::extractor::Extractor;
use crate::conv_block::{Activation, ConvBlock};
use crate::mobilenet_v3::{Features, MobileNetV3Kind};
use crate::nn::{Conv2dOptions, LoadOptions, LoadReport, NormKind, ParameterStore, Scope, StateDict, init};

/// The norm of all layers.
const NORM: NormKind = NormKind::BatchOf { eps: 0.001, momentum: 0.03 };
/// The deviation of fresh weights.
pub(super) const DEVIATION: f64 = 0.03;
/// torchvision's layer of which only the first part gives the first map: the last that strides, `C4`.
const C4: usize = 13;
/// Channels of the further maps.
const EXTRA: [i64; 4] = [512, 256, 256, 128];

/// A convolution of each channel by itself.
pub(super) fn depthwise(scope: &Scope, channels: i64, stride: i64) -> Result<ConvBlock> {
    let options = Conv2dOptions { kernel: 3, stride, groups: channels, ..Default::default() };
    ConvBlock::with(scope, (channels, channels), options, Some(NORM), Activation::Relu6)
}

/// The map within `C4`, the last, and those of further blocks.
#[derive(Debug)]
pub struct MobileNetExtractor {
    features: Features,
    extra: Vec<[ConvBlock; 3]>,
    expanded: i64,
}

impl MobileNetExtractor {
    pub fn new(scope: &Scope, reduced_tail: bool, trainable: usize) -> Result<Self> {
        ensure!(trainable <= 6, "trainable_layers must lie between 0 and 6, not {trainable}");
        let kind = MobileNetV3Kind::Large;
        let (first, second) = (scope.sub("features").sub(0), scope.sub("features").sub(1));
        let features = Features::new(kind, reduced_tail, NORM, |layer, part| match (layer, part) {
            (C4, Some(0)) => first.sub(C4),
            (C4, Some(part)) => second.sub(0).sub(part),
            (layer, part) => {
                let layer = if layer < C4 { first.sub(layer) } else { second.sub(layer - C4) };
                part.map_or(layer.clone(), |part| layer.sub("block").sub(part))
            }
        })?;
        features.init_as_backbone(kind, reduced_tail)?;
        if reduced_tail {
            // From nothing, torchvision draws otherwise than for the classifier.
            for conv in features.convolutions() {
                init::normal(&conv.weight, DEVIATION)?;
                conv.bias.iter().try_for_each(|bias| init::constant(bias, 0.0))?;
            }
        }
        freeze(scope, trainable);
        let (mut inputs, mut extra) = (features.outputs, Vec::new());
        for (index, outputs) in EXTRA.into_iter().enumerate() {
            let scope = scope.sub("extra").sub(index);
            let middle = outputs / 2;
            let project = |place: usize, channels| {
                let plain = Conv2dOptions::default();
                ConvBlock::with(&scope.sub(place), channels, plain, Some(NORM), Activation::Relu6)
            };
            let narrow = project(0, (inputs, middle))?;
            let halve = depthwise(&scope.sub(1), middle, 2)?;
            extra.push([narrow, halve, project(2, (middle, outputs))?]);
            inputs = outputs;
        }
        extra.iter().flatten().try_for_each(|block| block.init_deviation(DEVIATION))?;
        let expanded = features.blocks[C4 - 1].expanded();
        Ok(Self { features, extra, expanded })
    }
}

/// The place of each tensor of a classifier.
fn place(layer: usize, rest: &str) -> String {
    match (layer, rest.strip_prefix("block.")) {
        (C4, Some(rest)) => match rest.strip_prefix("0.") {
            Some(leaf) => format!("0.{C4}.{leaf}"),
            None => format!("1.0.{rest}"),
        },
        (layer, _) if layer < C4 => format!("0.{layer}.{rest}"),
        (layer, _) => format!("1.{}.{rest}", layer - C4),
    }
}

/// Freezes all but the last stages, of six.
fn freeze(scope: &Scope, trainable: usize) {
    const BEGINS: [usize; 6] = [0, 2, 4, 7, C4, 16];
    let first = if trainable == 0 { usize::MAX } else { BEGINS[6 - trainable] };
    let prefix = format!("{}.features.", scope.name());
    scope.store().set_trainable(|name| {
        let (half, rest) = name.strip_prefix(&prefix)?.split_once('.')?;
        let layer: usize = rest.split('.').next()?.parse().ok()?;
        Some(if half == "0" { layer } else { layer + C4 } >= first)
    });
}

impl Extractor for MobileNetExtractor {
    fn channels(&self) -> Vec<i64> {
        [self.expanded, self.features.outputs].into_iter().chain(EXTRA).collect()
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let block = C4 - 1;
        let expanded = self.features.blocks[block].expand(&self.features.until(images, block, train)?, train)?;
        let narrow = self.features.blocks[block].narrow(&expanded, train)?;
        let mut map = self.features.after(narrow, block + 1, train)?;
        let mut maps = vec![expanded, map.shallow_clone()];
        for block in &self.extra {
            map = block.iter().try_fold(map, |map, conv| conv.forward(&map, train))?;
            maps.push(map.shallow_clone());
        }
        Ok(maps)
    }

    /// MobileNet's classifier has no place here.
    fn load(&self, store: &ParameterStore, state: &StateDict) -> Result<LoadReport> {
        let renamed = |name: &str| {
            let (layer, rest) = name.strip_prefix("features.")?.split_once('.')?;
            Some(place(layer.parse().ok()?, rest))
        };
        let used = state.iter().filter(|(name, _)| !name.starts_with("classifier."));
        let used = used.map(|(name, tensor)| (renamed(name).unwrap_or_else(|| name.clone()), tensor.shallow_clone()));
        let into = LoadOptions { into_prefix: "backbone.features.".to_owned(), ..LoadOptions::default() };
        store.load_state_dict(&used.collect(), &into)
    }
}
