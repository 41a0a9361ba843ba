//! Random rotation, translation, scale and shear.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::geometry::{Affine, Interpolation};
use pipe_data::random::between;
use pipe_data::{Sample, SampleRng, fields, geometry};

/// Randomly rotates, translates, scales and shears the image about its center, keeping its size.
///
/// Boxes become the axis-aligned boxes around the transformed ones, clipped to the image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomAffine {
    /// Rotation by up to this many degrees in either direction.
    #[schemars(range(min = 0, max = 180))]
    #[serde(default)]
    pub degrees: f64,
    /// Translation by up to these fractions of the width and the height in either direction: `[x, y]`.
    #[serde(default)]
    pub translate: [f64; 2],
    /// Minimum and maximum scale.
    #[serde(default = "no_scale")]
    pub scale: [f64; 2],
    /// Shear by up to this many degrees in either direction, along x and y: `[x, y]`.
    #[serde(default)]
    pub shear: [f64; 2],
    /// Interpolation mode: `nearest` or `bilinear`.
    #[serde(default)]
    pub interpolation: Interpolation,
    /// Fill value outside the image: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

fn no_scale() -> [f64; 2] {
    [1.0, 1.0]
}

impl Config for RandomAffine {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_affine";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_affine"
degrees = 10
translate = [0.1, 0.1]
scale = [0.9, 1.1]
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        let [low, high] = self.scale;
        if !(0.0 < low && low <= high) {
            problems.at("scale", "`scale` must be `[min, max]` with both above 0", "for example `[0.9, 1.1]`");
        }
        if self.translate.iter().any(|t| !(0.0..=1.0).contains(t)) {
            problems.at("translate", "translations are fractions between 0 and 1", "for example `[0.1, 0.1]`");
        }
        if self.shear.iter().any(|s| !(0.0..90.0).contains(s)) {
            problems.at("shear", "shears are angles from 0 to below 90 degrees", "for example `[10, 0]`");
        }
        if self.interpolation == Interpolation::Bicubic {
            problems.at("interpolation", "only nearest and bilinear are supported here", "use `bilinear`");
        }
    }
}

impl Component for RandomAffine {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomAffine);

impl Transform for RandomAffine {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let (height, width) = geometry::size(&sample)?;
        let affine = self.draw(height, width, rng);
        geometry::warp(&mut sample, &affine, self.interpolation, &self.fill)?;
        Ok(sample)
    }
}

impl RandomAffine {
    fn draw(&self, height: usize, width: usize, rng: &mut SampleRng) -> Affine {
        let angle = between(rng, [-self.degrees, self.degrees]);
        let mut shift = |fraction: f64, side: usize| {
            let most = fraction * side as f64;
            // Whole pixels, as in torchvision.
            between(rng, [-most, most]).round_ties_even()
        };
        let translate = (shift(self.translate[0], width), shift(self.translate[1], height));
        let scale = between(rng, self.scale);
        let [x, y] = self.shear;
        let shear = (between(rng, [-x, x]), between(rng, [-y, y]));
        Affine::new(angle, translate, scale, shear)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{assert_consistent, boxes, problems, sample, transformed};
    use pipe_data::Field;
    use serde_json::json;

    #[test]
    fn without_strength_nothing_changes() {
        assert_eq!(transformed("random_affine", json!({}), 0), sample());
    }

    #[test]
    fn boxes_hold_their_masks() {
        for i in 0..50 {
            let config = json!({ "degrees": 40, "translate": [0.3, 0.3], "scale": [0.7, 1.5], "shear": [10, 5] });
            let sample = transformed("random_affine", config, i);
            let Some(Field::Masks(masks)) = sample.get(fields::MASKS) else { panic!() };
            let boxes = boxes(&sample);
            assert_eq!(boxes.len(), masks.instances.len());
            for (b, mask) in boxes.iter().zip(&masks.instances) {
                let mask = mask.trimmed();
                assert!(mask.left as f32 + 0.5 >= b[0] && mask.top as f32 + 0.5 >= b[1], "{b:?} {mask:?}");
                assert!((mask.left + mask.width) as f32 - 0.5 <= b[2] && (mask.top + mask.height) as f32 - 0.5 <= b[3]);
            }
        }
    }

    #[test]
    fn a_quarter_turn_and_a_shift_are_exact() {
        let mut given = sample();
        geometry::warp(&mut given, &Affine::new(0.0, (2.0, 1.0), 1.0, (0.0, 0.0)), Interpolation::Bilinear, &[])
            .unwrap();
        assert_eq!(boxes(&given), [[2.0, 1.0, 5.0, 3.0], [6.0, 4.0, 8.0, 6.0]]);
        assert_consistent(&given);
        assert_eq!(
            problems("random_affine", json!({ "scale": [0, 1] })),
            ["scale: `scale` must be `[min, max]` with both above 0"]
        );
    }
}
