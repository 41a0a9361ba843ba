//! A residual network as an SSD takes it: up to its third layer, which does not stride, and further blocks as on VGG.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::extractor::Extractor;
use super::further::{Further, Step};
use super::options::{is_cropped, sides};
use crate::nn::{LoadOptions, LoadReport, ParameterStore, Scope, StateDict};
use crate::resnet::{ResNetBody, ResNetKind};

/// The map of the third layer, at 1/8 of the size, and those of further blocks, down to a single place.
#[derive(Debug)]
pub struct ResNetExtractor {
    body: ResNetBody,
    channels: i64,
    further: Further,
}

impl ResNetExtractor {
    /// For images of that side.
    pub fn new(scope: &Scope, kind: ResNetKind, size: i64, trainable: usize) -> Result<Self> {
        ensure!(size >= 32, "the size must be at least 32, not {size}");
        ensure!(trainable <= 5, "trainable_layers must lie between 0 and 5, not {trainable}");
        let body = ResNetBody::fine(&scope.sub("body"), kind)?;
        freeze(&scope.sub("body"), trainable);
        let channels = kind.channels()[2];
        let step = |side: i64| if is_cropped(side) { Step::Crop } else { Step::Halve };
        let steps: Vec<Step> = sides(size).into_iter().filter(|side| *side > 1).map(step).collect();
        let further = Further::new(&scope.sub("extra"), 0, channels, &steps)?;
        Ok(Self { body, channels, further })
    }
}

/// Freezes all but the last stages, of five: `conv1`, its norm, `layer1` to `layer3`.
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
        std::iter::once(self.channels).chain(self.further.channels()).collect()
    }

    fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        self.further.extend(vec![self.body.forward(images, train)?.remove(2)])
    }

    /// The last layers of the classifier have no place here.
    fn load(&self, store: &ParameterStore, state: &StateDict) -> Result<LoadReport> {
        let body = state.iter().filter(|(name, _)| !name.starts_with("fc.") && !name.starts_with("layer4."));
        let body = body.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let into = LoadOptions { into_prefix: "backbone.body.".to_owned(), ..LoadOptions::default() };
        store.load_state_dict(&body, &into)
    }
}
