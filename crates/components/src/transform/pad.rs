//! Padding.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind, Problems};
use pipe_data::geometry::Window;
use pipe_data::{Extent, Sample, SampleRng, fields, geometry};

/// Pads the image on its sides with a constant (torchvision's `Pad`).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// Pixels: `[left, top, right, bottom]`, `[left and right, top and bottom]`, or one number in brackets for all sides.
    #[schemars(inner(range(max = 16_384)))]
    pub padding: Vec<usize>,
    /// Fill value of the padding: one value for all channels, or one per channel, as bytes 0..255 (0..1 after `to_float`).
    #[serde(default)]
    pub fill: Vec<f32>,
}

impl Pad {
    /// Left, top, right, bottom.
    fn sides(&self) -> [usize; 4] {
        match self.padding[..] {
            [all] => [all; 4],
            [x, y] => [x, y, x, y],
            [left, top, right, bottom] => [left, top, right, bottom],
            _ => [0; 4],
        }
    }
}

impl Config for Pad {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "pad";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "pad"
padding = [4]
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }

    fn check(&self, problems: &mut Problems) {
        if ![1, 2, 4].contains(&self.padding.len()) {
            let message = format!("`padding` has {} numbers", self.padding.len());
            problems.at("padding", message, "give 1, 2 or 4: `[all]`, `[x, y]` or `[left, top, right, bottom]`");
        }
    }
}

impl Component for Pad {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(Pad);

impl Transform for Pad {
    fn largest(&self, extent: Extent) -> Extent {
        let [left, top, right, bottom] = self.sides();
        extent.resized([extent.height + top + bottom, extent.width + left + right])
    }

    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        let (height, width) = geometry::size(&sample)?;
        let [left, top, right, bottom] = self.sides();
        let (height, width) = (height + top + bottom, width + left + right);
        let window = Window { top: -(top as i64), left: -(left as i64), height, width };
        geometry::crop(&mut sample, window, &self.fill)?;
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::{assert_consistent, boxes, problems, transformed};
    use serde_json::json;

    #[test]
    fn everything_moves_with_the_image() {
        for (padding, size, first) in [
            (json!([2]), (10, 12), [2.0, 2.0, 5.0, 4.0]),
            (json!([1, 3]), (12, 10), [1.0, 3.0, 4.0, 5.0]),
            (json!([1, 2, 3, 4]), (12, 12), [1.0, 2.0, 4.0, 4.0]),
        ] {
            let padded = transformed("pad", json!({ "padding": padding, "fill": [7] }), 0);
            assert_consistent(&padded);
            assert_eq!((padded.image().unwrap().height, padded.image().unwrap().width), size);
            assert_eq!(boxes(&padded)[0], first);
        }
        assert_eq!(problems("pad", json!({ "padding": [1, 2, 3] })), ["padding: `padding` has 3 numbers"]);
    }
}
