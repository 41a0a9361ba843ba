//! Random rotation.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::geometry::{Affine, Interpolation};
use pipe_data::random::between;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Rotates the image about its center by a random angle (torchvision's `RandomRotation`).
///
/// Boxes become the axis-aligned boxes around the rotated ones, clipped to the image.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomRotation {
    /// Minimum and maximum angle in degrees, counterclockwise.
    pub degrees: [f64; 2],
    /// Whether the image grows so that all of it is seen; otherwise it keeps its size, and its corners are cut off.
    #[serde(default)]
    pub expand: bool,
    /// Interpolation mode: `nearest` or `bilinear`.
    #[serde(default = "nearest")]
    pub interpolation: Interpolation,
    /// Fill value outside the image: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

fn nearest() -> Interpolation {
    Interpolation::Nearest
}

impl Config for RandomRotation {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_rotation";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_rotation"
degrees = [-15, 15]
interpolation = "bilinear"
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.degrees[0] < self.degrees[1], ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        if self.degrees[0] > self.degrees[1] {
            problems.at("degrees", "the minimum is larger than the maximum", "for example `[-15, 15]`");
        }
        if self.interpolation == Interpolation::Bicubic {
            problems.at("interpolation", "only nearest and bilinear are supported here", "use `bilinear`");
        }
    }
}

impl Component for RandomRotation {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomRotation);

impl Transform for RandomRotation {
    fn largest(&self, extent: Extent) -> Extent {
        if !self.expand {
            return extent;
        }
        // No side of a turned image is longer than its diagonal, rounded up at both ends.
        let diagonal = (extent.height as f64).hypot(extent.width as f64).ceil() as usize + 2;
        extent.resized([diagonal, diagonal])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let size = geometry::size(&sample)?;
        let affine = Affine::new(-between(rng, self.degrees), (0.0, 0.0), 1.0, (0.0, 0.0));
        let to = if self.expand { affine.expanded(size) } else { size };
        geometry::warp_to(&mut sample, &affine, to, self.interpolation, &self.fill)?;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{assert_consistent, boxes, problems, sample, transformed};
    use serde_json::json;

    #[test]
    fn a_quarter_turn_is_exact() {
        let turned = transformed("random_rotation", json!({ "degrees": [90, 90], "expand": true }), 0);
        assert_eq!((turned.image().unwrap().height, turned.image().unwrap().width), (8, 6));
        assert_consistent(&turned);
        assert_eq!(boxes(&turned), [[0.0, 5.0, 2.0, 8.0], [3.0, 0.0, 6.0, 4.0]]);
        let four = (0..4).fold(sample(), |sample, _| {
            crate::transform::testing::apply(
                "random_rotation",
                json!({ "degrees": [90, 90], "expand": true }),
                sample,
                0,
            )
        });
        assert_eq!(four.image().unwrap(), sample().image().unwrap());
        assert_eq!(problems("random_rotation", json!({ "degrees": [10, -10] })).len(), 1);
    }

    #[test]
    fn no_image_is_larger_than_what_is_foretold() {
        let config: RandomRotation = serde_json::from_value(json!({ "degrees": [-180, 180], "expand": true })).unwrap();
        let largest = config.largest(Extent { height: 6, width: 8, objects: 2 });
        for i in 0..50 {
            let turned = transformed("random_rotation", json!({ "degrees": [-180, 180], "expand": true }), i);
            let image = turned.image().unwrap();
            assert!(image.height <= largest.height && image.width <= largest.width, "{} {}", image.height, image.width);
        }
    }
}
