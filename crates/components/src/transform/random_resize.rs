//! Resizing to a random shorter side between two lengths.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::resize::by_short_side;
use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::geometry::Interpolation;
use pipe_data::random::whole;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Resizes the shorter side to a random length between two, keeping the aspect ratio (torchvision's `RandomResize`): with
/// `random_crop`, the scales of segmentation recipes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomResize {
    /// The least length of the shorter side, in pixels.
    #[schemars(range(min = 1, max = 16_384))]
    pub min_size: usize,
    /// The greatest length of the shorter side, in pixels.
    #[schemars(range(min = 1, max = 16_384))]
    pub max_size: usize,
    /// Interpolation mode.
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl Config for RandomResize {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_resize";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "compose"
steps = [
  { type = "random_resize", min_size = 260, max_size = 1040 },
  { type = "random_crop", size = 480, pad_if_needed = true },
]
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        if self.min_size > self.max_size {
            problems.at("min_size", "`min_size` is above `max_size`", "exchange them");
        }
    }
}

impl Component for RandomResize {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomResize);

impl Transform for RandomResize {
    fn largest(&self, extent: Extent) -> Extent {
        let (height, width) = by_short_side((extent.height, extent.width), self.max_size, None);
        extent.resized([height, width])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let short = whole(rng, self.min_size as i64, self.max_size as i64) as usize;
        let (height, width) = by_short_side(geometry::size(&sample)?, short, None);
        geometry::resize(&mut sample, height, width, self.interpolation)?;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::transform::testing::{problems, transformed};

    #[test]
    fn all_lengths_are_drawn() {
        let heights: std::collections::BTreeSet<usize> = (0..40)
            .map(|i| transformed("random_resize", json!({ "min_size": 5, "max_size": 8 }), i))
            .map(|sample| sample.image().unwrap().height)
            .collect();
        assert_eq!(heights.into_iter().collect::<Vec<_>>(), [5, 6, 7, 8]);
        assert_eq!(
            problems("random_resize", json!({ "min_size": 9, "max_size": 8 })),
            ["min_size: `min_size` is above `max_size`"]
        );
    }
}
