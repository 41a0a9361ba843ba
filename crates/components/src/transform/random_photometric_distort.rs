//! Photometric distortion, as for SSD.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use rand::seq::SliceRandom;

use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::random::{between, chance};
use pipe_data::{Sample, SampleRng, color, fields};

/// Randomly distorts brightness, contrast, saturation, hue and the order of the channels, each with probability `p`, as for SSD.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomPhotometricDistort {
    /// Minimum and maximum brightness factor.
    #[serde(default = "brightness")]
    pub brightness: [f64; 2],
    /// Minimum and maximum contrast factor.
    #[serde(default = "wide")]
    pub contrast: [f64; 2],
    /// Minimum and maximum saturation factor.
    #[serde(default = "wide")]
    pub saturation: [f64; 2],
    /// Minimum and maximum shift of the hue, as a fraction of the color circle.
    #[serde(default = "hue")]
    pub hue: [f64; 2],
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "half")]
    pub p: f64,
}

fn brightness() -> [f64; 2] {
    [0.875, 1.125]
}

fn wide() -> [f64; 2] {
    [0.5, 1.5]
}

fn hue() -> [f64; 2] {
    [-0.05, 0.05]
}

fn half() -> f64 {
    0.5
}

impl Config for RandomPhotometricDistort {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_photometric_distort";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_photometric_distort"
p = 0.5
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomPhotometricDistort {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomPhotometricDistort);

impl Transform for RandomPhotometricDistort {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let maybe = |range, rng: &mut SampleRng| chance(rng, self.p).then(|| between(rng, range));
        let (brightness, contrast) = (maybe(self.brightness, rng), maybe(self.contrast, rng));
        let (saturation, hue) = (maybe(self.saturation, rng), maybe(self.hue, rng));
        let contrast_first = chance(rng, 0.5);
        let image = sample.image_mut()?;
        if let Some(factor) = brightness {
            color::adjust_brightness(image, factor);
        }
        if let Some(factor) = contrast.filter(|_| contrast_first) {
            color::adjust_contrast(image, factor);
        }
        if let Some(factor) = saturation {
            color::adjust_saturation(image, factor);
        }
        if let Some(turn) = hue {
            color::adjust_hue(image, turn);
        }
        if let Some(factor) = contrast.filter(|_| !contrast_first) {
            color::adjust_contrast(image, factor);
        }
        if chance(rng, self.p) {
            let mut order = [0, 1, 2];
            order.shuffle(rng);
            color::permute_channels(image, order);
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{sample, transformed};
    use serde_json::json;

    #[test]
    fn only_pictures_change_and_only_when_asked() {
        assert_eq!(transformed("random_photometric_distort", json!({ "p": 0.0 }), 0), sample());
        let changed = transformed("random_photometric_distort", json!({ "p": 1.0 }), 0);
        assert_ne!(changed.image().unwrap(), sample().image().unwrap());
        assert_eq!(changed.with(fields::IMAGE, sample().get(fields::IMAGE).unwrap().clone()), sample());
    }
}
