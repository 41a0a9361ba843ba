//! Random horizontal flip.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_core::Transform;
use pipe_core::facts::Facts;
use pipe_core::{BuildContext, Component, Config, Contract, Instance, Kind};
use pipe_data::random::chance;
use pipe_data::{Field, Sample, SampleRng, fields, geometry};

/// Flips the image horizontally with probability `p`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomHorizontalFlip {
    /// Probability of applying it.
    #[schemars(range(min = 0, max = 1))]
    #[serde(default = "half")]
    pub p: f64,
    /// Pairs of keypoints that are swapped by a flip, such as the left and the right eye: `[[1, 2], [3, 4]]`.
    #[serde(default)]
    pub keypoint_pairs: Vec<[usize; 2]>,
}

fn half() -> f64 {
    0.5
}

impl Config for RandomHorizontalFlip {
    const KIND: Kind = Kind::Transform;
    const TYPE: &'static str = "random_horizontal_flip";
    const EXAMPLE: &'static str = r#"
[transform.train]
type = "random_horizontal_flip"
p = 0.5
"#;

    fn facts(&self) -> Facts {
        let (random, mirrors) = (self.p > 0.0 && self.p < 1.0, self.p > 0.0);
        Facts { random, mirrors, swaps: self.keypoint_pairs.clone(), ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomHorizontalFlip {
    fn build(self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        Ok(Instance::transform(self))
    }
}

pipe_core::register!(RandomHorizontalFlip);

impl Transform for RandomHorizontalFlip {
    fn apply(&self, mut sample: Sample, rng: &mut SampleRng) -> Result<Sample> {
        if chance(rng, self.p) {
            geometry::flip_horizontal(&mut sample)?;
            if let Some(Field::Keypoints(instances)) = sample.get_mut(fields::KEYPOINTS) {
                for points in instances {
                    let count = points.len();
                    for &[a, b] in self.keypoint_pairs.iter().filter(|[a, b]| *a.max(b) < count) {
                        points.swap(a, b);
                    }
                }
            }
        }
        Ok(sample)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::testing::{apply, assert_consistent, boxes, sample, transformed};
    use serde_json::json;

    #[test]
    fn everything_is_turned() {
        let flipped = transformed("random_horizontal_flip", json!({ "p": 1.0 }), 0);
        assert_consistent(&flipped);
        assert_eq!(boxes(&flipped), [[5.0, 0.0, 8.0, 2.0], [0.0, 3.0, 4.0, 6.0]]);
        let twice = apply("random_horizontal_flip", json!({ "p": 1.0 }), flipped, 0);
        assert_eq!(twice, sample());
    }

    #[test]
    fn it_happens_as_often_as_asked() {
        let count =
            (0..200).filter(|&i| transformed("random_horizontal_flip", json!({ "p": 0.3 }), i) != sample()).count();
        assert!((35..90).contains(&count), "{count} of 200");
    }

    #[test]
    fn pairs_of_keypoints_change_places() {
        let points = vec![vec![[1.0, 1.0, 2.0], [3.0, 1.0, 1.0], [0.0, 0.0, 0.0]]];
        let given = sample().with(fields::KEYPOINTS, Field::Keypoints(points));
        let flipped = apply("random_horizontal_flip", json!({ "p": 1.0, "keypoint_pairs": [[0, 1]] }), given, 0);
        let expected = vec![vec![[5.0, 1.0, 1.0], [7.0, 1.0, 2.0], [0.0, 0.0, 0.0]]];
        assert_eq!(flipped.get(fields::KEYPOINTS), Some(&Field::Keypoints(expected)));
    }
}
