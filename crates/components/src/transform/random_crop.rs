//! Random crop.

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Size2d};
use pipe_data::geometry::Window;
use pipe_data::random::whole;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Crops a window of fixed size at a random location, after optional padding.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomCrop {
    /// Height and width: `[height, width]`, or one number for a square.
    pub size: Size2d,
    /// Padding on every side before cropping, in pixels.
    #[schemars(range(max = 16_384))]
    #[serde(default)]
    pub padding: usize,
    /// Whether to pad images smaller than the window; otherwise they are an error.
    #[serde(default)]
    pub pad_if_needed: bool,
    /// Fill value of the padding: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

impl Config for RandomCrop {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_crop";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_crop"
size = 32
padding = 4
"#;

    fn facts(&self) -> Facts {
        Facts { random: true, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomCrop {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomCrop);

impl Transform for RandomCrop {
    fn largest(&self, extent: Extent) -> Extent {
        extent.resized([self.size.height as usize, self.size.width as usize])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let (old_height, old_width) = geometry::size(&sample)?;
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let fits = old_height + 2 * self.padding >= height && old_width + 2 * self.padding >= width;
        ensure!(
            fits || self.pad_if_needed,
            "a crop of {height} × {width} does not fit into an image of {old_height} × {old_width}; set `pad_if_needed = true`"
        );
        let top = self.offset(old_height, height, rng);
        let left = self.offset(old_width, width, rng);
        geometry::crop(&mut sample, Window { top, left, height, width }, &self.fill)?;
        Ok(sample)
    }
}

impl RandomCrop {
    /// Where the crop begins. A side that is too short is padded on both ends by the missing length.
    fn offset(&self, old: usize, new: usize, rng: &mut SampleRng) -> i64 {
        let padding = self.padding + new.saturating_sub(old + 2 * self.padding);
        whole(rng, -(padding as i64), (old + padding) as i64 - new as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{assert_consistent, boxes, build, sample, transformed};
    use serde_json::json;

    #[test]
    fn windows_are_everywhere_and_fields_follow() {
        let mut seen = std::collections::BTreeSet::new();
        for i in 0..60 {
            let sample = transformed("random_crop", json!({ "size": [6, 8], "padding": 1 }), i);
            assert_consistent(&sample);
            assert_eq!(geometry::size(&sample).unwrap(), (6, 8));
            seen.insert(format!("{:?}", boxes(&sample)));
        }
        assert_eq!(seen.len(), 9, "{seen:?}");
    }

    #[test]
    fn a_window_that_does_not_fit_is_an_error_or_padded() {
        let transform = build("random_crop", json!({ "size": [6, 9] }));
        let mut rng = pipe_data::random::stream(0, pipe_data::random::Purpose::Sample, 0, 0);
        assert!(transform.apply(sample(), &mut rng).unwrap_err().to_string().contains("pad_if_needed"));
        assert_consistent(&transformed("random_crop", json!({ "size": [6, 9], "pad_if_needed": true }), 0));
    }
}
