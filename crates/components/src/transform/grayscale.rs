//! Conversion to grayscale.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::{Sample, SampleRng, color, fields};

/// Converts the image to grayscale.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grayscale {
    /// Number of output channels: 1, or 3 identical ones.
    #[schemars(range(min = 1, max = 3))]
    #[serde(default = "one")]
    pub channels: usize,
}

fn one() -> usize {
    1
}

impl Config for Grayscale {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "grayscale";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "grayscale"
channels = 3
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for Grayscale {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(Grayscale);

impl Transform for Grayscale {
    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        color::grayscale(sample.image_mut()?, self.channels);
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
    fn channels_are_weighted() {
        let red = Image::from_u8(1, 2, 3, vec![200, 0, 0, 10, 20, 30]);
        let given = Sample::new().with(fields::IMAGE, Field::Image(red));
        let gray = apply("grayscale", json!({}), given.clone(), 0);
        assert_eq!(gray.image().unwrap(), &Image::from_u8(1, 2, 1, vec![59, 18]));
        let gray = apply("grayscale", json!({ "channels": 3 }), given, 0);
        assert_eq!(gray.image().unwrap(), &Image::from_u8(1, 2, 3, vec![59, 59, 59, 18, 18, 18]));
    }
}
