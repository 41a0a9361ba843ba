//! A network with a feature pyramid on top: torchvision's `resnet_fpn_backbone` and `mobilenet_backbone`.

use anyhow::{Result, ensure};
use tch::Tensor;

use super::fpn::FeaturePyramid;
use super::mobilenet_v3::{Features, MobileNetV3Kind};
use super::options::{BackboneKind, BackboneOptions};
use super::resnet::ResNetBody;
use crate::nn::Scope;

#[derive(Debug)]
enum Body {
    ResNet(ResNetBody),
    /// With torchvision's layers at which its stages begin.
    MobileNetV3(Features, Vec<usize>),
}

/// `body` and `fpn`: torchvision's `BackboneWithFPN`.
#[derive(Debug)]
pub struct BackboneWithFpn {
    body: Body,
    fpn: FeaturePyramid,
    returned: Vec<usize>,
}

impl BackboneWithFpn {
    /// torchvision's order of the parts; they are made in another.
    pub(super) const ORDER: [&str; 4] =
        ["backbone.body.", "backbone.fpn.inner_blocks.", "backbone.fpn.layer_blocks.", "backbone."];

    /// Makes the parameters under `scope` and freezes what `options` say.
    ///
    /// # Errors
    /// The options are out of their ranges, or the names are taken.
    pub fn new(scope: &Scope, options: &BackboneOptions) -> Result<Self> {
        let (kind, returned) = (options.kind, &options.returned_layers);
        let (maps, ascending) = (kind.maps(), returned.is_sorted_by(|a, b| a < b));
        ensure!(
            !returned.is_empty() && ascending && returned.iter().all(|layer| maps.contains(layer)),
            "returned_layers of {kind} must be ascending numbers from {} to {}, not {returned:?}",
            maps.start(),
            maps.end()
        );
        ensure!(
            options.trainable_layers <= kind.layers(),
            "trainable_layers of {kind} must lie between 0 and {}, not {}",
            kind.layers(),
            options.trainable_layers
        );
        let body_scope = scope.sub("body");
        let last = returned.last().copied().unwrap_or_default();
        let body = match kind {
            BackboneKind::ResNet(kind) => {
                let body = ResNetBody::backbone(&body_scope, kind, options.norm, last)?;
                freeze_resnet(&body_scope, options.trainable_layers);
                Body::ResNet(body)
            }
            BackboneKind::MobileNetV3(kind) => {
                let features = mobilenet(&body_scope, kind, options, last)?;
                freeze_mobilenet(&body_scope, kind, options.trainable_layers);
                Body::MobileNetV3(features, kind.stages())
            }
        };
        let inputs: Vec<_> = returned.iter().map(|layer| kind.map(*layer).0).collect();
        let (channels, last) = (options.out_channels, options.last_levels);
        let fpn = FeaturePyramid::new(&scope.sub("fpn"), &inputs, channels, options.fpn_norm, last)?;
        Ok(Self { body, fpn, returned: returned.clone() })
    }

    /// Images `[N, 3, H, W]` → the maps of the pyramid, each `[N, out_channels, H', W']`, large first.
    ///
    /// # Errors
    /// The input has not three channels, or memory is short.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Vec<Tensor>> {
        let _part = pipe_native::profile::range("backbone");
        let chosen: Vec<_> = match &self.body {
            Body::ResNet(body) => {
                let maps = body.forward(images, train)?;
                self.returned.iter().map(|layer| maps[layer - 1].shallow_clone()).collect()
            }
            Body::MobileNetV3(features, stages) => {
                let layers: Vec<_> = self.returned.iter().map(|stage| stages[*stage]).collect();
                features.maps(images, &layers, train)?
            }
        };
        self.fpn.forward(&chosen, train)
    }
}

/// The layers up to that of the stage `last`; those behind it are drawn, too, and dropped.
fn mobilenet(body: &Scope, kind: MobileNetV3Kind, options: &BackboneOptions, last: usize) -> Result<Features> {
    let features = Features::new(kind, false, options.norm, |layer, part| {
        let layer = body.sub(layer);
        part.map_or(layer.clone(), |part| layer.sub("block").sub(part))
    })?;
    features.init_as_backbone(kind, false)?;
    let stages = kind.stages();
    let (last, all) = (stages.get(last).copied().unwrap_or(0), stages.last().copied().unwrap_or(0));
    for layer in last + 1..=all {
        body.store().remove(&format!("{}.{layer}.", body.name()));
    }
    Ok(features)
}

/// Freezes all but the last `trainable` of `conv1`, `layer1` … `layer4`; `bn1` is trained only with all five.
fn freeze_resnet(body: &Scope, trainable: usize) {
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

/// Freezes all but the last `trainable` stages.
fn freeze_mobilenet(body: &Scope, kind: MobileNetV3Kind, trainable: usize) {
    let stages = kind.stages();
    let first = stages.len().checked_sub(trainable).and_then(|stage| stages.get(stage).copied());
    let prefix = format!("{}.", body.name());
    body.store().set_trainable(|name| {
        let layer: usize = name.strip_prefix(&prefix)?.split('.').next()?.parse().ok()?;
        Some(first.is_some_and(|first| layer >= first))
    });
}
