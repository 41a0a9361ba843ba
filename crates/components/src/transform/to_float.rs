//! Conversion of bytes to floats.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::image::Pixels;
use pipe_data::{Sample, SampleRng, fields};

/// Converts pixels to floats in 0..1: bytes are divided by 255, floats are unchanged.
///
/// Rarely needed: models convert on their own device, and bytes are faster to transfer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ToFloat {}

impl Config for ToFloat {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "to_float";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "to_float"
"#;

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for ToFloat {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(ToFloat);

impl Transform for ToFloat {
    fn apply(&self, mut sample: Sample, _rng: &mut SampleRng) -> Result<Sample> {
        let image = sample.image_mut()?;
        image.pixels = Pixels::F32(image.to_f32());
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::transformed;
    use serde_json::json;

    #[test]
    fn bytes_become_fractions() {
        let sample = transformed("to_float", json!({}), 0);
        let Pixels::F32(values) = &sample.image().unwrap().pixels else { panic!("bytes") };
        assert_eq!(values[..3], [0.0, 5.0 / 255.0, 10.0 / 255.0]);
    }
}
