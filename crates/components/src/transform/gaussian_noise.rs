//! Additive Gaussian noise.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::image::Pixels;
use pipe_data::random::{chance, normal};
use pipe_data::{Sample, SampleRng, fields};

/// Adds Gaussian noise to every pixel value, with probability `p`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianNoise {
    /// Mean of the noise, for pixel values in 0..1.
    #[serde(default)]
    pub mean: f64,
    /// Standard deviation of the noise, for pixel values in 0..1.
    #[schemars(range(min = 0))]
    #[serde(default = "tenth")]
    pub sigma: f64,
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "always")]
    pub p: f64,
}

fn tenth() -> f64 {
    0.1
}

fn always() -> f64 {
    1.0
}

impl Config for GaussianNoise {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "gaussian_noise";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "gaussian_noise"
sigma = 0.05
p = 0.5
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for GaussianNoise {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(GaussianNoise);

impl Transform for GaussianNoise {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if !chance(rng, self.p) {
            return Ok(sample);
        }
        let mut noise = || (self.mean + self.sigma * normal(rng)) as f32;
        match &mut sample.image_mut()?.pixels {
            Pixels::U8(bytes) => {
                bytes.iter_mut().for_each(|v| *v = (f32::from(*v) + 255.0 * noise()).round().clamp(0.0, 255.0) as u8);
            }
            Pixels::F32(values) => values.iter_mut().for_each(|v| *v = (*v + noise()).clamp(0.0, 1.0)),
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::apply;
    use pipe_data::{Field, Image};
    use serde_json::json;

    #[test]
    fn noise_has_the_strength_asked_for() {
        let gray = Image::from_f32(40, 40, 3, vec![0.5; 4800]);
        let given = Sample::new().with(fields::IMAGE, Field::Image(gray));
        let noisy = apply("gaussian_noise", json!({ "sigma": 0.05, "mean": 0.1 }), given.clone(), 0);
        let values = noisy.image().unwrap().to_f32();
        let mean = values.iter().sum::<f32>() / 4800.0;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 4800.0).sqrt();
        assert!((mean - 0.6).abs() < 0.005 && (deviation - 0.05).abs() < 0.003, "{mean} {deviation}");
        assert_eq!(apply("gaussian_noise", json!({ "p": 0.0 }), given.clone(), 0), given);
    }
}
