//! A residual network with a feature pyramid on top: torchvision's `resnet_fpn_backbone`.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::fpn::FeaturePyramid;
use super::options::BackboneOptions;
use super::resnet::ResNetBody;
use crate::nn::Scope;

/// Channels of every map of the pyramid, as in torchvision.
pub const OUT_CHANNELS: i64 = 256;

/// `body` and `fpn`.
#[derive(Debug)]
pub struct ResNetFpn {
    body: ResNetBody,
    fpn: FeaturePyramid,
    returned: Vec<usize>,
}

impl ResNetFpn {
    /// torchvision's order of the parts; they are made in another.
    pub(super) const ORDER: [&str; 4] =
        ["backbone.body.", "backbone.fpn.inner_blocks.", "backbone.fpn.layer_blocks.", "backbone."];

    /// Makes the parameters under `scope` and freezes what `options` say.
    ///
    /// # Errors
    /// The options are out of their ranges, or the names are taken.
    pub fn new(scope: &Scope, options: &BackboneOptions) -> Result<Self> {
        let returned = &options.returned_layers;
        let ascending = returned.is_sorted_by(|a, b| a < b);
        ensure!(
            !returned.is_empty() && ascending && returned.iter().all(|layer| (1..=4).contains(layer)),
            "returned_layers must be ascending numbers from 1 to 4, not {returned:?}"
        );
        ensure!(
            options.trainable_layers <= 5,
            "trainable_layers must lie between 0 and 5, not {}",
            options.trainable_layers
        );
        let body_scope = scope.sub("body");
        let last = returned.last().copied().unwrap_or_default();
        let body = ResNetBody::backbone(&body_scope, options.kind, options.norm, last)?;
        let channels = options.kind.channels();
        let inputs: Vec<_> = returned.iter().map(|layer| channels[layer - 1]).collect();
        freeze(&body_scope, options.trainable_layers);
        let fpn = FeaturePyramid::new(&scope.sub("fpn"), &inputs, OUT_CHANNELS, options.fpn_norm, options.last_levels)?;
        Ok(Self { body, fpn, returned: returned.clone() })
    }

    /// Images `[N, 3, H, W]` → the maps of the pyramid, each `[N, 256, H', W']`, large first.
    ///
    /// # Errors
    /// The input has not three channels, or memory is short.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let _part = pipe_native::profile::range("backbone");
        let maps = self.body.forward(images, train)?;
        let chosen: Vec<_> = self.returned.iter().map(|layer| maps[layer - 1].shallow_clone()).collect();
        self.fpn.forward(&chosen, train)
    }
}

/// Freezes all but the last `trainable` of `conv1`, `layer1` … `layer4`; `bn1` is trained only with all five.
fn freeze(body: &Scope, trainable: usize) {
    let mut trained = vec!["layer4", "layer3", "layer2", "layer1", "conv1"];
    trained.truncate(trainable);
    if trainable == 5 {
        trained.push("bn1");
    }
    let prefix = format!("{}.", body.name());
    body.store().set_trainable(|name| {
        let part = name.strip_prefix(&prefix)?;
        Some(trained.iter().any(|layer| part.starts_with(layer)))
    });
}
