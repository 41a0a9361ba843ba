//! Center crop.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Size2d};
use pipe_data::geometry::Window;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Crops the image at its center; smaller images are padded.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CenterCrop {
    /// Height and width: `[height, width]`, or one number for a square.
    pub size: Size2d,
    /// Fill value of the padding: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

impl Config for CenterCrop {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "center_crop";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "center_crop"
size = 224
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for CenterCrop {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(CenterCrop);

impl Transform for CenterCrop {
    fn largest(&self, extent: Extent) -> Extent {
        extent.resized([self.size.height as usize, self.size.width as usize])
    }

    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        let (old_height, old_width) = geometry::size(&sample)?;
        let (height, width) = (self.size.height as usize, self.size.width as usize);
        let window = Window { top: offset(old_height, height), left: offset(old_width, width), height, width };
        geometry::crop(&mut sample, window, &self.fill)?;
        Ok(sample)
    }
}

/// Where the center crop begins; halves are rounded as in torchvision: to even when cropping, down when padding.
fn offset(old: usize, new: usize) -> i64 {
    if old >= new { ((old - new) as f64 / 2.0).round_ties_even() as i64 } else { -(((new - old) / 2) as i64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{assert_consistent, boxes, transformed};
    use pipe_data::{Field, Pixels};
    use serde_json::json;

    #[test]
    fn the_middle_stays_and_what_is_outside_goes() {
        let sample = transformed("center_crop", json!({ "size": [2, 6] }), 0);
        assert_eq!(boxes(&sample), [[3.0, 1.0, 6.0, 2.0]]);
        assert_consistent(&sample);
        assert_eq!(sample.get(fields::LABELS), Some(&Field::Integers(vec![2])));
    }

    #[test]
    fn small_pictures_are_padded() {
        let sample = transformed("center_crop", json!({ "size": [9, 8], "fill": [9.0] }), 0);
        assert_consistent(&sample);
        assert_eq!(boxes(&sample)[0], [0.0, 1.0, 3.0, 3.0]);
        let Pixels::U8(bytes) = &sample.image().unwrap().pixels else { panic!("floats") };
        assert_eq!(bytes[..4], [9; 4]);
        assert_eq!([offset(7, 4), offset(9, 4), offset(4, 7)], [2, 2, -1]);
    }
}
