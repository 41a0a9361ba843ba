//! TrivialAugment.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::augment::Operation;
use pipe_data::geometry::Interpolation;
use pipe_data::random::{chance, whole};
use pipe_data::{Sample, SampleRng, fields};

/// Applies one operation of random strength to each image (Müller and Hutter 2021; torchvision's `TrivialAugmentWide`): a shear,
/// translation or rotation, or a change of brightness, color, contrast, sharpness or of the values' range.
///
/// Boxes, masks and keypoints follow, which torchvision's does not let them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrivialAugmentWide {
    /// Number of different strengths.
    #[schemars(range(min = 2, max = 1000))]
    #[serde(default = "bins")]
    pub num_magnitude_bins: usize,
    /// Interpolation mode: `nearest` or `bilinear`.
    #[serde(default = "nearest")]
    pub interpolation: Interpolation,
    /// Fill value outside the image: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

fn bins() -> usize {
    31
}

fn nearest() -> Interpolation {
    Interpolation::Nearest
}

impl Config for TrivialAugmentWide {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "trivial_augment_wide";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "trivial_augment_wide"
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        if self.interpolation == Interpolation::Bicubic {
            problems.at("interpolation", "only nearest and bilinear are supported here", "use `bilinear`");
        }
    }
}

impl Component for TrivialAugmentWide {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(TrivialAugmentWide);

impl Transform for TrivialAugmentWide {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let operation = Operation::ALL[whole(rng, 0, Operation::ALL.len() as i64 - 1) as usize];
        let bins = self.num_magnitude_bins;
        let magnitude = match operation.magnitude(whole(rng, 0, bins as i64 - 1) as usize, bins) {
            Some(magnitude) if operation.is_signed() && chance(rng, 0.5) => -magnitude,
            magnitude => magnitude.unwrap_or(0.0),
        };
        operation.apply(&mut sample, magnitude, self.interpolation, &self.fill)?;
        Ok(sample)
    }
}
