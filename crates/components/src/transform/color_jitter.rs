//! Random brightness, contrast, saturation and hue.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use rand::seq::SliceRandom;

use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::random::between;
use pipe_data::{Sample, SampleRng, color, fields};

/// Randomly changes brightness, contrast, saturation and hue, in random order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ColorJitter {
    /// The brightness is multiplied by a factor between `1 - brightness` (at least 0) and `1 + brightness`.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub brightness: f64,
    /// The contrast is multiplied by a factor between `1 - contrast` (at least 0) and `1 + contrast`.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub contrast: f64,
    /// The saturation is multiplied by a factor between `1 - saturation` (at least 0) and `1 + saturation`.
    #[schemars(range(min = 0))]
    #[serde(default)]
    pub saturation: f64,
    /// The hue is shifted by up to this fraction of the color circle in either direction.
    #[schemars(range(min = 0, max = 0.5))]
    #[serde(default)]
    pub hue: f64,
}

impl Config for ColorJitter {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "color_jitter";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "color_jitter"
brightness = 0.4
contrast = 0.4
saturation = 0.4
hue = 0.1
"#;

    fn facts(&self) -> Facts {
        let strengths = [self.brightness, self.contrast, self.saturation, self.hue];
        Facts { random: strengths.iter().any(|strength| *strength > 0.0), ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for ColorJitter {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(ColorJitter);

impl Transform for ColorJitter {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let image = sample.image_mut()?;
        let mut order = [0, 1, 2, 3];
        order.shuffle(rng);
        let factor = |strength: f64, rng: &mut SampleRng| between(rng, [(1.0 - strength).max(0.0), 1.0 + strength]);
        for change in order {
            match change {
                0 if self.brightness > 0.0 => color::adjust_brightness(image, factor(self.brightness, rng)),
                1 if self.contrast > 0.0 => color::adjust_contrast(image, factor(self.contrast, rng)),
                2 if self.saturation > 0.0 => color::adjust_saturation(image, factor(self.saturation, rng)),
                3 if self.hue > 0.0 => color::adjust_hue(image, between(rng, [-self.hue, self.hue])),
                _ => {}
            }
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
    fn pictures_differ_and_nothing_else_does() {
        let config = json!({ "brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2 });
        let (a, b) = (transformed("color_jitter", config.clone(), 0), transformed("color_jitter", config, 1));
        assert_ne!(a.image().unwrap(), b.image().unwrap());
        let restored = a.with(fields::IMAGE, sample().get(fields::IMAGE).unwrap().clone());
        assert_eq!(restored, sample());
        assert_eq!(transformed("color_jitter", json!({}), 0), sample());
    }
}
