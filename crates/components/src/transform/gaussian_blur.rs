//! Gaussian blur.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems, Size2d};
use pipe_data::random::between;
use pipe_data::{Sample, SampleRng, fields, filter};

/// Blurs the image with a Gaussian of random standard deviation (torchvision's `GaussianBlur`). For a probability, put it into
/// `random_apply`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GaussianBlur {
    /// Height and width of the kernel in pixels, both odd: `[height, width]`, or one number for both.
    pub kernel_size: Size2d,
    /// Minimum and maximum standard deviation in pixels.
    #[serde(default = "sigma")]
    pub sigma: [f64; 2],
}

fn sigma() -> [f64; 2] {
    [0.1, 2.0]
}

impl Config for GaussianBlur {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "gaussian_blur";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "gaussian_blur"
kernel_size = 5
sigma = [0.1, 2.0]
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.sigma[0] < self.sigma[1], ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        let [low, high] = self.sigma;
        if !(0.0 < low && low <= high) {
            problems.at("sigma", "`sigma` must be `[min, max]` with both above 0", "for example `[0.1, 2.0]`");
        }
        if [self.kernel_size.height, self.kernel_size.width].iter().any(|side| side % 2 == 0) {
            problems.at("kernel_size", "the sides of a kernel must be odd, so that it has a middle", "for example 5");
        }
    }
}

impl Component for GaussianBlur {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(GaussianBlur);

impl Transform for GaussianBlur {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let kernel = [self.kernel_size.width as usize, self.kernel_size.height as usize];
        filter::gaussian_blur(sample.image_mut()?, kernel, between(rng, self.sigma))?;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{build, problems, sample, transformed};
    use pipe_data::random::{Purpose, stream};
    use serde_json::json;

    #[test]
    fn only_pictures_change_and_too_large_kernels_are_refused() {
        let blurred = transformed("gaussian_blur", json!({ "kernel_size": [3, 5], "sigma": [1, 1] }), 0);
        assert_ne!(blurred.image().unwrap(), sample().image().unwrap());
        assert_eq!(blurred.with(fields::IMAGE, sample().get(fields::IMAGE).unwrap().clone()), sample());
        let large = build("gaussian_blur", json!({ "kernel_size": [3, 17] }));
        let error = large.apply(sample(), &mut stream(0, Purpose::Sample, 0, 0)).unwrap_err().to_string();
        assert!(error.contains("17 × 3 pixels is too large for an image of 8 × 6"), "{error}");
        let found = problems("gaussian_blur", json!({ "kernel_size": 4, "sigma": [0, 1] }));
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
