//! Random horizontal flip.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use pipe_coco::index::mirror_pairs;
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
    /// Names of the keypoints, usually `"dataset.NAME:keypoint_names"`: pairs that differ in `left` and `right` alone are swapped by a
    /// flip.
    #[serde(default)]
    pub keypoint_names: Vec<String>,
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
        let (swaps, swaps_by_name) = (self.keypoint_pairs.clone(), !self.keypoint_names.is_empty());
        Facts { random, mirrors, swaps, swaps_by_name, ..Facts::default() }
    }

    fn contract(&self) -> Contract {
        Contract::default().needs([fields::IMAGE])
    }
}

impl Component for RandomHorizontalFlip {
    fn build(mut self, _ctx: &mut BuildContext<'_>) -> Result<Instance> {
        let given = std::mem::take(&mut self.keypoint_pairs);
        let other = |[a, b]: &[usize; 2]| !given.contains(&[*a, *b]) && !given.contains(&[*b, *a]);
        let named: Vec<[usize; 2]> = mirror_pairs(&self.keypoint_names).into_iter().filter(other).collect();
        self.keypoint_pairs = [given, named].concat();
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
        let flipped =
            apply("random_horizontal_flip", json!({ "p": 1.0, "keypoint_pairs": [[0, 1]] }), given.clone(), 0);
        let expected = vec![vec![[5.0, 1.0, 1.0], [7.0, 1.0, 2.0], [0.0, 0.0, 0.0]]];
        assert_eq!(flipped.get(fields::KEYPOINTS), Some(&Field::Keypoints(expected.clone())));
        let names = json!(["left_eye", "right_eye", "nose"]);
        for named in [
            json!({ "p": 1, "keypoint_names": names }),
            json!({ "p": 1, "keypoint_names": names, "keypoint_pairs": [[1, 0]] }),
        ] {
            let flipped = apply("random_horizontal_flip", named, given.clone(), 0);
            assert_eq!(flipped.get(fields::KEYPOINTS), Some(&Field::Keypoints(expected.clone())));
        }
    }
}
