//! A residual network as an SSD takes it: up to its third layer, which does not stride, and further blocks as on VGG, with norms.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::Extractor;
use super::options::{is_cropped, sides};
use crate::nn::{
    Conv2d, Conv2dOptions, LoadOptions, LoadReport, Norm, NormKind, ParameterStore, Scope, StateDict, init,
};
use crate::resnet::{ResNetBody, ResNetKind};

/// Two convolutions with norms.
type Block = [(Conv2d, Norm); 2];

/// The map of the third layer, at 1/8 of the size, and those of further blocks, down to a single place.
#[derive(Debug)]
pub struct ResNetExtractor {
    body: ResNetBody,
    channels: i64,
    extra: Vec<Block>,
}

impl ResNetExtractor {
    /// For images of that side.
    pub fn new(scope: &Scope, kind: ResNetKind, size: i64, trainable: usize) -> Result<Self> {
        ensure!(size >= 32, "the size must be at least 32, not {size}");
        ensure!(trainable <= 5, "trainable_layers must lie between 0 and 5, not {trainable}");
        let body = ResNetBody::fine(&scope.sub("body"), kind)?;
        freeze(&scope.sub("body"), trainable);
        let channels = kind.channels()[2];
        let (mut inputs, mut extra) = (channels, Vec::new());
        for (index, below) in sides(size).iter().filter(|side| **side > 1).enumerate() {
            let (middle, outputs) = if index < 2 { (256, 512) } else { (128, 256) };
            let scope = scope.sub("extra").sub(index);
            let conv = |place: usize, from, to, options| {
                let options = Conv2dOptions { bias: false, ..options };
                let conv = Conv2d::new(&scope.sub(place), from, to, options)?;
                init::xavier_uniform(&conv.weight)?;
                anyhow::Ok((conv, Norm::new(&scope.sub(place + 1), NormKind::Batch, to)?))
            };
            let (stride, padding) = if is_cropped(*below) { (1, 0) } else { (2, 1) };
            let step = Conv2dOptions { kernel: 3, stride, padding, ..Default::default() };
            extra.push([conv(0, inputs, middle, Conv2dOptions::default())?, conv(3, middle, outputs, step)?]);
            inputs = outputs;
        }
        Ok(Self { body, channels, extra })
    }
}

/// Freezes all but the last stages: of five, with all of them also `conv1` and its norm, with three `layer1` to `layer3`.
fn freeze(body: &Scope, trainable: usize) {
    let trained = &["layer3.", "layer2.", "layer1.", "bn1.", "conv1."][..trainable];
    let prefix = format!("{}.", body.name());
    body.store().set_trainable(|name| {
        let part = name.strip_prefix(&prefix)?;
        Some(trained.iter().any(|layer| part.starts_with(layer)))
    });
}

impl Extractor for ResNetExtractor {
    fn channels(&self) -> Vec<i64> {
        let extra = self.extra.iter().map(|[_, (last, _)]| last.weight.size()[0]);
        std::iter::once(self.channels).chain(extra).collect()
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let mut map = self.body.forward(images, train)?.remove(2);
        let mut maps = vec![map.shallow_clone()];
        for block in &self.extra {
            for (conv, norm) in block {
                map = norm.after(conv, &map, train)?.f_relu_()?;
            }
            maps.push(map.shallow_clone());
        }
        Ok(maps)
    }

    /// The last layers of the classifier have no place here.
    fn load(&self, store: &ParameterStore, state: &StateDict) -> Result<LoadReport> {
        let body = state.iter().filter(|(name, _)| !name.starts_with("fc.") && !name.starts_with("layer4."));
        let body = body.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let into = LoadOptions { into_prefix: "backbone.body.".to_owned(), ..LoadOptions::default() };
        store.load_state_dict(&body, &into)
    }
}
