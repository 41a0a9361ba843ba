//! Resizing to a random shorter side.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use rand::seq::IndexedRandom;

use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::geometry::Interpolation;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Resizes the shorter side to one of `sizes`, chosen at random (multi-scale training).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomShortSide {
    /// Lengths of the shorter side to choose from, in pixels.
    #[schemars(length(min = 1), inner(range(min = 1, max = 16_384)))]
    pub sizes: Vec<usize>,
    /// Maximum length of the longer side, in pixels.
    #[schemars(range(min = 1, max = 16_384))]
    #[serde(default)]
    pub max_size: Option<usize>,
    /// Interpolation mode.
    #[serde(default)]
    pub interpolation: Interpolation,
}

impl Config for RandomShortSide {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_short_side";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_short_side"
sizes = [480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800]
max_size = 1333
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, resizes: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomShortSide {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomShortSide);

impl Transform for RandomShortSide {
    fn largest(&self, extent: Extent) -> Extent {
        let Some(short) = self.sizes.iter().max() else { return extent };
        let (height, width) = scaled((extent.height, extent.width), *short, self.max_size);
        extent.resized([height, width])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let (height, width) = geometry::size(&sample)?;
        let Some(&short) = self.sizes.choose(rng) else { return Ok(sample) };
        let (height, width) = scaled((height, width), short, self.max_size);
        geometry::resize(&mut sample, height, width, self.interpolation)?;
        Ok(sample)
    }
}

/// Height and width, rounded down, as in torchvision's `RandomShortestSize`.
fn scaled((height, width): (usize, usize), short: usize, max: Option<usize>) -> (usize, usize) {
    let ratio = short as f64 / height.min(width).max(1) as f64;
    let ratio = max.map_or(ratio, |max| ratio.min(max as f64 / height.max(width).max(1) as f64));
    let side = |side: usize| ((side as f64 * ratio) as usize).max(1);
    (side(height), side(width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::transformed;
    use serde_json::json;

    /// Sizes of torchvision 0.26's `RandomShortestSize`.
    #[test]
    fn sides_are_those_of_torchvision() {
        assert_eq!(scaled((480, 640), 800, Some(1333)), (800, 1066));
        assert_eq!(scaled((333, 999), 800, Some(1333)), (444, 1333));
        assert_eq!(scaled((427, 640), 672, None), (672, 1007));
    }

    #[test]
    fn all_sizes_are_drawn() {
        let heights: std::collections::BTreeSet<usize> = (0..30)
            .map(|i| transformed("random_short_side", json!({ "sizes": [3, 12, 18] }), i))
            .map(|sample| sample.image().unwrap().height)
            .collect();
        assert_eq!(heights.into_iter().collect::<Vec<_>>(), [3, 12, 18]);
    }
}
