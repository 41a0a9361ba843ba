//! Random erasing.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::geometry::crop::Window;
use pipe_data::image::{Image, Pixels};
use pipe_data::random::{between, chance, whole};
use pipe_data::{Sample, SampleRng, fields};

/// Erases a random rectangle of the image, with probability `p`. Boxes and masks are unchanged.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomErasing {
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "half")]
    pub p: f64,
    /// Minimum and maximum area of the rectangle, as a fraction of the image.
    #[serde(default = "scale")]
    pub scale: [f64; 2],
    /// Minimum and maximum aspect ratio (height / width) of the rectangle.
    #[serde(default = "ratio")]
    pub ratio: [f64; 2],
    /// Fill value: one for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub value: Vec<f32>,
}

fn scale() -> [f64; 2] {
    [0.02, 0.33]
}

fn ratio() -> [f64; 2] {
    [0.3, 3.3]
}

fn half() -> f64 {
    0.5
}

impl Config for RandomErasing {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_erasing";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_erasing"
p = 0.25
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomErasing {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomErasing);

impl Transform for RandomErasing {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if chance(rng, self.p) {
            let image = sample.image_mut()?;
            if let Some(window) = self.draw(image.height, image.width, rng) {
                self.erase(image, window);
            }
        }
        Ok(sample)
    }
}

impl RandomErasing {
    /// A rectangle smaller than the image; none after ten attempts that were too large, as in torchvision.
    fn draw(&self, height: usize, width: usize, rng: &mut SampleRng) -> Option<Window> {
        (0..10).find_map(|_| {
            let area = (height * width) as f64 * between(rng, self.scale);
            let ratio = between(rng, self.ratio.map(f64::ln)).exp();
            let h = (area * ratio).sqrt().round_ties_even() as usize;
            let w = (area / ratio).sqrt().round_ties_even() as usize;
            (h < height && w < width).then(|| {
                let top = whole(rng, 0, (height - h) as i64);
                let left = whole(rng, 0, (width - w) as i64);
                Window { top, left, height: h, width: w }
            })
        })
    }

    fn erase(&self, image: &mut Image, window: Window) {
        let (width, channels) = (image.width, image.channels);
        let last = self.value.last().copied().unwrap_or(0.0);
        for y in window.top as usize..window.top as usize + window.height {
            let start = (y * width + window.left as usize) * channels;
            for i in start..start + window.width * channels {
                let value = self.value.get(i % channels).copied().unwrap_or(last);
                match &mut image.pixels {
                    Pixels::U8(bytes) => bytes[i] = value.round().clamp(0.0, 255.0) as u8,
                    Pixels::F32(values) => values[i] = value,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::apply;
    use pipe_data::Field;
    use serde_json::json;

    #[test]
    fn one_rectangle_is_filled() {
        let gray = Image::from_u8(40, 50, 3, vec![7; 6000]);
        let given = Sample::new().with(fields::IMAGE, Field::Image(gray));
        for i in 0..20 {
            let erased = apply(
                "random_erasing",
                json!({ "p": 1.0, "scale": [0.1, 0.2], "value": [1.0, 2.0, 3.0] }),
                given.clone(),
                i,
            );
            let Pixels::U8(bytes) = &erased.image().unwrap().pixels else { panic!() };
            let filled = bytes.chunks(3).filter(|pixel| *pixel == [1, 2, 3]).count();
            let untouched = bytes.chunks(3).filter(|pixel| *pixel == [7, 7, 7]).count();
            assert_eq!(filled + untouched, 2000);
            assert!((180..420).contains(&filled), "{filled}");
        }
        assert_eq!(apply("random_erasing", json!({ "p": 0.0 }), given.clone(), 0), given);
    }
}
