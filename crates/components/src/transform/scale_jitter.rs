//! Large-scale jitter.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Size2d};
use pipe_data::geometry::Interpolation;
use pipe_data::random::between;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Resizes the image to fit `size` times a random factor (large-scale jitter); usually followed by `fixed_size_crop`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleJitter {
    /// Target size at factor 1: `[height, width]`, or one number for a square.
    pub size: Size2d,
    /// Minimum and maximum scale factor.
    #[serde(default = "scale")]
    pub scale: [f64; 2],
    /// Interpolation mode.
    #[serde(default)]
    pub interpolation: Interpolation,
}

fn scale() -> [f64; 2] {
    [0.1, 2.0]
}

impl Config for ScaleJitter {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "scale_jitter";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "scale_jitter"
size = 1024
scale = [0.1, 2.0]
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
            problems.at("scale", "`scale` must be `[min, max]` with both above 0", "for example `[0.1, 2.0]`");
        }
    }
}

impl Component for ScaleJitter {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(ScaleJitter);

impl Transform for ScaleJitter {
    fn largest(&self, extent: Extent) -> Extent {
        let (height, width) = self.scaled(extent.height, extent.width, self.scale[1]);
        extent.resized([height, width])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let (height, width) = geometry::size(&sample)?;
        let (height, width) = self.scaled(height, width, between(rng, self.scale));
        geometry::resize(&mut sample, height, width, self.interpolation)?;
        Ok(sample)
    }
}

impl ScaleJitter {
    fn scaled(&self, height: usize, width: usize, factor: f64) -> (usize, usize) {
        let fit = (f64::from(self.size.height) / height as f64).min(f64::from(self.size.width) / width as f64);
        let side = |side: usize| ((side as f64 * fit * factor) as usize).max(1);
        (side(height), side(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{problems, transformed};
    use serde_json::json;

    #[test]
    fn factors_are_of_the_size_that_fits() {
        let config: ScaleJitter = serde_json::from_value(json!({ "size": 1024 })).unwrap();
        assert_eq!(config.scaled(480, 640, 1.0), (768, 1024));
        assert_eq!(config.scaled(480, 640, 0.5), (384, 512));
        let sample = transformed("scale_jitter", json!({ "size": 24, "scale": [0.5, 1.5] }), 0);
        assert!((12..=36).contains(&sample.image().unwrap().width));
        assert_eq!(
            problems("scale_jitter", json!({ "size": 24, "scale": [2, 1] })),
            ["scale: `scale` must be `[min, max]` with both above 0"]
        );
    }
}
