//! Random crop of a fixed size, with padding.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use rand::Rng;

use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Size2d};
use pipe_data::geometry::Window;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Randomly crops to a fixed size; smaller images are padded at the right and the bottom.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FixedSizeCrop {
    /// Height and width: `[height, width]`, or one number for a square.
    pub size: Size2d,
    /// Fill value of the padding: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

impl Config for FixedSizeCrop {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "fixed_size_crop";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "fixed_size_crop"
size = 1024
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for FixedSizeCrop {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(FixedSizeCrop);

impl Transform for FixedSizeCrop {
    fn largest(&self, extent: Extent) -> Extent {
        extent.resized([self.size.height as usize, self.size.width as usize])
    }

    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        let (old_height, old_width) = geometry::size(&sample)?;
        // A single random number places the window along the diagonal, as in torchvision.
        let place: f64 = rng.random();
        let offset = |old: usize, new: u32| (old.saturating_sub(new as usize) as f64 * place) as i64;
        let window = Window {
            top: offset(old_height, self.size.height),
            left: offset(old_width, self.size.width),
            height: self.size.height as usize,
            width: self.size.width as usize,
        };
        geometry::crop(&mut sample, window, &self.fill)?;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{assert_consistent, sample, transformed};
    use serde_json::json;

    #[test]
    fn sizes_are_fixed_and_fields_follow() {
        for (i, size) in [[4, 5], [6, 8], [9, 4], [10, 10]].into_iter().enumerate() {
            let sample = transformed("fixed_size_crop", json!({ "size": size, "fill": [1, 2, 3] }), i as u64);
            assert_eq!(geometry::size(&sample).unwrap(), (size[0], size[1]));
            assert_consistent(&sample);
        }
        assert_eq!(transformed("fixed_size_crop", json!({ "size": [6, 8] }), 0), sample());
    }
}
