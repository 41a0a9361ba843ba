//! Random crop, resized.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Size2d};
use pipe_data::geometry::{Interpolation, Window};
use pipe_data::random::{between, whole};
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Crops a random area with a random aspect ratio and resizes it: the usual training crop of classifiers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomResizedCrop {
    /// Output size: `[height, width]`, or one number for a square.
    pub size: Size2d,
    /// Minimum and maximum area of the crop, as a fraction of the image.
    #[serde(default = "scale")]
    pub scale: [f64; 2],
    /// Minimum and maximum aspect ratio (width / height) of the crop.
    #[serde(default = "ratio")]
    pub ratio: [f64; 2],
    /// Interpolation mode.
    #[serde(default)]
    pub interpolation: Interpolation,
}

fn scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn ratio() -> [f64; 2] {
    [0.75, 4.0 / 3.0]
}

impl Config for RandomResizedCrop {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_resized_crop";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_resized_crop"
size = 224
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        for (name, [low, high]) in [("scale", self.scale), ("ratio", self.ratio)] {
            if !(0.0 < low && low <= high) {
                problems.at(
                    name,
                    format!("`{name}` must be `[min, max]` with both above 0"),
                    "for example `[0.5, 1.0]`",
                );
            }
        }
    }
}

impl Component for RandomResizedCrop {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomResizedCrop);

impl Transform for RandomResizedCrop {
    fn largest(&self, extent: Extent) -> Extent {
        extent.resized([self.size.height as usize, self.size.width as usize])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let (height, width) = geometry::size(&sample)?;
        let window = self.draw(height, width, rng);
        geometry::crop(&mut sample, window, &[])?;
        geometry::resize(&mut sample, self.size.height as usize, self.size.width as usize, self.interpolation)?;
        Ok(sample)
    }
}

impl RandomResizedCrop {
    /// A crop inside the image; after ten failed attempts the largest center crop with an allowed aspect ratio, as in torchvision.
    fn draw(&self, height: usize, width: usize, rng: &mut SampleRng) -> Window {
        let area = (height * width) as f64;
        for _ in 0..10 {
            let target = area * between(rng, self.scale);
            let ratio = between(rng, self.ratio.map(f64::ln)).exp();
            let w = (target * ratio).sqrt().round_ties_even() as usize;
            let h = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let top = whole(rng, 0, (height - h) as i64);
                let left = whole(rng, 0, (width - w) as i64);
                return Window { top, left, height: h, width: w };
            }
        }
        let shape = width as f64 / height as f64;
        let [least, greatest] = self.ratio;
        let (h, w) = if shape < least {
            ((width as f64 / least).round_ties_even() as usize, width)
        } else if shape > greatest {
            (height, (height as f64 * greatest).round_ties_even() as usize)
        } else {
            (height, width)
        };
        let (h, w) = (h.clamp(1, height.max(1)), w.clamp(1, width.max(1)));
        Window { top: ((height - h) / 2) as i64, left: ((width - w) / 2) as i64, height: h, width: w }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{problems, transformed};
    use pipe_data::random::{Purpose, stream};
    use serde_json::json;

    #[test]
    fn parts_have_the_area_and_shape_asked_for() {
        let config: RandomResizedCrop = serde_json::from_value(json!({ "size": 8, "scale": [0.2, 0.4] })).unwrap();
        let mut rng = stream(0, Purpose::Sample, 0, 0);
        for _ in 0..200 {
            let window = config.draw(300, 400, &mut rng);
            let area = (window.height * window.width) as f64 / 120_000.0;
            let ratio = window.width as f64 / window.height as f64;
            assert!((0.195..0.405).contains(&area) && (0.74..1.35).contains(&ratio), "{window:?}");
            assert!(window.top >= 0 && window.top as usize + window.height <= 300);
            assert!(window.left >= 0 && window.left as usize + window.width <= 400);
        }
        let middle = config.draw(10, 4000, &mut rng);
        assert_eq!(middle, Window { top: 0, left: 1993, height: 10, width: 13 });
    }

    #[test]
    fn the_result_has_the_size_asked_for() {
        let sample = transformed("random_resized_crop", json!({ "size": [5, 7] }), 3);
        assert_eq!(geometry::size(&sample).unwrap(), (5, 7));
        assert_eq!(
            problems("random_resized_crop", json!({ "size": 5, "scale": [0.0, 1.0] })),
            ["scale: `scale` must be `[min, max]` with both above 0"]
        );
    }
}
