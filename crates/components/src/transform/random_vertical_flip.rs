//! Random vertical flip.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::random::chance;
use pipe_data::{Sample, SampleRng, fields, geometry};

/// Flips the image vertically with probability `p`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomVerticalFlip {
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "half")]
    pub p: f64,
}

fn half() -> f64 {
    0.5
}

impl Config for RandomVerticalFlip {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_vertical_flip";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_vertical_flip"
p = 0.5
"#;

    fn facts(&self) -> Facts {
        Facts { random: self.p > 0.0 && self.p < 1.0, mirrors: self.p > 0.0, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomVerticalFlip {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomVerticalFlip);

impl Transform for RandomVerticalFlip {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if chance(rng, self.p) {
            geometry::flip_vertical(&mut sample)?;
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::testing::{apply, assert_consistent, boxes, sample, transformed};
    use serde_json::json;

    #[test]
    fn everything_is_turned() {
        let flipped = transformed("random_vertical_flip", json!({ "p": 1.0 }), 0);
        assert_consistent(&flipped);
        assert_eq!(boxes(&flipped), [[0.0, 4.0, 3.0, 6.0], [4.0, 0.0, 8.0, 3.0]]);
        let twice = apply("random_vertical_flip", json!({ "p": 1.0 }), flipped, 0);
        assert_eq!(twice, sample());
    }

    #[test]
    fn it_happens_as_often_as_asked() {
        let count =
            (0..200).filter(|&i| transformed("random_vertical_flip", json!({ "p": 0.3 }), i) != sample()).count();
        assert!((35..90).contains(&count), "{count} of 200");
    }
}
